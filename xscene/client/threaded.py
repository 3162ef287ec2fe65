"""What the asyncio clients leave to a client for threads: the calls that send a stream.

gRPC for asyncio loses the server's status when a message is on its way as the server ends the call; gRPC for
threads does not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from xscene.client.connection import Connection
from xscene.client.sync import SceneClient

T = TypeVar("T")
P = TypeVar("P")
_END: Any = object()


class ThreadedCall:
    """A client for threads and the thread of its one call; leaving the context cancels the call."""

    def __init__(self, connection: Connection) -> None:
        self.client = SceneClient(connection)
        self._thread = ThreadPoolExecutor(1, "xscene-stream")
        self._context = copy_context()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.client.close()
        self._thread.shutdown(wait=False)

    async def run(self, work: Callable[..., T], *given: Any, **named: Any) -> T:
        """What the work gives, on the thread."""
        bound = partial(self._context.run, work, *given, **named)
        return await asyncio.get_running_loop().run_in_executor(self._thread, bound)


class Feed(Generic[P]):
    """Asynchronous parts as an iterator for other threads; leaving the context ends it."""

    def __init__(self, parts: AsyncIterable[P]) -> None:
        self._parts: AsyncIterator[P] = aiter(parts)
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending: Future[P] | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._lock:
            self._ended = True
        if self._pending is not None:
            self._pending.cancel()

    def __iter__(self) -> Iterator[P]:
        return self

    def __next__(self) -> P:
        with self._lock:
            if self._ended:
                raise StopIteration
            self._pending = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            part = self._pending.result()
        except CancelledError:
            raise StopIteration from None
        if part is _END:
            raise StopIteration
        return part

    async def _take(self) -> P:
        return await anext(self._parts, _END)
