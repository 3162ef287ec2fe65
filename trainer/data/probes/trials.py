"""Recall of a ranking with what chance gives and an interval: the measure of every probe.

Shapes: Q queries, G gallery.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats

Mask = NDArray[np.bool_]
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are made: by drawing whole clusters of queries with replacement."""

    num_draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_draws < 1:
            raise InvalidInput.at("num_draws", f"{self.num_draws}, needs at least 1")


@dataclass(frozen=True)
class Share:
    """A share of the queries, its interval of 95%, and what a random ranking gives."""

    value: float
    low: float
    high: float
    chance: float

    @property
    def is_above_chance(self) -> bool:
        """Whether all of the interval is."""
        return self.low > self.chance


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How often the right answer came first, and among the first five."""

    num_queries: int
    gallery: int
    """Largest number that a query chose from."""
    first: Share
    five: Share


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Queries that rank a gallery: scores (Q,G), what is right (Q,G), and what may be chosen (Q,G)."""

    scores: Floats
    right: Mask
    allowed: Mask
    clusters: Sequence[Hashable]
    """Of each query (Q,): what belongs together is drawn together."""

    def outcome(self, bootstrap: Bootstrap) -> Outcome:
        """Recall over the queries that have a right answer; there must be one."""
        found = [row for row in range(len(self.scores)) if (self.right[row] & self.allowed[row]).any()]
        if not found:
            raise InvalidInput.at("trial", "no query has a right answer in the gallery")
        clusters = [self.clusters[row] for row in found]
        shares = []
        for k in (1, 5):
            recalls, chances = [], []
            for row in found:
                scores, right = self.scores[row][self.allowed[row]], self.right[row][self.allowed[row]]
                recalls.append(recall(scores, right, k))
                chances.append(recall(np.zeros(len(scores)), right, k))
            low, high = interval(recalls, clusters, bootstrap)
            shares.append(Share(float(np.mean(recalls)), low, high, float(np.mean(chances))))
        gallery = int(self.allowed[found].sum(axis=1).max())
        return Outcome(num_queries=len(found), gallery=gallery, first=shares[0], five=shares[1])


def recall(scores: Floats, right: Mask, k: int) -> float:
    """Probability that one of the right ones (G,) is among the k best, where equals come in any order."""
    best = scores[right].max()
    num_before = int((scores > best).sum())
    num_equal = int((scores == best).sum())
    num_wrong = int(((scores == best) & ~right).sum())
    places = min(max(k - num_before, 0), num_equal)
    return 1.0 - comb(num_wrong, places) / comb(num_equal, places)


def interval(
    values: Sequence[float], clusters: Sequence[Hashable], bootstrap: Bootstrap
) -> tuple[float, float]:
    """Where the mean lies in 95% of data sets drawn from these clusters."""
    numbers = {name: at for at, name in enumerate(dict.fromkeys(clusters))}
    of_cluster = np.array([numbers[name] for name in clusters])
    sums = np.bincount(of_cluster, weights=np.asarray(values))
    counts = np.bincount(of_cluster)
    rng = np.random.default_rng(bootstrap.seed)
    draws = rng.integers(len(numbers), size=(bootstrap.num_draws, len(numbers)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.percentile(means, INTERVAL)
    return float(low), float(high)
