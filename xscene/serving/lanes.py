"""Requests that wait for the computing thread, and the batches that are made of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xscene.serving.calls import Call
from xscene.serving.models import Item, Job, Model, Tensors


@dataclass(eq=False, kw_only=True)
class Request:
    """One request on its way through the batcher."""

    model: Model
    call: Call
    answer: asyncio.Future[Tensors]
    asked: tuple[Tensors, frozenset[str]] | None
    """Inputs and wanted outputs, until they are prepared."""
    weight: int = 0
    """Bytes of the inputs, as a measure of the work to prepare them."""
    job: Job = field(default_factory=lambda: Job(items=()))
    results: list[Any] = field(default_factory=list)
    num_taken: int = 0
    gone: bool = False
    """Given up by its caller, or failed: nothing more is computed for it."""
    arrived_ns: int = field(default_factory=time.monotonic_ns)
    prepare_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    finish_ns: int = 0

    def next_item(self) -> Item:
        """The first item that is in no batch yet."""
        return self.job.items[self.num_taken]

    def is_taken(self) -> bool:
        """Whether every item is in a batch."""
        return self.num_taken == len(self.job.items)

    def is_computed(self) -> bool:
        """Whether every item has its result."""
        return len(self.results) == len(self.job.items)

    def is_late(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.call.deadline is not None and time.monotonic() >= self.call.deadline


@dataclass(frozen=True)
class Batch:
    """Items of one model, with the request of each; those of one request stand in order."""

    model: Model
    parts: Sequence[tuple[Request, Item]]
    late: Sequence[Request] = ()

    @property
    def requests(self) -> list[Request]:
        """The requests that have items in the batch."""
        return list(dict.fromkeys(request for request, _ in self.parts))

    @property
    def items(self) -> list[Item]:
        """What is computed."""
        return [item for _, item in self.parts]

    def split(self) -> list[Batch]:
        """A batch for each request."""
        return [
            Batch(self.model, [part for part in self.parts if part[0] is request])
            for request in self.requests
        ]

    def assign(self, results: Sequence[Any], started_ns: int, elapsed_ns: int) -> None:
        """Hand each request the results of its items."""
        for request in self.requests:
            if not request.results:
                request.queue_ns = started_ns - request.arrived_ns - request.prepare_ns
            request.compute_ns += elapsed_ns
        for (request, _), result in zip(self.parts, results, strict=True):
            request.results.append(result)


@dataclass(eq=False)
class _Lane:
    """The requests that wait for one model."""

    model: Model
    requests: list[Request] = field(default_factory=list)
    num_answered: int = 0
    """Requests that the last batch completed: their callers may ask again at once."""
    num_expected: int = 1
    last_arrived: float = 0.0
    last_taken: float = 0.0
    last_ended: float = 0.0


class Lanes:
    """One lane for each model, served in turn; safe to use from several threads.

    A batch waits for the callers that the last one answered, beside those that waited already, as
    callers that got their answers together ask again together: until none of them came for
    a while, which is `window_s` and a small share of the time that the last batch took.

    A thread that rests also takes a light request that is not prepared, where nobody else is expected:
    one caller alone needs no threads that work at the same time, and each change of thread costs it.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._lanes: dict[Model, _Lane] = {}
        self._turns: deque[_Lane] = deque()
        self._at_work: _Lane | None = None
        self._rests = False
        self._unprepared: Request | None = None
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: Request) -> None:
        """Let a request wait."""
        with self._changed:
            if request.gone:
                return
            lane = self._lanes.get(request.model)
            if lane is None:
                lane = self._lanes[request.model] = _Lane(request.model)
                self._turns.append(lane)
            lane.requests.append(request)
            lane.last_arrived = time.monotonic()
            self._rests = False
            self._changed.notify()

    def hand_over(self, request: Request) -> bool:
        """Whether the computing thread takes a request that is not prepared yet."""
        with self._changed:
            lane = self._lanes.get(request.model)
            alone = lane is None or lane.num_expected <= 1 or not _is_recent(lane)
            light = request.weight <= request.model.light_bytes
            if not (self._rests and alone and light):
                return False
            self._rests = False
            self._unprepared = request
            self._changed.notify()
            return True

    def end_batch(self) -> bool:
        """Note that the batch at work was computed, before its callers know; whether nothing else waits."""
        with self._changed:
            lane, self._at_work = self._at_work, None
            if lane is not None:
                lane.num_expected = len(lane.requests) + lane.num_answered
                lane.last_ended = time.monotonic()
            # Nothing but a look for more is between here and rest, or what was handed over meanwhile.
            self._rests = self._unprepared is None and not any(lane.requests for lane in self._turns)
            return self._rests

    def take(self) -> Batch | Request | None:
        """The next batch, or request to prepare, as soon as there is one; None when closed."""
        with self._changed:
            while not self._closed:
                if self._unprepared is not None:
                    request, self._unprepared = self._unprepared, None
                    return request
                lane = next((lane for lane in self._turns if lane.requests), None)
                if lane is None:
                    self._rests = True
                    self._changed.wait()
                    continue
                self._wait_for_more(lane)
                # While it waited, the model may have been unloaded and callers may have left.
                if lane in self._turns and lane.requests:
                    self._turns.remove(lane)
                    self._turns.append(lane)
                    self._at_work = lane
                    lane.last_taken = time.monotonic()
                    return _fill(lane)
        return None

    def drop(self, request: Request) -> None:
        """A request whose caller has left waits no more."""
        with self._changed:
            if self._unprepared is request:
                self._unprepared = None
            lane = self._lanes.get(request.model)
            if lane is not None and request in lane.requests:
                lane.requests.remove(request)

    def forget(self, model: Model) -> None:
        """Drop the lane of a model that is unloaded."""
        with self._changed:
            lane = self._lanes.pop(model, None)
            if lane is not None:
                self._turns.remove(lane)

    def close(self) -> None:
        """No more batches."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _wait_for_more(self, lane: _Lane) -> None:
        now = time.monotonic()
        recent = _is_recent(lane)
        batch_s = lane.last_ended - lane.last_taken
        silence_s = self._window_s + SILENCE_SHARE * batch_s
        latest = now + self._window_s + WAIT_SHARE * batch_s
        while recent and len(lane.requests) < lane.num_expected and _cost(lane) < lane.model.max_batch_cost:
            left_s = min(latest, max(now, lane.last_arrived) + silence_s) - time.monotonic()
            if left_s <= 0 or self._closed:
                return
            self._changed.wait(left_s)


RECENT_S = 1.0
SILENCE_SHARE, WAIT_SHARE = 0.03, 0.1


def _is_recent(lane: _Lane) -> bool:
    """After a pause the last batch says nothing about who asks now."""
    return time.monotonic() - lane.last_ended < RECENT_S


def _cost(lane: _Lane) -> int:
    """What waits in a lane, at least one item counted for each request."""
    return sum(request.next_item().cost for request in lane.requests)


def _fill(lane: _Lane) -> Batch:
    """The next batch: one item of the oldest request, then of all, those that had least first."""
    late = [request for request in lane.requests if request.is_late()]
    waiting = [request for request in lane.requests if not request.gone and request not in late]
    parts: list[tuple[Request, Item]] = []
    cost = 0
    turns = deque([*waiting[:1], *sorted(waiting, key=lambda request: request.num_taken)])
    while turns:
        request = turns.popleft()
        if request.is_taken():
            continue
        item = request.next_item()
        if parts and cost + item.cost > lane.model.max_batch_cost:
            break
        parts.append((request, item))
        cost += item.cost
        request.num_taken += 1
        turns.append(request)
    lane.requests = [request for request in waiting if not request.is_taken()]
    batch = Batch(lane.model, parts, late)
    lane.num_answered = sum(request.is_taken() for request in batch.requests)
    return batch
