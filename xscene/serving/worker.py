"""One thread that does a server's computing, behind a bounded queue."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from xscene.errors import Overloaded
from xscene.serving import calls

P = ParamSpec("P")
T = TypeVar("T")
RETRY_AFTER_S = 0.1


class Worker:
    """Runs functions one at a time, off the event loop; what is late or given up is not run."""

    def __init__(self, name: str, max_queue: int) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._max_queue = max_queue
        self._waiting = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, once its turn has come."""
        if self._waiting >= self._max_queue:
            raise Overloaded(
                f"{self._waiting} calls wait, the limit max_queue is {self._max_queue}",
                retry_after_s=RETRY_AFTER_S,
            )
        context = contextvars.copy_context()

        def turn() -> T:
            calls.current().remaining_s()
            return work(*args, **kwargs)

        self._waiting += 1
        try:
            # Cancelling the await cancels a turn that has not begun.
            return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, turn)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread after what it is doing now."""
        self._executor.shutdown(cancel_futures=True)
