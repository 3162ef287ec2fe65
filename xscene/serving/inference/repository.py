"""The models that are loaded, each at the versions that bundles give it, changed under traffic."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xscene.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
    SettingsInvalid,
    XSceneError,
)
from xscene.serving.batching import Batcher
from xscene.serving.models import Factory, Model
from xscene.serving.telemetry import Telemetry

log = logging.getLogger(__name__)
T = TypeVar("T")
# A plain name: nothing that leads out of the directory of bundles.
BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class RepositoryLimits:
    """What may be loaded, and from where."""

    bundles_dir: Path
    allow_untrained: bool
    max_loaded_bundles: int


@dataclass(eq=False)
class Loaded:
    """A version of a model, and how many calls are using it."""

    model: Model
    bundle: str
    num_calls: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def labels(self) -> tuple[str, str, str]:
        """What metrics say of its bundle."""
        return self.model.bundle, self.model.model_id, str(self.model.trained).lower()


class Repository:
    """Versions by model; a call that names none gets the one loaded last.

    A version is verified and warm before calls can see it, and is given back when the calls that
    use it have ended. Loading and unloading go on when their caller gives up.
    """

    def __init__(
        self, factory: Factory, batcher: Batcher, telemetry: Telemetry, limits: RepositoryLimits
    ) -> None:
        self._factory = factory
        self._batcher = batcher
        self._telemetry = telemetry
        self._limits = limits
        self._loaded: dict[str, dict[str, Loaded]] = {name: {} for name in factory.names}
        self._last_bundles: dict[str, str] = {}
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def use(self, name: str, version: str = "") -> Iterator[Model]:
        """A model that stays loaded within the block."""
        found = self.find(name, version)
        found.num_calls += 1
        try:
            yield found.model
        finally:
            found.num_calls -= 1
            if not found.num_calls:
                found.idle.set()

    def find(self, name: str, version: str = "") -> Loaded:
        """A version of a model, or for an empty version the one loaded last."""
        check_version(version)
        versions = self.versions(name)
        if not versions:
            raise NotReady(f"no version of model {name} is loaded")
        if not version:
            return next(reversed(versions.values()))
        if version not in versions:
            raise NotFound(
                f"model {name} has no version {version}, the versions loaded are {', '.join(versions)}"
            )
        return versions[version]

    def versions(self, name: str) -> dict[str, Loaded]:
        """The versions of a model, the one loaded last at the end."""
        if name not in self._loaded:
            raise NotFound(f"model {name!r} is none of {', '.join(self._loaded)}")
        return self._loaded[name]

    def index(self) -> Iterator[tuple[str, Model | None]]:
        """Every version of every model; None for a model that has none."""
        for name, versions in self._loaded.items():
            for found in versions.values():
                yield name, found.model
            if not versions:
                yield name, None

    async def load_bundle(self, bundle: str) -> None:
        """Load every model that a bundle holds; at least one."""
        missing: list[NotFound] = []
        for name in self._factory.names:
            try:
                await self.load(name, bundle)
            except NotFound as error:
                missing.append(error)
        if len(missing) == len(self._factory.names):
            raise missing[0]
        for absent in missing:
            log.warning("model not loaded", extra={"bundle": bundle, "why": absent.message})

    async def load(self, name: str, bundle: str = "") -> None:
        """Load a model from a bundle, or again from the bundle it was loaded from last."""
        self.versions(name)
        bundle = bundle or self._last_bundles.get(name, "")
        if not BUNDLE_NAME.fullmatch(bundle):
            raise InvalidInput.at("bundle", f"{bundle!r} is no name of a directory of bundles_dir")
        if not (self._limits.bundles_dir / bundle).is_dir():
            raise NotFound(f"bundle: there is no bundle {bundle}")
        await self._to_the_end(self._load(name, bundle))

    async def unload(self, name: str, version: str = "") -> None:
        """Give a version back, or for an empty version all; nothing happens when it is not there."""
        check_version(version)
        versions = self.versions(name)
        chosen = [versions.pop(known) for known in list(versions) if version in ("", known)]
        await self._to_the_end(self._retire(chosen))

    async def close(self) -> None:
        """Stop whatever is being loaded or given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _load(self, name: str, bundle: str) -> None:
        async with self._loading:
            self._check_room(bundle)
            model = await asyncio.to_thread(self._make, name, self._limits.bundles_dir / bundle)
            replaced = self._show(name, Loaded(model, bundle))
        await self._retire(replaced)

    def _make(self, name: str, directory: Path) -> Model:
        model = self._factory.load(name, directory)
        if not model.trained and not self._limits.allow_untrained:
            raise SettingsInvalid(
                f"bundle {directory.name} is untrained, its answers carry no meaning: set allow_untrained"
            )
        assert model.version == str(int(model.model_id[:15], 16))
        model.warm_up()
        return model

    def _show(self, name: str, fresh: Loaded) -> list[Loaded]:
        """Let calls see a version; what it takes the place of."""
        versions, model = self._loaded[name], fresh.model
        old = versions.get(model.version)
        if old is not None and old.model.model_id != model.model_id:
            raise AlreadyExists(
                f"model {name} version {model.version} is {old.model.model_id}, not {model.model_id}"
            )
        # Loaded again, it is the one loaded last.
        versions.pop(model.version, None)
        versions[model.version] = fresh
        self._last_bundles[name] = fresh.bundle
        self._telemetry.bundles.labels(*fresh.labels).set(1)
        log.info("loaded", extra={"model": name, "version": model.version, "bundle": fresh.bundle})
        return [] if old is None else [old]

    def _check_room(self, bundle: str) -> None:
        there = {found.bundle for found in self._all()}
        limit = self._limits.max_loaded_bundles
        if bundle not in there and len(there) >= limit:
            raise Overloaded(
                f"{len(there)} bundles are loaded, the limit max_loaded_bundles is {limit}: unload one first"
            )

    async def _retire(self, chosen: list[Loaded]) -> None:
        """Wait for the calls that use the versions, then give these back."""
        for found in chosen:
            while found.num_calls:
                found.idle.clear()
                await found.idle.wait()
            self._batcher.forget(found.model)
            if found.labels not in {other.labels for other in self._all()}:
                self._telemetry.bundles.remove(*found.labels)
            name, version = found.model.name, found.model.version
            log.info("unloaded", extra={"model": name, "version": version, "bundle": found.bundle})

    def _all(self) -> Iterator[Loaded]:
        return (found for versions in self._loaded.values() for found in versions.values())

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that goes on when its caller gives up."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, XSceneError):
            log.info("not loaded", extra={"why": error.message})
        elif error is not None:
            log.error("not loaded", exc_info=error)


def check_version(version: str) -> None:
    """Versions are numbers; an empty one leaves the choice to the server."""
    if version and not (version.isascii() and version.isdecimal()):
        raise InvalidInput.at("model_version", f"{version!r} is no whole number")
