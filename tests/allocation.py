"""Bounds on the memory that a block of a test takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def allocates_at_most(max_bytes: int) -> Iterator[None]:
    """Fails where Python and numpy take more at any moment of the block."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes <= max_bytes, f"{peak_bytes} bytes were taken, the limit is {max_bytes}"
