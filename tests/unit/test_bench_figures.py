"""The arithmetic of the benchmark, against values worked out by hand."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bench import figures
from deploy.bench.figures import Figure
from deploy.bench.samples import Sample

NUMBERS = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20)


def sample(round_: int = 0, **given: Any) -> Sample:
    values: dict[str, Any] = {
        "group": "text",
        "cell": "8 callers",
        "target": "bare",
        "num_calls": 10,
        "items_per_call": 1,
        "wall_s": 2.0,
        "server_cpu_s": 0.5,
        "client_cpu_s": 0.1,
        "p50_ms": 5.0,
        "p90_ms": 6.0,
        "p99_ms": 7.0,
        "load_1min": 0.0,
    }
    return Sample(round=round_, **values | given)


def test_cpu_time_is_counted_for_each_item_of_a_batch() -> None:
    assert sample(num_calls=10, items_per_call=8, server_cpu_s=0.4).cpu_ms_per_item == pytest.approx(5.0)


def test_throughput_counts_items_and_not_calls() -> None:
    assert sample(num_calls=10, items_per_call=8, wall_s=2.0).items_per_s == pytest.approx(40.0)


def test_efficiency_is_bare_time_over_served_time_for_one_item() -> None:
    bare = {0: sample(num_calls=5, items_per_call=8, server_cpu_s=0.2)}  # 5 ms an item
    served = {0: sample(num_calls=100, server_cpu_s=0.625)}  # 6.25 ms a request
    found = figures.efficiency(bare, served)
    assert found is not None
    assert found.median == pytest.approx(0.8)


def test_a_slow_moment_that_hits_both_sides_of_a_round_leaves_the_ratio_alone() -> None:
    bare = {0: sample(server_cpu_s=0.4), 1: sample(server_cpu_s=4.0), 2: sample(server_cpu_s=0.4)}
    served = {0: sample(server_cpu_s=0.5), 1: sample(server_cpu_s=5.0), 2: sample(server_cpu_s=0.5)}
    found = figures.efficiency(bare, served)
    assert found is not None
    assert [found.low, found.median, found.high] == pytest.approx([0.8, 0.8, 0.8])
    assert found.num_rounds == 3


def test_a_round_that_only_one_side_has_does_not_count() -> None:
    found = figures.efficiency(
        {0: sample(server_cpu_s=0.4), 1: sample(server_cpu_s=9.0)}, {0: sample(server_cpu_s=0.5)}
    )
    assert found is not None
    assert found.median == pytest.approx(0.8)
    assert found.num_rounds == 1


def test_a_window_without_a_tick_of_cpu_time_gives_no_ratio() -> None:
    assert figures.efficiency({0: sample()}, {0: sample(server_cpu_s=0.0)}) is None


def test_a_target_that_was_not_measured_has_no_figure() -> None:
    assert figures.efficiency({0: sample()}, {}) is None
    assert figures.over_rounds({}, lambda each: each.p50_ms) is None


def test_the_figure_of_seven_rounds() -> None:
    found = figures.figure([7.0, 1.0, 3.0, 5.0, 2.0, 6.0, 4.0])
    assert found == Figure(median=4.0, low=1.0, high=7.0, quartile_1=2.5, quartile_3=5.5, num_rounds=7)


def test_one_round_is_its_own_spread() -> None:
    assert figures.figure([3.0]) == Figure(3.0, 3.0, 3.0, 3.0, 3.0, 1)


@given(NUMBERS)
def test_a_figure_lies_in_its_own_spread(values: list[float]) -> None:
    found = figures.figure(values)
    assert found.low <= found.quartile_1 <= found.median <= found.quartile_3 <= found.high
    assert found.median == statistics.median(values)


@given(NUMBERS, st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values: list[float], share: float) -> None:
    assert figures.quantile(sorted(values), share) == pytest.approx(float(np.quantile(values, share)))
