"""The client process: closed loops of callers, each with one call under way at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from deploy.bench.callers import BytesCaller, Caller, HttpTextCaller
from deploy.bench.inference import EncoderCaller, OwnCaller, RawCaller, SharedCaller, TypedCaller
from deploy.bench.jobs import Job, answer
from xscene.serving import process

READY_TIMEOUT_S = 120.0
RETRY_INTERVAL_S = 0.2
NUM_WARM_UP_CALLS = 8
CALLERS: Mapping[str, Callable[[Job], Caller]] = {
    "bytes": BytesCaller,
    "text_http": HttpTextCaller,
    "text": EncoderCaller,
    "image": EncoderCaller,
    "raw": RawCaller,
    "own": OwnCaller,
    "shared": SharedCaller,
    "typed": TypedCaller,
}


class ClosedLoops:
    """The work of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.Runner()
        self._caller = self._loop.run(_caller(job))

    def warm_up(self) -> list[float]:
        """Wait until the server answers, then call it a few times, also all at once."""
        return self._loop.run(self._warm_up())

    def run(self) -> list[float]:
        """Call until the time is up."""
        return self._loop.run(self._run())

    def close(self) -> None:
        """Close the connection and the loop."""
        self._loop.run(self._caller.close())
        self._loop.close()

    async def _warm_up(self) -> list[float]:
        until = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                values = await self._caller.call(0)
                break
            except Exception:
                # Each library has errors of its own for a server that still starts.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(RETRY_INTERVAL_S)
        for index in range(NUM_WARM_UP_CALLS):
            await self._caller.call(index)
        await asyncio.gather(*(self._caller.call(index) for index in range(self._job.num_callers)))
        return values

    async def _run(self) -> list[float]:
        latencies: list[float] = []
        end = time.perf_counter() + self._job.seconds

        async def loop(first: int) -> None:
            index = first
            while (started := time.perf_counter()) < end:
                await self._caller.call(index)
                latencies.append(time.perf_counter() - started)
                index += self._job.num_callers

        await asyncio.gather(*(loop(first) for first in range(self._job.num_callers)))
        return latencies


async def _caller(job: Job) -> Caller:
    """A caller, made where its event loop runs."""
    return CALLERS[job.kind](job)


if __name__ == "__main__":
    # As every process of ours: memory of messages is kept, for all targets alike.
    process.prepare()
    answer(ClosedLoops)
