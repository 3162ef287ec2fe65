"""Files of frozen backbones: whole, of the network that is meant, and those that a bundle was made with."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from xscene.errors import BundleInvalid, ModelMismatch, PreconditionFailed
from xscene.files import file_digest
from xscene.nn.backbones import Backbone
from xscene.nn.bundle import Bundle
from xscene.nn.manifest import Json, canonical

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
Network = TypeVar("Network", bound=nn.Module)


def check_files(name: str, directory: Path, files: Sequence[str]) -> None:
    """Refuse a directory that lacks a file of the backbone."""
    if missing := [file for file in files if not (directory / file).is_file()]:
        raise PreconditionFailed(
            f"backbone {name}: {', '.join(missing)} missing in directory {directory.name}; "
            "python -m deploy backbones list says how to get it"
        )


def digests(name: str, directory: Path, published: Mapping[str, Json | None]) -> dict[str, str]:
    """SHA-256 of these files; where there is a published one, it must be that."""
    found = {file: file_digest(directory / file) for file in published}
    for file, digest in published.items():
        if digest is not None and found[file] != digest:
            raise ModelMismatch(
                f"backbone {name}: {file} has SHA-256 {found[file]}, the published one has {digest}"
            )
    return found


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Name the backbone whose files do not fit."""
    try:
        yield
    except SafetensorError as error:
        raise BundleInvalid(f"backbone {name}: {WEIGHTS_FILE} is no safetensors file: {error}") from error
    except BundleInvalid as error:
        raise BundleInvalid(f"backbone {name}: {error}") from error


def check_config(found: Any, wanted: Mapping[str, Json]) -> None:
    """Refuse a network of other sizes."""
    if not isinstance(found, dict):
        raise BundleInvalid(f"{CONFIG_FILE}: is {type(found).__name__}, an object is needed")
    for key, value in wanted.items():
        if found.get(key) != value:
            raise BundleInvalid(f"{CONFIG_FILE}: {key} is {found.get(key)}, needed: {value}")


def picked(found: Mapping[str, Tensor], network: nn.Module, unused: Sequence[str]) -> dict[str, Tensor]:
    """The network's tensors, exactly; what else there is must be known not to be needed."""
    wanted = network.state_dict()
    if missing := sorted(set(wanted) - set(found)):
        raise BundleInvalid(f"missing tensors: {', '.join(missing)}")
    unknown = sorted(
        name for name in set(found) - set(wanted) if not any(re.fullmatch(each, name) for each in unused)
    )
    if unknown:
        raise BundleInvalid(f"unknown tensors: {', '.join(unknown)}")
    for name, tensor in wanted.items():
        has, needs = (f"{each.dtype} {list(each.shape)}" for each in (found[name], tensor))
        if has != needs:
            raise BundleInvalid(f"tensor {name} is {has}, needed: {needs}")
    return {name: found[name] for name in wanted}


def check_made_with(
    bundle: Bundle,
    section: str,
    entry: Backbone,
    files: Mapping[str, tuple[str, Json | None]],
    preprocessing: Mapping[str, Json],
) -> None:
    """Refuse a backbone that gives other features than the one the section's heads were made for.

    `files` has, of each file, the digest found and the one that the section names.
    """
    for file, (found, wanted) in files.items():
        if found != wanted:
            raise ModelMismatch(
                f"bundle {bundle.directory.name}: section {section}: made with {file} of backbone "
                f"{entry.name} with SHA-256 {wanted}, the one here has {found}"
            )
    has, needed = dict(bundle.section(section).preprocessing), dict(preprocessing)
    if canonical(has) != canonical(needed):
        raise bundle.invalid(section, f"preprocessing is {has}, backbone {entry.name} has {needed}")


class Shared(Generic[Network]):
    """Backbones that models share, each in memory once and as long as a model has it."""

    def __init__(self, kind: type[Network], device: torch.device) -> None:
        self._kind = kind
        self._device = device
        self._loaded: WeakValueDictionary[tuple[str, ...], Network] = WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, entry: Backbone, directory: Path, digests: Sequence[str]) -> Network:
        """The network of the files with these digests."""
        key = (entry.name, *digests)
        with self._lock:
            shared = self._loaded.get(key)
            if shared is None:
                loaded = entry.loader(directory)
                assert isinstance(loaded, self._kind)
                shared = self._loaded[key] = loaded.to(self._device)
            return shared
