"""Medians, spreads and ratios of samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deploy.bench.samples import Sample


@dataclass(frozen=True)
class Figure:
    """A median with its spread over the rounds."""

    median: float
    low: float
    high: float
    quartile_1: float
    quartile_3: float
    num_rounds: int


def figure(values: Sequence[float]) -> Figure:
    """Median, extremes and quartiles; at least one value is needed."""
    assert values, "a figure needs at least one value"
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Figure(
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        quartile_1=quartiles[0],
        quartile_3=quartiles[2],
        num_rounds=len(values),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie, linear between neighbours."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def over_rounds(samples: Mapping[int, Sample], value: Callable[[Sample], float]) -> Figure | None:
    """A value's figure over the rounds; None where nothing was measured."""
    return figure([value(sample) for sample in samples.values()]) if samples else None


def ratio(
    above: Mapping[int, Sample], below: Mapping[int, Sample], value: Callable[[Sample], float]
) -> Figure | None:
    """The figure of above / below, round by round: what a round did to both of them cancels out."""
    shared = sorted(above.keys() & below.keys())
    # A window too short for the clock's ticks may have seen no CPU time at all.
    pairs = [(value(above[each]), value(below[each])) for each in shared]
    return figure([a / b for a, b in pairs if b > 0]) if any(b > 0 for _, b in pairs) else None


def efficiency(bare: Mapping[int, Sample], served: Mapping[int, Sample]) -> Figure | None:
    """Share of a server's CPU time that the bare computation would have taken."""
    return ratio(bare, served, lambda sample: sample.cpu_ms_per_item)
