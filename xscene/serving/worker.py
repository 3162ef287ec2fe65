"""One thread that does a server's computing, behind a bounded queue."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from xscene.errors import NotReady, Overloaded
from xscene.serving import calls

P = ParamSpec("P")
T = TypeVar("T")
RETRY_AFTER_S = 0.1


class _Turn:
    """Work that waits for the thread; empty once its caller has left."""

    def __init__(self, work: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        self.work: Callable[[], Any] | None = work
        self.answer = answer
        self.context = contextvars.copy_context()


class Worker:
    """Runs functions one at a time, off the event loop; what is late or given up is not run.

    The thread is a daemon: a computation that does not end cannot keep a process from ending.
    """

    def __init__(self, name: str, max_queue: int) -> None:
        self._max_queue = max_queue
        self._turns: SimpleQueue[_Turn | None] = SimpleQueue()
        self._waiting: set[_Turn] = set()
        threading.Thread(target=self._run_all, name=name, daemon=True).start()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, once its turn has come."""
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"{len(self._waiting)} calls wait, the limit max_queue is {self._max_queue}",
                retry_after_s=RETRY_AFTER_S,
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        turn = _Turn(lambda: work(*args, **kwargs), answer)
        self._waiting.add(turn)
        self._turns.put(turn)
        try:
            return await answer
        finally:
            # The queue may keep the turn for a while; what it holds on to goes now.
            turn.work = None
            self._waiting.discard(turn)

    def close(self) -> None:
        """Let the thread end after what it is doing now; calls that still wait are refused."""
        self._turns.put(None)
        for turn in list(self._waiting):
            if not turn.answer.done():
                turn.answer.set_exception(NotReady("the service has stopped"))

    def _run_all(self) -> None:
        while (turn := self._turns.get()) is not None:
            if (work := turn.work) is not None:
                turn.context.run(_take, turn, work)


def _take(turn: _Turn, work: Callable[[], Any]) -> None:
    loop = turn.answer.get_loop()
    try:
        calls.current().remaining_s()
        result = work()
    except BaseException as error:  # noqa: BLE001 - told to the caller
        loop.call_soon_threadsafe(_settle, turn.answer, None, error)
    else:
        loop.call_soon_threadsafe(_settle, turn.answer, result, None)


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
