"""The rounds of a run: every case once in each, in an order of chance; what was measured is kept."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.progress import Progress

from deploy.bench import cases, jobs, machine, samples, workloads
from deploy.bench.cases import Case
from deploy.bench.fleet import Fleet
from deploy.bench.samples import Record, Sample
from xscene.errors import PreconditionFailed

MAX_DIFFERENCE = 1e-4


class Answers:
    """Holds every server to the same embedding of the same sentence or picture."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[float]]] = {}

    def compare(self, group: str, target: str, values: list[float]) -> None:
        """Refuse a target whose values are not those of the others of its group."""
        if not values:
            return
        found = self._found.setdefault(group, {})
        for other, known in found.items():
            if len(known) != len(values):
                raise PreconditionFailed(f"{target} gave {len(values)} values, {other} {len(known)}")
            difference = max(abs(a - b) for a, b in zip(known, values, strict=True))
            if difference > MAX_DIFFERENCE:
                raise PreconditionFailed(
                    f"{target} and {other} differ by {difference:.2g}, the limit is {MAX_DIFFERENCE:.0e}: "
                    "they do not compute the same"
                )
        found[target] = values


def order(all_cases: Sequence[Case], number: int) -> Iterator[Case]:
    """Cells in an order of chance, and the targets of each: what is compared stays close in time."""
    chance = random.Random(workloads.SEED + number)  # noqa: S311 - repeatable on purpose
    cells = [list(group) for _, group in groupby(all_cases, key=lambda case: (case.group, case.cell))]
    chance.shuffle(cells)
    for cell in cells:
        chance.shuffle(cell)
        yield from cell


def measure(fleet: Fleet, record: Record, num_rounds: int, path: Path, progress: Progress) -> None:
    """Add what the record lacks, up to `num_rounds` rounds."""
    all_cases = list(cases.cases(fleet.choice))
    answers = Answers()
    task = progress.add_task("", total=num_rounds * len(all_cases))
    for number in range(num_rounds):
        try:
            for case in order(all_cases, number):
                label = f"round {number + 1} of {num_rounds}: {case.group}, {case.cell}, {case.target}"
                progress.update(task, description=label)
                if not record.has((case.group, case.cell, case.target, number)):
                    record.samples.append(_sample(fleet, case, number, answers))
                progress.advance(task)
        finally:
            samples.save(record, path)


def _sample(fleet: Fleet, case: Case, number: int, answers: Answers) -> Sample:
    try:
        found = jobs.measure(fleet[case.worker], case.job, fleet[case.measured])
        answers.compare(case.group, case.target, found.values)
    except PreconditionFailed as error:
        raise PreconditionFailed(f"{case.group}, {case.cell}, {case.target}: {error}") from error
    outcome = asdict(found.outcome)
    return Sample(
        group=case.group,
        cell=case.cell,
        target=case.target,
        round=number,
        items_per_call=case.job.batch,
        server_cpu_s=found.server_cpu_s,
        client_cpu_s=outcome.pop("cpu_s"),
        load_1min=machine.load()[0],
        **outcome,
    )
