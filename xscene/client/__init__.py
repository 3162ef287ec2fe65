"""Clients of the services, for threads and for asyncio; they speak in the types of `xscene.types`."""

from xscene.client.aio import AsyncFusionClient, AsyncSceneClient, AsyncTrainerClient
from xscene.client.connection import Connection
from xscene.client.sync import FusionClient, SceneClient, TrainerClient

__all__ = [
    "AsyncFusionClient",
    "AsyncSceneClient",
    "AsyncTrainerClient",
    "Connection",
    "FusionClient",
    "SceneClient",
    "TrainerClient",
]
