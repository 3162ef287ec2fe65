"""An encoder as a service: settings, the models of its bundles, the batcher and the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from xscene.errors import SettingsInvalid
from xscene.serving.batching import Batcher
from xscene.serving.inference import (
    Engine,
    InferenceServicer,
    Regions,
    Repository,
    RepositoryLimits,
    TensorLimits,
)
from xscene.serving.models import Factory
from xscene.serving.server import Service
from xscene.serving.settings import ServerSettings, setting
from xscene.serving.telemetry import Telemetry


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(ServerSettings):
    """Settings that every encoder has; an encoder adds its port and limits."""

    bundles_dir: Path = setting(Path("bundles"), "Directory that holds the bundles.")
    bundles: tuple[str, ...] = setting(("small",), "Names of the bundles to load; the last is the default.")
    allow_untrained: bool = setting(False, "Serve bundles with random weights; answers say so.")
    max_loaded_bundles: int = setting(4, "Bundles that are loaded at a time.", low=1)
    max_queue: int = setting(128, "Requests that wait for the models; one more is refused.", low=1)
    window_ms: float = setting(
        5.0, "Silence after which a batch no longer waits for callers that are expected.", low=0, high=1000
    )
    max_stream_requests: int = setting(
        32, "Requests of one stream that are worked on at a time; further ones are read later.", low=1
    )
    max_strings: int = setting(65536, "Values of one BYTES input.", low=1)
    max_typed_bytes: int = setting(
        16 << 20, "Bytes of one input's numbers in a typed field; more travel in raw_input_contents.", low=1
    )
    max_header_bytes: int = setting(
        64 << 10, "Bytes of a request beside its tensors' values: names, shapes, parameters.", low=1024
    )
    num_threads: int = setting(1, "Threads of one computation.", low=1)
    num_prepare_threads: int = setting(2, "Requests that are decoded at a time.", low=1)
    shared_memory: bool = setting(False, "Let admins pass tensors in system shared memory.")
    shared_memory_prefix: str = setting("xscene-", "Shared memory keys must begin with this.")
    max_shared_memory_regions: int = setting(64, "Regions of shared memory that are registered.", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bundles:
            raise SettingsInvalid("bundles: names no bundle")
        if len(self.bundles) > self.max_loaded_bundles:
            raise SettingsInvalid(
                f"bundles: {len(self.bundles)} bundles, the limit max_loaded_bundles is "
                f"{self.max_loaded_bundles}"
            )
        if not self.shared_memory_prefix.strip("/"):
            raise SettingsInvalid("shared_memory_prefix: is empty, every key would be allowed")


class EncoderService(Service):
    """Serves the models that a factory makes of bundles.

    The factory raises NotFound for a model whose section a bundle lacks: the bundle's other models
    are served then.
    """

    def __init__(self, name: str, given: EncoderSettings, factory: Factory) -> None:
        self.name = name
        self._settings = given
        self._factory = factory
        self._engine: Engine | None = None
        regions = Regions(
            enabled=given.shared_memory,
            prefix=given.shared_memory_prefix.lstrip("/"),
            max_regions=given.max_shared_memory_regions,
        )
        limits = TensorLimits(
            max_strings=given.max_strings,
            max_typed_bytes=given.max_typed_bytes,
            max_tensor_bytes=given.max_message_bytes,
        )
        self._servicer = InferenceServicer(
            name,
            regions,
            limits,
            max_header_bytes=given.max_header_bytes,
            max_stream_requests=given.max_stream_requests,
        )

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Offer the Open Inference Protocol."""
        return self._servicer.register(server)

    async def start(self, telemetry: Telemetry) -> None:
        """Load every bundle and compute once with each model."""
        given = self._settings
        batcher = Batcher(
            max_queue=given.max_queue,
            window_s=given.window_ms / 1000,
            num_prepare_threads=given.num_prepare_threads,
            telemetry=telemetry,
        )
        limits = RepositoryLimits(
            bundles_dir=given.bundles_dir,
            allow_untrained=given.allow_untrained,
            max_loaded_bundles=given.max_loaded_bundles,
        )
        repository = Repository(self._factory, batcher, telemetry, limits)
        self._engine = Engine(repository, batcher, telemetry)
        for bundle in given.bundles:
            await repository.load_bundle(bundle)
        self._servicer.open(self._engine)

    async def watch(self) -> None:
        """End when a thread that computes has died: only a new process can answer again."""
        assert self._engine is not None
        await self._engine.batcher.crashed.wait()

    async def stop(self) -> None:
        """End the threads."""
        if self._engine is not None:
            await self._engine.repository.close()
            self._engine.batcher.close()
