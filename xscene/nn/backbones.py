"""The registry type of frozen backbones; the encoders register their own entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from torch import nn

from xscene.errors import AlreadyExists, InvalidInput, NotFound

Kind: TypeAlias = Literal["text", "image", "points"]
Loader: TypeAlias = Callable[[Path], nn.Module]
Constant: TypeAlias = bool | int | float | str | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen network: what it eats, how wide its outputs are, where its weights come from."""

    name: str
    kind: Kind
    widths: Mapping[str, int]
    """Output name to width, such as {"cls": 1536, "patch_mean": 1536}."""
    loader: Loader
    """From a local path (a file or directory of weights) to the network in evaluation mode."""
    licence: str
    preprocessing: Mapping[str, Constant]
    digest: str | None
    """SHA-256 of the weights, 64 hex digits; None where users bring their own."""

    def __post_init__(self) -> None:
        for name in ("name", "licence"):
            if not getattr(self, name):
                raise InvalidInput.at(name, "is empty")
        if not self.widths:
            raise InvalidInput.at("widths", "names no output")
        for output, width in self.widths.items():
            if width < 1:
                raise InvalidInput.at(f"widths[{output}]", f"{width}, at least 1 is needed")
        if self.digest is not None and not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise InvalidInput.at("digest", f"{self.digest!r} is not 64 hex digits")


@dataclass(frozen=True)
class Registry:
    """Backbones by name."""

    _entries: dict[str, Backbone] = field(default_factory=dict, init=False)

    def register(self, backbone: Backbone) -> None:
        """Add an entry; a name is taken once."""
        if backbone.name in self._entries:
            raise AlreadyExists(f"backbone {backbone.name} is already registered")
        self._entries[backbone.name] = backbone

    def get(self, name: str) -> Backbone:
        """The entry of this name."""
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self.names()) or "none"
            raise NotFound(f"backbone {name!r} is not registered; known: {known}") from None

    def names(self, kind: Kind | None = None) -> tuple[str, ...]:
        """Names of all entries, or of those of one kind, sorted."""
        return tuple(sorted(name for name, entry in self._entries.items() if kind in (None, entry.kind)))
