"""The goals of serving, and whether a record meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.bench import cases, figures
from deploy.bench.figures import Figure
from deploy.bench.samples import Record

TEXT_EFFICIENCY = {"1 caller": 0.80, "8 callers": 0.85, "32 callers": 0.90}
IMAGE_EFFICIENCY = {"8 callers": 0.90, "32 callers": 0.90}
MIN_OF_PYTRITON = 1.0
MIN_OF_MOSEC = 0.95
MAX_EMPTY = 1.5
MAX_RAW = 1.5
MAX_SHARED = 0.4


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound on one figure, and the figure."""

    group: str
    what: str
    bound: float
    at_least: bool
    measured: Figure | None

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:.2f}"

    @property
    def verdict(self) -> str:
        """Pass or miss by the median, said more carefully where rounds fell on both sides."""
        if self.measured is None:
            return "not measured"
        found = self.measured
        met = self._meets(found.median)
        worst, best = (found.low, found.high) if self.at_least else (found.high, found.low)
        split = self._meets(worst) != self._meets(best)
        return f"{'pass' if met else 'miss'}{', rounds on both sides' if split else ''}"

    def _meets(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def goals(record: Record) -> list[Goal]:
    """Every goal of the groups that were measured."""
    found = [
        *_text(record),
        *_efficiency(record, cases.IMAGE, IMAGE_EFFICIENCY),
        *_empty(record),
        *_payload(record),
    ]
    return [goal for goal in found if record.cells(goal.group)]


def _text(record: Record) -> Iterator[Goal]:
    group = cases.TEXT
    yield from _efficiency(record, group, TEXT_EFFICIENCY)
    for peer, bound in (("pytriton", MIN_OF_PYTRITON), ("mosec", MIN_OF_MOSEC)):
        for cell in TEXT_EFFICIENCY:
            theirs, ours = (record.of(group, cell, target) for target in (peer, cases.SERVED))
            yield Goal(
                group=group,
                what=f"text, {cell}: efficiency as a share of {peer}'s",
                bound=bound,
                at_least=True,
                # Both are shares of the same bare time, so their ratio is that of the servers' times.
                measured=figures.ratio(theirs, ours, lambda sample: sample.cpu_ms_per_item),
            )


def _efficiency(record: Record, group: str, bounds: Mapping[str, float]) -> Iterator[Goal]:
    for cell, bound in bounds.items():
        bare, served = (record.of(group, cell, target) for target in (cases.BARE, cases.SERVED))
        yield Goal(
            group=group,
            what=f"{group}, {cell}: CPU efficiency",
            bound=bound,
            at_least=True,
            measured=figures.efficiency(bare, served),
        )


def _empty(record: Record) -> Iterator[Goal]:
    group = cases.EMPTY
    for cell in cases.EMPTY_CELLS:
        ours, bare = (record.of(group, cell, target) for target in (cases.SERVED, cases.BARE))
        yield Goal(
            group=group,
            what=f"empty RPC, {cell}: server CPU over bare gRPC's",
            bound=MAX_EMPTY,
            at_least=False,
            measured=figures.ratio(ours, bare, lambda sample: sample.cpu_ms_per_item),
        )


def _payload(record: Record) -> Iterator[Goal]:
    group = cases.PAYLOAD
    for target, bound in ((cases.OWN, MAX_RAW), (cases.RAW, MAX_RAW), (cases.SHARED, MAX_SHARED)):
        for cell in cases.CLOUD_CELLS:
            ours, plain = (record.of(group, cell, each) for each in (target, cases.PLAIN))
            yield Goal(
                group=group,
                what=f"{cell}: {target}, p50 over plain bytes'",
                bound=bound,
                at_least=False,
                measured=figures.ratio(ours, plain, lambda sample: sample.p50_ms),
            )
