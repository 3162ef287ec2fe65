"""Random streams that a name fixes: what one part draws changes no other part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Stream = np.random.Generator


def stream(*name: str | int) -> Stream:
    """The random stream of this name; the same name gives the same numbers."""
    digest = hashlib.sha256("\0".join(str(part) for part in name).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))


def pick(rng: Stream, items: Sequence[T]) -> T:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


def chance(rng: Stream, share: float) -> bool:
    """True in this share of all draws."""
    return bool(rng.random() < share)


def shuffled(rng: Stream, items: Sequence[T]) -> list[T]:
    """The items in random order."""
    return [items[at] for at in rng.permutation(len(items))]
