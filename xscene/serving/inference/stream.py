"""A stream of requests: several are worked on at a time, and answered in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def in_order(
    requests: AsyncIterable[Q], answer: Callable[[Q], Awaitable[A]], max_requests: int
) -> AsyncIterator[A]:
    """The answer to each request; no more than `max_requests` wait for theirs to be taken."""
    room = asyncio.Semaphore(max_requests)
    answers: asyncio.Queue[asyncio.Future[A] | None] = asyncio.Queue()
    begun: set[asyncio.Future[A]] = set()

    async def read() -> None:
        try:
            await room.acquire()
            async for request in requests:
                begun.add(task := asyncio.ensure_future(answer(request)))
                answers.put_nowait(task)
                await room.acquire()
        finally:
            answers.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await answers.get()) is not None:
            yield await task
            begun.discard(task)
            room.release()
        # Raises what ended the stream, if it was not its caller.
        await reader
    finally:
        left: list[asyncio.Future[Any]] = [reader, *begun]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
