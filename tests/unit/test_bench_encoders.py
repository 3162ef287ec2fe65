"""The pages of the sparse and the points benchmarks: goals, tables, and short runs of what they measure."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.bench import peaks, points, sparse_page
from deploy.bench.app import app
from deploy.bench.sparse import Case, Measured, Timing
from deploy.bench.sparse_page import Row

RUN: dict[str, Any] = {
    "command": "python -m deploy bench",
    "date": "2026-01-01",
    "commit": "abc",
    "num_rounds": 2,
    "num_threads": 1,
    "engine": "native (avx2)",
    "machine": {"cpu": "a CPU", "memory_gib": 3},
    "load_before": (0.1, 0.2, 0.3),
    "load_after": (1.1, 1.2, 1.3),
}
# Cold and warm seconds of each contender, for every case.
TIMES = {"minkowski": (1.0, 0.5), "torch": (0.6, 0.4), "native (avx2)": (0.2, 0.1)}


def row(network: str = "UNet34C", num_threads: int = 2, times: dict[str, Any] = TIMES) -> Row:
    measured = Measured(
        case=Case(network=network, num_voxels=20_000, training=False),
        num_voxels=20_123,
        num_threads=num_threads,
        num_rounds=2,
        gflop=9.0,
        sgemm_gflops=100.0,
        timings={name: Timing(cold_s=cold, warm_s=warm) for name, (cold, warm) in times.items()},
    )
    return Row(measured=measured, peak_bytes={name: 300_000_000 + len(name) for name in times})


def verdicts(rows: list[Row]) -> dict[str, str]:
    return {goal.what: goal.verdict for goal in sparse_page.goals(rows)}


def test_goals_of_sparse_convolution_are_those_of_the_figures() -> None:
    found = verdicts([row(), row("Enc14")])
    assert found == {
        "native (avx2), cold, mean ratio to minkowski": "pass",
        "native (avx2), cold, slowest row over minkowski": "pass",
        "native (avx2), warm, mean ratio to minkowski": "pass",
        "native (avx2), warm, slowest row over minkowski": "pass",
        "native (avx2), largest peak memory over minkowski": "miss",
        "torch, cold, mean ratio to minkowski": "pass",
        "torch, cold, slowest row over minkowski": "pass",
        "torch, warm, mean ratio to minkowski": "miss",
        "torch, warm, slowest row over minkowski": "pass",
        "torch, largest peak memory over minkowski": "pass",
        "native, UNet34C warm, share of the dense rate": "pass",
    }
    slow = row(times=TIMES | {"native (avx2)": (0.95, 0.2)})
    assert verdicts([row(), slow])["native (avx2), cold, slowest row over minkowski"] == "miss"
    assert verdicts([slow])["native, UNet34C warm, share of the dense rate"] == "miss"


def test_without_minkowski_its_goals_are_not_measured_and_the_rate_is() -> None:
    times = {name: value for name, value in TIMES.items() if name != "minkowski"}
    found = verdicts([row(times=times)])
    assert found.pop("native, UNet34C warm, share of the dense rate") == "pass"
    assert set(found.values()) == {"not measured"}


def test_the_page_of_sparse_convolution_has_every_row_and_the_machine() -> None:
    rows = [row(network, number) for network, number in product(("Enc14", "UNet34C"), (1, 2))]
    text = sparse_page.page(rows, RUN)
    assert "| Enc14, 20,123 voxels, forward | 0.090 | 1.000 / 0.500, 300 |" in text
    assert "| ratio to minkowski, geometric mean |  | 1.00 / 1.00 | 0.60 / 0.80 | 0.20 / 0.20 |" in text
    assert text.index("## 2 threads") < text.index("## 1 thread\n")
    assert "| cpu | a CPU |" in text
    assert "which were not measured" in sparse_page.page([row(num_threads=1)], RUN)


def samples() -> points.Samples:
    seconds = {points.SERVED: [0.5, 0.6], points.VOXELISING: [0.3, 0.2], points.NETWORK: [0.1, 0.2]}
    for size in points.CLOUD_VOXELS:
        seconds[points._single(size)] = [1.5, 1.4]
        seconds[points._batch(size)] = [1.0, 1.0]
    return points.Samples(seconds)


def test_goals_of_the_points_encoder_compare_within_a_round() -> None:
    served, small, large = points.goals(samples())
    assert served.measured.median == pytest.approx((0.5 / 0.4 + 0.6 / 0.4) / 2)
    assert served.verdict == "miss, rounds on both sides"
    assert (small.verdict, large.verdict) == ("pass", "pass")
    assert small.measured.median == pytest.approx(1.45)


def test_the_page_of_the_points_encoder_has_every_time() -> None:
    text = points.page(samples(), RUN)
    assert "| served | 550.0 (500.0..600.0) |" in text
    assert "engine native (avx2), 1 thread" in text


def test_peak_memory_is_that_of_the_case_alone() -> None:
    found = peaks.measure("Enc14", 2000, "torch", 1, training=False)
    # At least the features of one layer at full resolution; far less than the process takes.
    assert found is not None
    assert 2000 * 32 * 4 < found < 100 << 20


def test_a_short_run_of_sparse_writes_page_and_record(tmp_path) -> None:
    flags = ["sparse", "--rounds", "1", "--threads", "1", "--max-voxels", "10", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, flags)
    assert "max_voxels: 10, the smallest case has 20000" in str(result.exception)
    sparse_page.save([row()], RUN, tmp_path / "new" / sparse_page.RECORD_FILE)
    saved = json.loads((tmp_path / "new" / sparse_page.RECORD_FILE).read_text())
    assert saved["rows"][0]["measured"]["timings"]["torch"] == {"cold_s": 0.6, "warm_s": 0.4}
    assert saved["run"]["commit"] == "abc"
