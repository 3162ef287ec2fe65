"""The fusion service as a process: settings, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import torch

from fusion import service
from fusion.models import LoadedModel, Models
from xscene import codec
from xscene.errors import SettingsInvalid
from xscene.services import SERVICES
from xscene.serving import server
from xscene.serving.settings import ServerSettings, setting
from xscene.serving.telemetry import Telemetry
from xscene.serving.worker import Worker
from xscene.types import Modality

NAME = "fusion"


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """Fusion service: makes one vector of any subset of scene embeddings."""

    port: int = setting(SERVICES[NAME].port, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    bundles_dir: Path = setting(Path("bundles"), "Directory that holds the bundles.")
    bundles: tuple[str, ...] = setting(("small",), "Names of the bundles to load; the last is the default.")
    allow_untrained: bool = setting(False, "Serve bundles with random weights; answers say so.")
    max_items: int = setting(256, "Items of one request.", low=1)
    max_queue: int = setting(128, "Requests that wait for the model; one more is refused.", low=1)
    num_threads: int = setting(1, "Threads of one computation.", low=1, high=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bundles:
            raise SettingsInvalid("bundles: names no bundle")


class Fusion(server.Service):
    """Loads the bundles, then answers with them."""

    name = NAME

    def __init__(self, given: Settings) -> None:
        self._settings = given
        self._models = Models(allow_untrained=given.allow_untrained)
        self._worker = Worker(NAME, given.max_queue)

    def register(self, grpc_server: grpc.aio.Server) -> tuple[str, ...]:
        """Offer FusionService."""
        limits = codec.Limits(max_items=self._settings.max_items)
        service.register(grpc_server, self._models, self._worker, limits)
        return (SERVICES[NAME].grpc_service,)

    async def start(self, telemetry: Telemetry) -> None:
        """Load every bundle and fuse once with it."""
        torch.set_num_threads(self._settings.num_threads)
        for name in self._settings.bundles:
            loaded = await asyncio.to_thread(self._models.load, self._settings.bundles_dir / name)
            await asyncio.to_thread(_warm_up, loaded)
            info = loaded.info
            telemetry.bundles.labels(info.bundle, info.model_id, str(info.trained).lower()).set(1)

    async def stop(self) -> None:
        """End the worker."""
        self._worker.close()


def _warm_up(loaded: LoadedModel) -> None:
    values = torch.ones(loaded.model.width).numpy()
    loaded.fuse([{Modality.TEXT: values, Modality.IMAGE: values}])


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve with the settings of the process; its exit code."""
    return server.run(NAME, Settings, Fusion, argv, environ)
