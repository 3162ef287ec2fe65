"""Which calls may begin: none while warming up, no more than the limits, none any more when draining."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from typing import Any

from xscene.errors import NotReady, Overloaded
from xscene.serving.telemetry import Telemetry

RETRY_AFTER_S = 0.1
QUIET_S = 0.2
MAX_QUIET_WAIT_S = 2.0


class Phase(Enum):
    """Where a server is in its life."""

    WARMING_UP = "warming up"
    OPEN = "open"
    DRAINING = "draining"


class Admission:
    """Counts the calls and streams that are being served; lives on one event loop.

    Streams have a limit of their own, because they may last: they never take the place of a call,
    and a drain ends them at once where it waits for calls.
    """

    def __init__(self, *, max_calls: int, max_streams: int, telemetry: Telemetry) -> None:
        self.phase = Phase.WARMING_UP
        self.num_answered = 0
        self._max_calls = max_calls
        self._max_streams = max_streams
        self._telemetry = telemetry
        self._num_calls = 0
        self._streams: dict[asyncio.Task[Any], bool] = {}
        self._last_asked = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def check_call(self) -> None:
        """Refuse a call that cannot be served now."""
        self._check_open()
        if self._num_calls >= self._max_calls:
            raise _full(self._num_calls, "calls", "max_concurrent_calls", self._max_calls)

    def check_stream(self, *, public: bool) -> None:
        """Refuse a stream that cannot be served now; public ones are served in every phase."""
        if not public:
            self._check_open()
        if len(self._streams) >= self._max_streams:
            raise _full(len(self._streams), "streams", "max_open_streams", self._max_streams)

    def begin_call(self) -> None:
        """Take a place among the calls."""
        self._count(self._num_calls + 1)

    def end_call(self, *, answered: bool) -> None:
        """Give the place back."""
        self.num_answered += answered
        self._count(self._num_calls - 1)

    def begin_stream(self, task: asyncio.Task[Any], *, public: bool) -> None:
        """Take a place among the streams; a drain cancels `task` unless it is a public one."""
        self._streams[task] = public

    def end_stream(self, task: asyncio.Task[Any]) -> None:
        """Give the place back."""
        del self._streams[task]

    async def idle(self, timeout_s: float) -> bool:
        """End the streams and wait for the calls; False when the time ran out first."""
        for task, public in self._streams.items():
            if not public:
                task.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def quiet(self) -> None:
        """Wait a moment for callers to stop asking, so that each gets a status and not a broken call."""
        until = time.monotonic() + MAX_QUIET_WAIT_S
        while (now := time.monotonic()) < min(until, self._last_asked + QUIET_S):
            await asyncio.sleep(self._last_asked + QUIET_S - now)

    def _check_open(self) -> None:
        self._last_asked = time.monotonic()
        if self.phase is not Phase.OPEN:
            raise NotReady(f"the service is {self.phase.value}", retry_after_s=RETRY_AFTER_S)

    def _count(self, num_calls: int) -> None:
        self._num_calls = num_calls
        self._telemetry.in_flight.set(num_calls)
        if num_calls:
            self._idle.clear()
        else:
            self._idle.set()


def _full(count: int, what: str, name: str, limit: int) -> Overloaded:
    return Overloaded(
        f"{count} {what} are being served, the limit {name} is {limit}", retry_after_s=RETRY_AFTER_S
    )
