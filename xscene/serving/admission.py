"""Which calls may begin: none while warming up, no more than the limit, none any more when draining."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

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
    """Counts the calls that are being served; lives on one event loop."""

    def __init__(self, max_concurrent_calls: int, telemetry: Telemetry) -> None:
        self.phase = Phase.WARMING_UP
        self.num_answered = 0
        self._limit = max_concurrent_calls
        self._telemetry = telemetry
        self._in_flight = 0
        self._last_asked = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def acquire(self) -> None:
        """Take a place, or refuse at once."""
        self._last_asked = time.monotonic()
        if self.phase is not Phase.OPEN:
            raise NotReady(f"the service is {self.phase.value}", retry_after_s=RETRY_AFTER_S)
        if self._in_flight >= self._limit:
            raise Overloaded(
                f"{self._in_flight} calls are being served, the limit max_concurrent_calls is {self._limit}",
                retry_after_s=RETRY_AFTER_S,
            )
        self._count(self._in_flight + 1)

    def release(self, *, answered: bool) -> None:
        """Give a place back."""
        self.num_answered += answered
        self._count(self._in_flight - 1)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until no call is being served; False when the time ran out first."""
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

    def _count(self, in_flight: int) -> None:
        self._in_flight = in_flight
        self._telemetry.in_flight.set(in_flight)
        if in_flight:
            self._idle.clear()
        else:
            self._idle.set()
