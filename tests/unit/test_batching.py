"""The batcher and its lanes, with models that a test holds by a gate."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from xscene import errors
from xscene.serving import calls
from xscene.serving.batching import Batcher
from xscene.serving.models import ANY, Job, Model, Tensors, TensorSpec
from xscene.serving.security import ANONYMOUS
from xscene.serving.telemetry import Telemetry


@dataclass(frozen=True)
class Number:
    value: int
    cost: int


class Doubler(Model):
    """Doubles numbers; input `cost` is the cost of each; negative numbers are poison."""

    version, bundle, model_id, trained = "1", "toy", "0" * 64, False
    inputs = (TensorSpec(name="x", datatype="INT64", shape=(ANY,)),)
    outputs = (TensorSpec(name="y", datatype="INT64", shape=(ANY,)),)
    parameters: Mapping[str, str] = {}
    light_bytes = 4096

    def __init__(self, name: str = "double", max_batch_cost: int = 8) -> None:
        self.name, self.max_batch_cost = name, max_batch_cost
        self.open = threading.Event()
        self.open.set()
        self.steps = threading.Semaphore(0)
        self.started = threading.Event()
        self.batches: list[list[int]] = []
        self.preparers: list[str] = []

    def warm_up(self) -> None: ...

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        self.preparers.append(threading.current_thread().name)
        if 13 in inputs["x"]:
            raise errors.InvalidInput.at("x", "13")
        costs = inputs.get("cost", np.ones(len(inputs["x"])))
        return Job(items=[Number(int(x), int(c)) for x, c in zip(inputs["x"], costs, strict=True)])

    def forward(self, items: Sequence[Any]) -> Sequence[Any]:
        self.started.set()
        while not self.open.is_set() and not self.steps.acquire(timeout=0.01):
            pass
        values = [item.value for item in items]
        self.batches.append(values)
        if any(value < 0 for value in values):
            raise ValueError("poison")
        if 666 in values:
            raise SystemExit("out of the loop")
        return [2 * value for value in values]

    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        if results == [2 * 99]:
            raise SystemExit("out of the finishing loop")
        return {"y": np.array(results, np.int64)}


@asynccontextmanager
async def batching(**changes: Any) -> AsyncIterator[Batcher]:
    given = {"max_queue": 64, "window_s": 0.0, "num_prepare_threads": 2, "telemetry": Telemetry()} | changes
    batcher = Batcher(**given)
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.close)


def ask(
    batcher: Batcher, model: Model, *numbers: int, timeout_s: float = 20.0, cost: int = 1
) -> asyncio.Task:
    async def run() -> list[int]:
        calls.enter(calls.Call("/test", ANONYMOUS, time.monotonic() + timeout_s, "t"))
        inputs = {"x": np.array(numbers), "cost": np.full(len(numbers), cost)}
        return (await batcher.run(model, inputs, frozenset({"y"})))["y"].tolist()

    return asyncio.get_running_loop().create_task(run())


async def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


@pytest.fixture
def model() -> Iterator[Doubler]:
    made = Doubler()
    yield made
    made.open.set()


async def hold(batcher: Batcher, model: Doubler, number: int = 1000) -> asyncio.Task:
    """Keep the computing thread busy with a batch of its own until the gate opens."""
    model.open.clear()
    model.started.clear()
    task = ask(batcher, model, number)
    await until(model.started.is_set)
    return task


async def queued(batcher: Batcher, count: int) -> None:
    """Until `count` requests stand in lanes, prepared."""
    await until(lambda: sum(len(lane.requests) for lane in batcher._lanes._lanes.values()) == count)


async def test_requests_that_wait_are_computed_together_up_to_the_cost(model: Doubler) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        tasks = []
        for i in range(5):
            tasks.append(ask(batcher, model, i, 10 * i, cost=2))
            await queued(batcher, i + 1)
        model.open.set()
        assert [await task for task in tasks] == [[2 * i, 20 * i] for i in range(5)]
        await held
    assert [len(batch) for batch in model.batches] == [1, 4, 4, 2]


async def test_an_item_above_the_cost_is_computed_alone(model: Doubler) -> None:
    async with batching() as batcher:
        assert await ask(batcher, model, 1, 2, 3, cost=100) == [2, 4, 6]
    assert model.batches == [[1], [2], [3]]


async def test_a_request_without_items_is_answered() -> None:
    async with batching() as batcher:
        assert await ask(batcher, Doubler()) == []


async def test_a_small_request_waits_for_at_most_two_batches_under_a_stream_of_large_ones(
    model: Doubler,
) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        large = [ask(batcher, model, *range(100 * i, 100 * i + 8)) for i in range(1, 6)]
        await queued(batcher, 5)
        model.steps.release(3)
        await until(lambda: len(model.batches) == 3)
        await asyncio.sleep(0.05)
        small = ask(batcher, model, 7)
        await until(lambda: any(request.job.items[:1] == [Number(7, 1)] for request in batcher._waiting))
        large += [ask(batcher, model, *range(100 * i, 100 * i + 8)) for i in range(6, 9)]
        await asyncio.sleep(0.05)
        model.open.set()
        assert await small == [14]
        await asyncio.gather(held, *large)
    # One batch was at work when it came; it went with the next, though five large ones waited before it.
    assert 7 in model.batches[4]


async def test_large_requests_do_not_starve_under_a_stream_of_small_ones(model: Doubler) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        large = ask(batcher, model, *range(1, 13))
        await queued(batcher, 1)
        small = [ask(batcher, model, 50) for _ in range(40)]
        await queued(batcher, 41)
        model.open.set()
        await asyncio.gather(held, large, *small)
    # The oldest request has an item in every batch until it is done.
    assert all(any(0 < value < 13 for value in batch) for batch in model.batches[1:7])


async def test_a_poisoned_request_fails_alone(model: Doubler, caplog: pytest.LogCaptureFixture) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        tasks = [ask(batcher, model, n) for n in (1, -2, 3)]
        await queued(batcher, 3)
        model.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await held
        assert await ask(batcher, model, 5) == [10]
    assert (results[0], results[2]) == ([2], [6])
    assert isinstance(results[1], ValueError)


async def test_invalid_input_never_reaches_a_batch(model: Doubler) -> None:
    async with batching() as batcher:
        with pytest.raises(errors.InvalidInput):
            await ask(batcher, model, 13)
    assert model.batches == []


async def test_what_was_given_up_or_is_late_is_not_computed(model: Doubler) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        given_up, late, good = (
            ask(batcher, model, 1),
            ask(batcher, model, 2, timeout_s=0.1),
            ask(batcher, model, 3),
        )
        await queued(batcher, 3)
        given_up.cancel()
        await asyncio.sleep(0.15)
        model.open.set()
        assert await good == [6]
        with pytest.raises(errors.DeadlineExceeded):
            await late
        await held
    assert model.batches == [[1000], [3]]


async def test_one_request_too_many_is_refused_at_once(model: Doubler) -> None:
    async with batching(max_queue=3) as batcher:
        held = await hold(batcher, model)
        tasks = [ask(batcher, model, n) for n in range(2)]
        await queued(batcher, 2)
        with pytest.raises(errors.Overloaded, match="max_queue is 3"):
            await ask(batcher, model, 9)
        model.open.set()
        await asyncio.gather(held, *tasks)
        assert await ask(batcher, model, 9) == [18]


@pytest.mark.parametrize("killer", [666, 99])
async def test_a_thread_that_dies_fails_its_callers_and_says_so(killer: int, model: Doubler) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model, 1)
        fatal = ask(batcher, model, killer)
        await queued(batcher, 1)
        model.steps.release(1)
        await held
        model.open.set()
        with pytest.raises(errors.XSceneError, match="has died"):
            await fatal
        await asyncio.wait_for(batcher.crashed.wait(), 5)
        with pytest.raises(errors.NotReady):
            await ask(batcher, model, 1)


async def test_models_take_turns() -> None:
    one, two = Doubler("one", max_batch_cost=2), Doubler("two", max_batch_cost=2)
    order: list[str] = []
    for each in (one, two):
        forward = each.forward

        def traced(items: Sequence[Any], name: str = each.name, forward: Any = forward) -> Sequence[Any]:
            order.append(name)
            return forward(items)

        each.forward = traced  # type: ignore[method-assign]
    async with batching() as batcher:
        held = await hold(batcher, one)
        tasks = [ask(batcher, m, 1, 2) for m in (one, one, two, two)]
        await queued(batcher, 4)
        one.open.set()
        await asyncio.gather(held, *tasks)
    assert order == ["one", "one", "two", "one", "two"]


async def test_an_unloaded_model_is_forgotten(model: Doubler) -> None:
    other = Doubler("other")
    async with batching() as batcher:
        held = await hold(batcher, model)
        task = ask(batcher, other, 1)
        await queued(batcher, 1)
        batcher.forget(other)
        with pytest.raises(errors.NotReady, match="was unloaded"):
            await task
        model.open.set()
        await held


async def test_a_lone_caller_never_waits_for_others_and_a_crowd_is_awaited() -> None:
    model = Doubler(max_batch_cost=64)
    async with batching(window_s=0.8) as batcher:
        started = time.monotonic()
        for number in range(5):
            assert await ask(batcher, model, number) == [2 * number]
        assert time.monotonic() - started < 0.7
        held = await hold(batcher, model)
        crowd = [ask(batcher, model, n) for n in range(4)]
        await queued(batcher, 4)
        model.open.set()
        await asyncio.gather(held, *crowd)
        model.batches.clear()

        async def later(number: int) -> list[int]:
            await asyncio.sleep(0.05 * number)
            return await ask(batcher, model, number)

        await asyncio.gather(*(later(n) for n in range(4)))
    assert model.batches == [[0, 1, 2, 3]]


async def test_one_thread_does_it_all_for_a_lone_caller_and_several_prepare_for_a_crowd() -> None:
    model = Doubler(max_batch_cost=64)
    async with batching(window_s=1.0) as batcher:
        for number in range(20, 40):
            assert await ask(batcher, model, number) == [2 * number]
            await asyncio.sleep(0.002)
        assert model.preparers.count("compute") >= 15
        await asyncio.gather(*(ask(batcher, model, number) for number in range(8)))
        model.preparers.clear()
        await asyncio.gather(*(ask(batcher, model, number) for number in range(8)))
        assert "compute" not in model.preparers
        assert len(model.preparers) == 8


async def test_what_the_computing_thread_cannot_prepare_fails_alone() -> None:
    model = Doubler()
    async with batching() as batcher:
        for _ in range(5):
            with pytest.raises(errors.InvalidInput, match="x: 13"):
                await ask(batcher, model, 13)
            assert await ask(batcher, model, 4) == [8]
            await asyncio.sleep(0.002)
        assert "compute" in model.preparers


async def test_two_groups_of_callers_that_take_turns_become_one() -> None:
    model = Doubler(max_batch_cost=64)
    async with batching(window_s=0.5) as batcher:
        held = await hold(batcher, model)
        first = [ask(batcher, model, n) for n in range(3)]
        await queued(batcher, 3)
        model.steps.release(1)
        await held
        await until(lambda: batcher._lanes._at_work is not None and not batcher._lanes._at_work.requests)
        second = [ask(batcher, model, n) for n in range(10, 13)]
        await queued(batcher, 3)
        model.open.set()
        await asyncio.gather(*first)
        again = [ask(batcher, model, n) for n in range(3)]
        await asyncio.gather(*second, *again)
    assert [len(batch) for batch in model.batches] == [1, 3, 6]


async def test_the_window_ends_when_the_others_do_not_come() -> None:
    model = Doubler(max_batch_cost=64)
    async with batching(window_s=0.1) as batcher:
        held = await hold(batcher, model)
        crowd = [ask(batcher, model, n) for n in range(4)]
        await queued(batcher, 4)
        model.open.set()
        await asyncio.gather(held, *crowd)
        started = time.monotonic()
        assert await ask(batcher, model, 7) == [14]
        assert 0.09 < time.monotonic() - started < 4


async def test_statistics_count_items_batches_and_failures(model: Doubler) -> None:
    async with batching() as batcher:
        await ask(batcher, model, 1, 2, 3)
        await ask(batcher, model, 4)
        with pytest.raises(ValueError, match="poison"):
            await ask(batcher, model, -1)
        with pytest.raises(errors.InvalidInput):
            await ask(batcher, model, 13)
        counts = batcher.statistics.of("double", "1")
    assert (counts.num_items, counts.num_batches) == (4, 2)
    assert (counts.success.count, counts.fail.count) == (2, 2)
    assert {size: duration.count for size, duration in counts.batches.items()} == {3: 1, 1: 1}
    assert counts.success.ns >= counts.compute.ns > 0


async def test_closing_refuses_what_still_waits(model: Doubler) -> None:
    async with batching() as batcher:
        held = await hold(batcher, model)
        waiting = ask(batcher, model, 1)
        await queued(batcher, 1)
        threading.Timer(0.2, model.open.set).start()
    results = await asyncio.gather(held, waiting, return_exceptions=True)
    assert any(isinstance(result, errors.NotReady) for result in results)


async def test_many_requests_of_all_sizes_get_their_own_answers() -> None:
    model, random = Doubler(max_batch_cost=20), np.random.default_rng(0)
    async with batching(max_queue=500, window_s=0.001) as batcher:
        sent = [random.integers(14, 600, size=random.integers(1, 30)).tolist() for _ in range(300)]
        got = await asyncio.gather(
            *(ask(batcher, model, *numbers, cost=int(random.integers(1, 9))) for numbers in sent)
        )
    assert got == [[2 * number for number in numbers] for numbers in sent]


async def test_a_model_that_is_unloaded_while_a_batch_waits_for_more_harms_no_other() -> None:
    model, other = Doubler("one"), Doubler("two")
    async with batching(window_s=0.4) as batcher:
        held = await hold(batcher, model)
        crowd = [ask(batcher, model, n) for n in range(3)]
        await queued(batcher, 3)
        model.open.set()
        await asyncio.gather(held, *crowd)
        # The next batch waits for three callers and gets one, whose model goes meanwhile.
        waiting = ask(batcher, model, 1)
        await queued(batcher, 1)
        await asyncio.sleep(0.1)
        batcher.forget(model)
        with pytest.raises(errors.NotReady, match="was unloaded"):
            await waiting
        assert await ask(batcher, other, 4) == [8]
        assert not batcher.crashed.is_set()


async def test_what_was_given_up_leaves_the_lane_while_the_thread_computes(model: Doubler) -> None:
    async with batching(max_queue=8) as batcher:
        held = await hold(batcher, model)
        for _ in range(10):
            tasks = [ask(batcher, model, n) for n in range(5)]
            await queued(batcher, 5)
            for task in tasks:
                task.cancel()
            await queued(batcher, 0)
        model.open.set()
        await held
    assert model.batches == [[1000]]
