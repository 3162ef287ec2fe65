"""Who is prepared when: light requests before heavy ones, and nobody left out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_batching import Doubler, ask, batching, hold, queued, until
from xscene import errors
from xscene.serving.arrivals import Arrivals
from xscene.serving.calls import Call
from xscene.serving.lanes import Lanes, Request
from xscene.serving.models import Job, Tensors
from xscene.serving.security import ANONYMOUS

LOOP = asyncio.new_event_loop()
HEAVY = 1000
"""Numbers of a request that is too large for the computing thread."""


class Preparer(Doubler):
    """Holds heavy requests until the test lets one go on."""

    def __init__(self, name: str = "prepare") -> None:
        super().__init__(name, max_batch_cost=1 << 20)
        self.let_go = threading.Semaphore(0)
        self.begun: list[int] = []

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        self.begun.append(int(inputs["x"][0]))
        if len(inputs["x"]) >= HEAVY:
            self.let_go.acquire()
        return super().prepare(inputs, outputs)


def request(weight: int, light_bytes: int = 0) -> Request:
    model = Doubler()
    model.light_bytes = light_bytes
    call = Call("/test", ANONYMOUS, None, "t")
    answer: asyncio.Future[Tensors] = asyncio.Future(loop=LOOP)
    return Request(model=model, call=call, answer=answer, asked=None, weight=weight)


def take_all(arrivals: Arrivals, count: int) -> list[Request | None]:
    return [arrivals.take() for _ in range(count)]


def test_the_lightest_comes_first_and_equals_as_they_came() -> None:
    arrivals = Arrivals()
    waiting = [request(weight) for weight in (900, 5, 20, 5)]
    for each in waiting:
        arrivals.put(each)
    assert take_all(arrivals, 4) == [waiting[1], waiting[3], waiting[2], waiting[0]]


def test_a_heavy_request_has_its_turn_under_a_stream_of_light_ones() -> None:
    arrivals = Arrivals()
    heavy = request(100)
    arrivals.put(heavy)
    taken = []
    for _ in range(20):
        arrivals.put(request(30))
        taken.append(arrivals.take())
    assert taken.index(heavy) == 3


@given(st.lists(st.integers(1, 50) | st.none(), max_size=60))
def test_none_is_lost_and_none_is_passed_by_more_than_its_weight(steps: Sequence[int | None]) -> None:
    arrivals, waiting = Arrivals(), []
    passed: dict[Request, int] = {}
    for weight in [*steps, *[None] * len(steps)]:
        if weight is not None:
            waiting.append(request(weight))
            arrivals.put(waiting[-1])
        elif waiting:
            taken = arrivals.take()
            assert taken is not None
            if taken is not waiting[0]:
                passed[waiting[0]] = passed.get(waiting[0], 0) + taken.weight
            waiting.remove(taken)
    assert not waiting
    assert all(weight <= each.weight for each, weight in passed.items())


def test_one_that_left_is_not_given_and_a_closed_queue_gives_none() -> None:
    arrivals = Arrivals()
    first, second = request(1), request(2)
    arrivals.put(first)
    arrivals.put(second)
    arrivals.drop(first)
    arrivals.drop(first)
    assert arrivals.take() is second
    arrivals.put(first)
    arrivals.close()
    assert arrivals.take() is None


def test_what_was_handed_over_is_not_replaced_by_the_next() -> None:
    lanes = Lanes(0.0)
    first, second = request(1, light_bytes=1), request(1, light_bytes=1)
    # The computing thread ends a batch, and once more after it has answered the batch's callers.
    assert lanes.end_batch()
    assert lanes.hand_over(first)
    assert not lanes.end_batch()
    assert not lanes.hand_over(second)
    assert lanes.take() is first


def test_a_heavy_request_is_not_handed_over() -> None:
    lanes = Lanes(0.0)
    lanes.end_batch()
    assert not lanes.hand_over(request(2, light_bytes=1))


async def test_a_heavy_request_on_an_idle_service_holds_up_no_other_model() -> None:
    heavy, other = Preparer(), Doubler("other")
    async with batching() as batcher:
        for number in range(3):
            assert await ask(batcher, other, number) == [2 * number]
            await asyncio.sleep(0.002)
        held = ask(batcher, heavy, *range(1000, 1000 + HEAVY))
        await until(lambda: heavy.begun == [1000])
        assert await ask(batcher, other, 7) == [14]
        heavy.let_go.release()
        assert len(await held) == HEAVY


async def test_a_light_request_is_prepared_before_the_heavy_ones_that_wait() -> None:
    model = Preparer()
    model.light_bytes = 0
    async with batching(num_prepare_threads=1) as batcher:
        heavy = [ask(batcher, model, *range(n, n + HEAVY)) for n in range(1000, 1006)]
        await until(lambda: model.begun == [1000])
        light = ask(batcher, model, 7)
        await until(lambda: len(batcher._waiting) == 7)
        model.let_go.release()
        assert await light == [14]
        assert model.begun[:2] == [1000, 7]
        model.let_go.release(5)
        await asyncio.gather(*heavy)


async def test_what_is_late_is_not_computed_when_its_batch_is_tried_again_one_by_one() -> None:
    model = Doubler()
    forward = model.forward
    async with batching() as batcher:
        held = await hold(batcher, model)
        poisoned = ask(batcher, model, -1)
        await queued(batcher, 1)
        late = ask(batcher, model, 2, timeout_s=0.3)
        given_up = ask(batcher, model, 3)
        await queued(batcher, 3)
        loop = asyncio.get_running_loop()

        def slow(items: Sequence[Any]) -> Sequence[Any]:
            if len(items) == 3:
                loop.call_soon_threadsafe(given_up.cancel)
                time.sleep(0.5)
            return forward(items)

        model.forward = slow  # type: ignore[method-assign]
        model.open.set()
        with pytest.raises(errors.DeadlineExceeded):
            await late
        with pytest.raises(ValueError, match="poison"):
            await poisoned
        await held
    assert model.batches == [[1000], [-1, 2, 3], [-1]]
