"""The page and the record of sparse convolution: tables, goals, machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench import figures, peaks
from deploy.bench.goals import Goal
from deploy.bench.report import table
from deploy.bench.sparse import Measured, geometric_mean_ratios

RECORD_FILE, PAGE_FILE = "sparse.json", "sparse.md"
MINKOWSKI, NATIVE, TORCH = "minkowski", "native", "torch"
WARM_NETWORK = "UNet34C"
MAX_NATIVE_COLD, MAX_NATIVE_WARM = 0.40, 0.28
MAX_NATIVE_ROW_COLD, MAX_NATIVE_ROW_WARM = 0.9, 0.5
MIN_NATIVE_RATE = 0.80
MAX_TORCH, MAX_TORCH_ROW = 0.65, 1.05
MAX_MEMORY = 1.0
GOAL_THREADS = 2

INTRODUCTION = """\
# Benchmarks of sparse convolution

Measured {date}, commit `{commit}`, the fastest of {num_rounds} rounds, with

```sh
{command}
```

Voxels of made-up rooms, float32, random weights. Every contender computes in the same rounds: cold
with maps built anew, warm with maps kept. The limit is what the products alone would take at the
best rate of torch's dense product in the same rounds. MinkowskiEngine computes with its own layers
and one OpenBLAS thread, its best setting. Peak memory is that of a cold run in a process of its
own, above what it held before, and the median of {num_processes} of them. All numbers:
[sparse.json](sparse.json).
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case with the peak memory of each contender."""

    measured: Measured
    peak_bytes: Mapping[str, int | None]

    @property
    def label(self) -> str:
        """The case in words."""
        case = self.measured.case
        what = "forward and backward" if case.training else "forward"
        return f"{case.network}, {self.measured.num_voxels:,} voxels, {what}"


def save(rows: Sequence[Row], run: Mapping[str, Any], path: Path) -> None:
    """Write the record."""
    content = {"run": run, "rows": [dataclasses.asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def page(rows: Sequence[Row], run: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [INTRODUCTION.format(**run, num_processes=peaks.NUM_PROCESSES), _goals(rows)]
    for num_threads in sorted({row.measured.num_threads for row in rows}, reverse=True):
        those = [row for row in rows if row.measured.num_threads == num_threads]
        parts.append(f"## {num_threads} thread{'s' * (num_threads > 1)}\n\n" + _table(those))
    facts = [(name.replace("_", " "), str(value)) for name, value in run["machine"].items()]
    loads = [(name.replace("_", " "), ", ".join(f"{v:.2f}" for v in run[name])) for name in _LOADS]
    parts.append("## Machine\n\n" + table(("", ""), [*facts, *loads]))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


_LOADS = ("load_before", "load_after")


def _table(rows: Sequence[Row]) -> str:
    names = list(rows[0].measured.timings)
    header = ("seconds cold / warm, peak MB", "limit", *names)
    lines = []
    for row in rows:
        cells = []
        for name in names:
            timing, peak = row.measured.timings[name], row.peak_bytes.get(name)
            memory = "-" if peak is None else f"{peak / 1e6:.0f}"
            cells.append(f"{timing.cold_s:.3f} / {timing.warm_s:.3f}, {memory}")
        lines.append((row.label, f"{row.measured.limit_s:.3f}", *cells))
    if MINKOWSKI in names:
        cold_warm = [geometric_mean_ratios([row.measured for row in rows], name, MINKOWSKI) for name in names]
        means = (f"{cold:.2f} / {warm:.2f}" for cold, warm in cold_warm)
        lines.append(("ratio to minkowski, geometric mean", "", *means))
    return table(header, lines)


def _goals(rows: Sequence[Row]) -> str:
    found = [row for row in rows if row.measured.num_threads == GOAL_THREADS]
    if not found:
        return f"## Goals\n\nGoals are for {GOAL_THREADS} threads, which were not measured.\n"
    lines = [
        (goal.what, goal.wanted, f"{goal.measured.median:.2f}" if goal.measured else "-", goal.verdict)
        for goal in goals(found)
    ]
    return f"## Goals, {GOAL_THREADS} threads\n\n" + table(("figure", "goal", "measured", "verdict"), lines)


def goals(rows: Sequence[Row]) -> Iterator[Goal]:
    """Goals of native and torch; those that compare with MinkowskiEngine need it measured."""
    names = list(rows[0].measured.timings)
    native = next((name for name in names if name.startswith(NATIVE)), None)
    torch = next((name for name in names if name.startswith(TORCH)), None)
    against = MINKOWSKI in names
    for name, bounds, row_bounds in (
        (native, (MAX_NATIVE_COLD, MAX_NATIVE_WARM), (MAX_NATIVE_ROW_COLD, MAX_NATIVE_ROW_WARM)),
        (torch, (MAX_TORCH, MAX_TORCH), (MAX_TORCH_ROW, MAX_TORCH_ROW)),
    ):
        if name is not None:
            yield from _time_goals(rows, name, bounds, row_bounds, against=against)
            yield _memory_goal(rows, name, against=against)
    unets = [row.measured for row in rows if row.measured.case.network == WARM_NETWORK]
    rates = [each.limit_s / each.timings[native].warm_s for each in unets] if native else []
    yield _goal(
        f"{NATIVE}, {WARM_NETWORK} warm, share of the dense rate", MIN_NATIVE_RATE, rates, at_least=True
    )


def _time_goals(
    rows: Sequence[Row],
    name: str,
    bounds: tuple[float, float],
    row_bounds: tuple[float, float],
    *,
    against: bool,
) -> Iterator[Goal]:
    measured = [row.measured for row in rows]
    for which, kind in enumerate(("cold", "warm")):
        means = [geometric_mean_ratios(measured, name, MINKOWSKI)[which]] if against else []
        slowest = [max(each.ratios(name, MINKOWSKI)[which] for each in measured)] if against else []
        yield _goal(f"{name}, {kind}, mean ratio to {MINKOWSKI}", bounds[which], means)
        yield _goal(f"{name}, {kind}, slowest row over {MINKOWSKI}", row_bounds[which], slowest)


def _memory_goal(rows: Sequence[Row], name: str, *, against: bool) -> Goal:
    shares = []
    for row in rows:
        mine, other = row.peak_bytes.get(name), row.peak_bytes.get(MINKOWSKI)
        if against and mine is not None and other:
            shares.append(mine / other)
    return _goal(f"{name}, largest peak memory over {MINKOWSKI}", MAX_MEMORY, [max(shares)] if shares else [])


def _goal(what: str, bound: float, values: Sequence[float], *, at_least: bool = False) -> Goal:
    measured = figures.figure([min(values) if at_least else max(values)]) if values else None
    return Goal(group="sparse", what=what, bound=bound, at_least=at_least, measured=measured)
