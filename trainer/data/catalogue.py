"""The data sets that are built in, and those of a user's own file."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

from trainer.data.readers.scannet import ScanNet
from trainer.data.scans import Registry
from xscene.errors import InvalidInput, NotFound


def built_in() -> Registry:
    """A registry of the layouts that are read without more."""
    registry = Registry()
    registry.register("scannet", ScanNet)
    registry.register("rooms", partial(ScanNet, name="rooms"))
    return registry


def add_reader(registry: Registry, path: Path) -> None:
    """Run a user's file and let its function `register` add data sets.

    It is the user's own code and may do whatever the user may: never pass on a file from elsewhere.
    """
    if not path.is_file():
        raise NotFound(f"{path.name}: there is no such file")
    name = f"reader_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput.at(path.name, "is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Classes are found by their module's name when a scan goes to another process.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    register = getattr(module, "register", None)
    if not callable(register):
        raise InvalidInput.at(path.name, "has no function register(registry)")
    register(registry)
