"""A service whose calls do what a test tells them, on the real runtime."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc

from xscene.serving.server import Server, Service
from xscene.serving.settings import ServerSettings
from xscene.serving.telemetry import Telemetry
from xscene.v1 import fusion_pb2, fusion_pb2_grpc, trainer_pb2, trainer_pb2_grpc

Behaviour = Callable[[Any], Awaitable[fusion_pb2.FuseResponse]]


async def empty(_: Any) -> fusion_pb2.FuseResponse:
    return fusion_pb2.FuseResponse()


class Probe(
    Service, fusion_pb2_grpc.FusionServiceServicer, trainer_pb2_grpc.TrainerServiceServicer
):  # FusionService needs a reader, TrainerService an admin
    name = "fusion"

    def __init__(self, behaviour: Behaviour = empty) -> None:
        self.behaviour = behaviour
        self.warm = asyncio.Event()
        self.warm.set()
        self.stopped = False

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        fusion_pb2_grpc.add_FusionServiceServicer_to_server(self, server)
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self, server)
        return ("xscene.v1.FusionService", "xscene.v1.TrainerService")

    async def start(self, telemetry: Telemetry) -> None:
        await self.warm.wait()

    async def stop(self) -> None:
        self.stopped = True

    async def Fuse(self, request: Any, context: Any) -> fusion_pb2.FuseResponse:
        return await self.behaviour(request)

    async def CancelRun(self, request: Any, context: Any) -> trainer_pb2.CancelRunResponse:
        return trainer_pb2.CancelRunResponse()

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[trainer_pb2.WatchRunResponse]:
        for offset in range(request.offset, 3):
            yield trainer_pb2.WatchRunResponse(offset=offset, log="x")
        await self.behaviour(request)


@asynccontextmanager
async def serving(
    service: Service, given: ServerSettings | None = None, **settings: Any
) -> AsyncIterator[Server]:
    given = given or ServerSettings(**{"metrics_port": 0, "drain_timeout_s": 5.0} | settings)
    server = Server(service, given)
    await server.start()
    try:
        yield server
    finally:
        await server.drain()


@contextmanager
def serving_in_thread(make: Callable[[], Service], given: ServerSettings) -> Iterator[Server]:
    """The server on an event loop of its own, for tests and clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        server = Server(make(), given)
        await server.start()
        return server

    def run(work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)  # type: ignore[arg-type]

    try:
        server = run(start())
        try:
            yield server
        finally:
            run(server.drain())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def stub(channel: grpc.aio.Channel) -> Any:
    return fusion_pb2_grpc.FusionServiceStub(channel)
