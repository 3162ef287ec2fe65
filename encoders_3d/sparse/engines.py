"""The choice of an engine by its name."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from encoders_3d.sparse import native_library
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.minkowski_engine import MinkowskiEngineAdapter
from encoders_3d.sparse.native_engine import NativeEngine
from encoders_3d.sparse.torch_engine import TorchEngine
from xscene.errors import InvalidInput, NotFound, PreconditionFailed

ENGINES = ("auto", "torch", "native", "minkowski")

_log = logging.getLogger(__name__)


def select_engine(
    name: str = "auto",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    cache_dir: Path = native_library.DEFAULT_CACHE_DIR,
) -> Engine:
    """The engine of this name; `auto` is native where it is built and offers dtype and device, else torch.

    An engine that was asked for by its own name is never exchanged for another.
    """
    if name not in ENGINES:
        raise InvalidInput.at("engine", f"{name!r} is none of {', '.join(ENGINES)}")
    place = torch.device(device)
    engine = _automatic(dtype, place, cache_dir) if name == "auto" else _named(name, cache_dir)
    engine.check(dtype, place)
    _log.info("sparse_engine", extra={"asked": name, "engine": engine.description})
    return engine


def _named(name: str, cache_dir: Path) -> Engine:
    if name == "minkowski":
        return MinkowskiEngineAdapter()
    if name == "torch":
        return TorchEngine()
    try:
        return NativeEngine(cache_dir=cache_dir)
    except NotFound as error:
        raise PreconditionFailed(f"engine native: {error.message}") from None


def _automatic(dtype: torch.dtype, device: torch.device, cache_dir: Path) -> Engine:
    if dtype not in NativeEngine.dtypes or device.type not in NativeEngine.devices:
        return TorchEngine()
    try:
        return NativeEngine(cache_dir=cache_dir)
    except (NotFound, PreconditionFailed) as error:
        return TorchEngine(note=f"native: {error.message}")
