"""The batcher: prepare on a pool, compute in batches on one thread, finish on another.

Where nobody else asks, the computing thread does all of it for a light request.

Batches form by cost. Requests that wait share each batch, those that had least first, so that a
small one is not kept waiting by large ones: it waits for the batch at work and goes with the next.
To be prepared it waits for what is at work.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from xscene.errors import DeadlineExceeded, NotReady, Overloaded, XSceneError
from xscene.serving import calls
from xscene.serving.arrivals import Arrivals
from xscene.serving.lanes import Batch, Lanes, Request
from xscene.serving.models import Model, Tensors, num_bytes
from xscene.serving.statistics import Statistics
from xscene.serving.telemetry import Telemetry

log = logging.getLogger(__name__)
RETRY_AFTER_S = 0.1
# Beneath it requests are alike: what is done for every one is most of the work.
LEAST_WEIGHT = 4096
DEAD = "a thread that computes has died; the process ends"


class Batcher:
    """Answers requests of any number of models with one computing thread."""

    def __init__(
        self, *, max_queue: int, window_s: float, num_prepare_threads: int, telemetry: Telemetry
    ) -> None:
        self.statistics = Statistics()
        self.crashed = asyncio.Event()
        self._max_queue = max_queue
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._waiting: set[Request] = set()
        telemetry.queue.set_function(lambda: len(self._waiting))
        self._lanes = Lanes(window_s)
        self._arrivals = Arrivals()
        self._computed: SimpleQueue[list[Request] | None] = SimpleQueue()
        work = [("compute", self._compute_all), ("finish", self._finish_all)]
        work += [(f"prepare-{index}", self._prepare_all) for index in range(num_prepare_threads)]
        # Daemons: a computation that does not end cannot keep a process from ending.
        self._threads = [
            threading.Thread(target=self._guarded, args=(each,), name=name, daemon=True)
            for name, each in work
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, model: Model, inputs: Tensors, outputs: frozenset[str]) -> Tensors:
        """The wanted outputs of one request."""
        if self.crashed.is_set():
            raise NotReady(DEAD)
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"{len(self._waiting)} requests wait, the limit max_queue is {self._max_queue}",
                retry_after_s=RETRY_AFTER_S,
            )
        request = Request(
            model=model,
            call=calls.current(),
            answer=self._loop.create_future(),
            asked=(inputs, outputs),
            weight=max(LEAST_WEIGHT, num_bytes(inputs)),
        )
        self._waiting.add(request)
        if not self._lanes.hand_over(request):
            self._arrivals.put(request)
        try:
            return await request.answer
        finally:
            # Of a call that was cancelled nothing is computed, and nothing is kept in a queue.
            request.gone = True
            request.asked = None
            self._arrivals.drop(request)
            self._lanes.drop(request)
            self._waiting.discard(request)

    def forget(self, model: Model) -> None:
        """A model is unloaded; requests that still wait for it are refused."""
        for request in [request for request in self._waiting if request.model is model]:
            _settle(request, NotReady(f"model {model.name} version {model.version} was unloaded"))
        self._lanes.forget(model)

    def close(self) -> None:
        """Let the threads end after what they are doing now; requests that still wait are refused."""
        self._arrivals.close()
        self._lanes.close()
        self._computed.put(None)
        self._refuse_all(NotReady("the service has stopped"))

    def _prepare_all(self) -> None:
        while (request := self._arrivals.take()) is not None:
            self._prepare(request)

    def _prepare(self, request: Request) -> None:
        asked, request.asked = request.asked, None
        if asked is None:
            return
        started = time.monotonic_ns()
        try:
            request.job = request.model.prepare(*asked)
        except Exception as error:  # noqa: BLE001 - told to the caller
            self._refuse([request], error)
            return
        request.prepare_ns = time.monotonic_ns() - started
        if request.job.items:
            self._lanes.put(request)
        else:
            self._computed.put([request])

    def _compute_all(self) -> None:
        while (work := self._lanes.take()) is not None:
            if isinstance(work, Request):
                self._prepare(work)
                continue
            self._refuse_late(work.late)
            if work.parts:
                self._compute(work)
            self._lanes.end_batch()

    def _compute(self, batch: Batch) -> None:
        """Compute a batch; when it fails, each request alone, so that only the culprit fails."""
        started = time.monotonic_ns()
        try:
            results = batch.model.forward(batch.items)
        except Exception as error:  # noqa: BLE001 - told to the callers
            if len(batch.requests) == 1:
                self._refuse(batch.requests, error)
                return
            log.warning("a batch failed; its requests are computed one by one", extra={"why": repr(error)})
            for part in batch.split():
                self._compute_part(part)
            return
        elapsed_ns = time.monotonic_ns() - started
        batch.assign(results, started, elapsed_ns)
        self.statistics.add_batch(batch.model, len(results), elapsed_ns)
        self._telemetry.count_batch(batch.model.name, len(results), elapsed_ns / 1e9)
        done = [request for request in batch.requests if request.is_computed()]
        if self._lanes.end_batch():
            self._finish(done)
        elif done:
            self._computed.put(done)

    def _compute_part(self, part: Batch) -> None:
        """Compute what one request has in a batch that failed; its caller may have left meanwhile."""
        (request,) = part.requests
        if request.gone:
            return
        if request.is_late():
            self._refuse_late([request])
        else:
            self._compute(part)

    def _finish_all(self) -> None:
        while (requests := self._computed.get()) is not None:
            self._finish(requests)

    def _finish(self, requests: Sequence[Request]) -> None:
        self._tell([(request, self._outputs(request)) for request in requests if not request.gone])

    def _outputs(self, request: Request) -> Tensors | Exception:
        started = time.monotonic_ns()
        try:
            outputs = request.model.finish(request.job, request.results)
        except Exception as error:  # noqa: BLE001 - told to the caller
            self.statistics.add_failure(request)
            return error
        request.finish_ns = time.monotonic_ns() - started
        self.statistics.add_success(request)
        return outputs

    def _refuse_late(self, requests: Sequence[Request]) -> None:
        self._refuse(requests, DeadlineExceeded("the deadline passed while the request waited"))

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        for request in requests:
            request.gone = True
            self.statistics.add_failure(request)
        self._tell([(request, error) for request in requests])

    def _tell(self, answers: Sequence[tuple[Request, Tensors | Exception]]) -> None:
        """Wake the callers, all with one call into the loop."""
        if answers:
            self._loop.call_soon_threadsafe(_settle_all, answers)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread; what escapes it fails every caller and is told to whoever watches."""
        try:
            work()
        except BaseException as fault:
            log.critical("a thread of the batcher died", exc_info=fault)
            self._loop.call_soon_threadsafe(self._die)

    def _die(self) -> None:
        self.crashed.set()
        self._refuse_all(XSceneError(DEAD))

    def _refuse_all(self, error: Exception) -> None:
        for request in list(self._waiting):
            _settle(request, error)


def _settle_all(answers: Sequence[tuple[Request, Tensors | Exception]]) -> None:
    for request, answer in answers:
        _settle(request, answer)


def _settle(request: Request, answer: Tensors | Exception) -> None:
    request.gone = True
    if request.answer.done():
        return
    if isinstance(answer, Exception):
        request.answer.set_exception(answer)
    else:
        request.answer.set_result(answer)
