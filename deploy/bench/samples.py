"""What a run measured: samples, and the file that keeps them so that a run can go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xscene.errors import PreconditionFailed

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One target in one cell in one round."""

    group: str
    cell: str
    target: str
    round: int
    num_calls: int
    items_per_call: int
    wall_s: float
    server_cpu_s: float
    """Of the measured process and its children, while the calls were made."""
    client_cpu_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    load_1min: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What was measured; a run has one sample of each."""
        return self.group, self.cell, self.target, self.round

    @property
    def items_per_s(self) -> float:
        """Items that were answered in a second."""
        return self.num_calls * self.items_per_call / self.wall_s

    @property
    def cpu_ms_per_item(self) -> float:
        """CPU time that the measured process took for each item."""
        return self.server_cpu_s * 1e3 / (self.num_calls * self.items_per_call)


@dataclass(kw_only=True)
class Record:
    """Everything that a run knows, as it stands in the file."""

    plan: dict[str, Any]
    """What must be equal for samples to be comparable."""
    run: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def has(self, key: tuple[str, str, str, int]) -> bool:
        """Whether this was measured already."""
        return any(sample.key == key for sample in self.samples)

    def of(self, group: str, cell: str, target: str) -> dict[int, Sample]:
        """The samples of a target in a cell, by round."""
        return {s.round: s for s in self.samples if (s.group, s.cell, s.target) == (group, cell, target)}

    def cells(self, group: str) -> list[str]:
        """Cells of a group that were measured, in the plan's order where it names one."""
        known: Sequence[str] = self.plan.get("cells", {}).get(group, [])
        found = {sample.cell for sample in self.samples if sample.group == group}
        return [cell for cell in known if cell in found]

    def targets(self, group: str, cell: str) -> set[str]:
        """Targets that were measured in a cell."""
        return {s.target for s in self.samples if (s.group, s.cell) == (group, cell)}


def load(path: Path) -> Record:
    """Read a record."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise PreconditionFailed(f"{path.name}: schema {content['schema']}, this code reads {SCHEMA}")
        return Record(
            plan=content["plan"],
            run=content["run"],
            samples=[Sample(**sample) for sample in content["samples"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreconditionFailed(f"{path.name}: no record of a benchmark: {error!r}") from None


def save(record: Record, path: Path) -> None:
    """Write a record as a whole, so that an interrupted run leaves the last one."""
    content = {
        "schema": SCHEMA,
        "plan": record.plan,
        "run": record.run,
        "samples": [dataclasses.asdict(sample) for sample in record.samples],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")
    staging.write_text(_one_line_each(content))
    staging.replace(path)


def resumed(path: Path, plan: dict[str, Any]) -> Record:
    """The record at `path`, to which samples of `plan` may be added."""
    record = load(path)
    differing = sorted(key for key in {*plan, *record.plan} if plan.get(key) != record.plan.get(key))
    if differing:
        told = "; ".join(f"{key} was {record.plan.get(key)}, is {plan.get(key)}" for key in differing)
        raise PreconditionFailed(f"{path.name} was measured differently, so nothing can be added: {told}")
    return record


def _one_line_each(content: Mapping[str, Any]) -> str:
    """JSON with a line for each sample: short, and differences can be read."""
    head = {name: value for name, value in content.items() if name != "samples"}
    lines = ",\n".join("    " + json.dumps(sample) for sample in content["samples"])
    return json.dumps(head, indent=2)[:-2] + f',\n  "samples": [\n{lines}\n  ]\n}}\n'
