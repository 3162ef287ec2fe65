"""How much memory this process has taken at the most; Linux keeps count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RESET_PEAK = "5"


@contextmanager
def growth_below(max_bytes: int) -> Iterator[None]:
    """Fail where memory grew by more than this at any moment."""
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = psutil.Process().memory_info().rss
    yield
    (peak_kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    grown = int(peak_kib) * 1024 - before
    assert grown < max_bytes, f"grew by {grown >> 20} MiB"
