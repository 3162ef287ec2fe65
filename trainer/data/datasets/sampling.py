"""Which scenes an epoch takes from several data sets: exact shares, exact length, the same for a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from xscene.errors import InvalidInput


class Draw(NamedTuple):
    """One place of an epoch: it decides all that is random about its sample."""

    epoch: int
    position: int
    source: int
    """Row of the data set."""
    row: int
    """Row of the scene in it."""


@dataclass(frozen=True)
class Mixture:
    """Sizes of data sets and the weights that they are drawn with."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.sizes):
            raise InvalidInput.at("weights", f"{len(self.weights)} given, needs {len(self.sizes)}")
        for at, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            if not (math.isfinite(weight) and weight >= 0):
                raise InvalidInput.at(f"weights[{at}]", f"{weight}, needs a finite number of at least 0")
            if weight and not size:
                raise InvalidInput.at(f"weights[{at}]", f"{weight}, but the data set has no scenes")
        if not sum(self.weights) > 0:
            raise InvalidInput.at("weights", "are all 0, needs one above")

    def shares(self, length: int) -> list[int]:
        """How many samples of each data set an epoch has: as near to the weights as whole numbers are."""
        wanted = np.array(self.weights) / sum(self.weights) * length
        counts = np.floor(wanted).astype(int)
        # Largest remainders first, ties to the data set named first.
        for at in np.argsort(-(wanted - counts), kind="stable")[: length - int(counts.sum())]:
            counts[at] += 1
        return [int(count) for count in counts]


class MixtureSampler(Sampler[Draw]):
    """Draws of one epoch; `set_epoch` is called before each, in the process that iterates."""

    def __init__(self, mixture: Mixture, *, length: int | None = None, seed: int = 0) -> None:
        if length is not None and length < 1:
            raise InvalidInput.at("length", f"{length}, needs at least 1")
        self._mixture = mixture
        self._length = sum(mixture.sizes) if length is None else length
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take other scenes, in another order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self._seed, self._epoch))
        pairs = [
            (source, int(row))
            for source, count in enumerate(self._mixture.shares(self._length))
            for row in _rows(self._mixture.sizes[source], count, generator)
        ]
        for position, at in enumerate(generator.permutation(len(pairs)).tolist()):
            yield Draw(self._epoch, position, *pairs[at])


def _rows(size: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rows of one data set: all of them once before any of them again."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    rounds = [generator.permutation(size) for _ in range(-(-count // size))]
    return np.concatenate(rounds)[:count]


def in_order(sizes: Sequence[int]) -> list[Draw]:
    """Every scene once, in order, as validation takes them."""
    pairs = [(source, row) for source, size in enumerate(sizes) for row in range(size)]
    return [Draw(0, position, *pair) for position, pair in enumerate(pairs)]
