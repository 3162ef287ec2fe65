"""An encoder service with toy models, on the real runtime, and clients for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2_grpc

from tests.service.probe import serving
from tests.service.toy_models import Toy, ToyFactory
from xscene.oip import Answer, InferenceClient
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.server import Server

TIMEOUT_S = 30.0


@dataclass
class Toys:
    """The running service, what it is made of, and a client."""

    server: Server
    factory: ToyFactory
    channel: grpc.aio.Channel
    client: InferenceClient

    @property
    def stub(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def as_caller(self, token: str) -> InferenceClient:
        return InferenceClient(self.channel, metadata=[("authorization", f"Bearer {token}")])

    def toy(self, name: str) -> Toy:
        return self.factory.toy(name)

    async def ask(self, model: str, *values: int, timeout_s: float = TIMEOUT_S, **options: Any) -> Answer:
        inputs = {"values": np.array(values, np.int32)}
        return await self.client.infer(model, inputs, timeout_s=timeout_s, **options)

    async def copy(self, model: str, *values: int, **options: Any) -> list[int]:
        return (await self.ask(model, *values, **options)).outputs["copy"].tolist()


@asynccontextmanager
async def toys(
    folder: Path, *bundles: str, factory: ToyFactory | None = None, **settings: Any
) -> AsyncIterator[Toys]:
    factory = factory or ToyFactory("shift", "sleepy", "poisonous")
    given = EncoderSettings(metrics_port=0, bundles_dir=folder, bundles=bundles, **settings)
    async with (
        serving(EncoderService("text", given, factory), given) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Toys(server, factory, channel, InferenceClient(channel))


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)
