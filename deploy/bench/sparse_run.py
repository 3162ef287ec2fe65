"""A run of the sparse benchmark: every case with every engine that is there, and its peak memory."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import Progress

from deploy.bench import peaks, sparse
from deploy.bench.sparse_page import MINKOWSKI, Row
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.engines import select_engine
from encoders_3d.sparse.minkowski_engine import minkowski_module
from encoders_3d.sparse.native_engine import INSTRUCTION_SETS, NativeEngine
from xscene.errors import ExtraMissing, InvalidInput, PreconditionFailed

NATIVE = "native"
NAMES = ("torch", NATIVE)


def measure_all(threads: Sequence[int], num_rounds: int, max_voxels: int, progress: Progress) -> list[Row]:
    """Rows of all cases up to a size, for each number of threads; of lesser instruction sets times alone."""
    cases = [case for case in sparse.CASES if case.num_voxels <= max_voxels]
    if not cases:
        least = min(case.num_voxels for case in sparse.CASES)
        raise InvalidInput.at("max_voxels", f"{max_voxels}, the smallest case has {least}")
    engines, minkowski = _engines(), _has_minkowski()
    lesser = _lesser(engines.get(NATIVE))
    task = progress.add_task("", total=len(cases) * len(threads))
    rows = []
    for num_threads in threads:
        for case in cases:
            label = f"{case.network}, {case.num_voxels} voxels, {num_threads} threads"
            progress.update(task, description=label)
            measured = sparse.measure(
                case,
                [*engines.values(), *lesser],
                num_rounds=num_rounds,
                num_threads=num_threads,
                minkowski=minkowski,
            )
            names = {engine.description: name for name, engine in engines.items()}
            if minkowski:
                names[MINKOWSKI] = MINKOWSKI
            rows.append(Row(measured=measured, peak_bytes=_peaks(case, names, num_threads)))
            progress.advance(task)
    return rows


def _peaks(case: sparse.Case, names: dict[str, str], num_threads: int) -> dict[str, int | None]:
    return {
        shown: peaks.measure(case.network, case.num_voxels, name, num_threads, training=case.training)
        for shown, name in names.items()
    }


def _engines() -> dict[str, Engine]:
    """Our engines by name; one that cannot be had here is left out, as the page then shows."""
    found = {}
    for name in NAMES:
        try:
            found[name] = select_engine(name)
        except PreconditionFailed:
            continue
    return found


def _lesser(native: Engine | None) -> list[Engine]:
    """The native engine with each set of instructions below its own."""
    if not isinstance(native, NativeEngine):
        return []
    below = INSTRUCTION_SETS[: INSTRUCTION_SETS.index(native.instruction_set)]
    return [NativeEngine(instruction_set=name) for name in reversed(below)]


def _has_minkowski() -> bool:
    try:
        minkowski_module()
    except ExtraMissing:
        return False
    return True
