"""What preparation keeps, thins, cuts and draws; part of every prepared data set."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, get_type_hints

import numpy as np

from xscene.errors import InvalidInput
from xscene.prepared.dataset import Setting, settings_digest

# What may be 0; all other numbers need to be above.
_MAY_BE_ZERO = frozenset({"seed", "border_px", "depth_threshold", "crop_growth", "floorplan_margin_px"})


class Words:
    """Settings that can be told by name, in words or as JSON; unknown names are refused."""

    @classmethod
    def from_json(cls, values: Mapping[str, Setting]) -> Self:
        """The settings that `to_json` gave; unknown names are refused."""
        hints = get_type_hints(cls)
        if unknown := sorted(set(values) - set(hints)):
            raise InvalidInput.at("settings", f"unknown {', '.join(unknown)}; known are {', '.join(hints)}")
        return cls(**{name: hints[name](value) for name, value in values.items()})

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Self:
        """Settings of the form `voxel_m=0.05`; the rest keeps its default."""
        hints, found = get_type_hints(cls), dict[str, Setting]()
        for word in words:
            name, equals, text = word.partition("=")
            if not equals or name not in hints:
                raise InvalidInput.at(word, f"needs NAME=VALUE with a name of {', '.join(hints)}")
            try:
                found[name] = hints[name](text)
            except ValueError:
                raise InvalidInput.at(name, f"is {text!r}, needs {hints[name].__name__}") from None
        return cls.from_json(found)


def require_range(name: str, value: float, *, may_be_zero: bool = False) -> None:
    """Refuse a number that is too small, or none."""
    if not (math.isfinite(value) and (value >= 0 if may_be_zero else value > 0)):
        floor = "at least 0" if may_be_zero else "more than 0"
        raise InvalidInput.at(name, f"{value}, needs a finite number of {floor}")


@dataclass(frozen=True, kw_only=True)
class Settings(Words):
    """Settings of preparation; other settings give another data set."""

    min_object_vertices: int = 50
    """Objects of fewer vertices are left out."""
    voxel_m: float = 0.02
    """The cloud keeps one point of each object in a voxel."""
    max_extent_voxels: int = 1 << 16
    """Along each axis."""
    depth_threshold: float = 0.05
    """A point is seen within this share of the measured depth."""
    border_px: int = 10
    """Points closer to the edge of a picture are not seen."""
    occlusion_cell_px: int = 8
    """Without depth, the nearest point of a cell hides those behind it."""
    max_frames: int = 1000
    """Of more views, so many are looked at, evenly spread; the rest counts for nothing."""
    min_votes: int = 30
    """Views with fewer pixels of an object, or visible points, are none of it."""
    num_crop_views: int = 10
    num_crop_levels: int = 3
    crop_growth: float = 0.2
    """A box grows by this share of its side, times the level, on every side."""
    crop_px: int = 224
    num_views: int = 20
    max_view_px: int = 640
    """Longest side; larger pictures are reduced."""
    max_picture_pixels: int = 1 << 26
    jpeg_quality: int = 90
    num_surface_points: int = 5000
    """Drawn from the surface of a model, larger faces more often."""
    num_cad_points: int = 1024
    """Kept of those, far from each other."""
    floorplan_px_per_m: float = 64.0
    max_floorplan_px: int = 1024
    floorplan_margin_px: int = 50
    floorplan_line_px: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            require_range(name, value, may_be_zero=name in _MAY_BE_ZERO)
        if self.jpeg_quality > 100:
            raise InvalidInput.at("jpeg_quality", f"{self.jpeg_quality}, needs at most 100")
        if self.num_cad_points > self.num_surface_points:
            raise InvalidInput.at(
                "num_cad_points",
                f"{self.num_cad_points}, needs at most num_surface_points, {self.num_surface_points}",
            )

    def to_json(self) -> dict[str, Setting]:
        """Every setting by name."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """What scenes carry of the settings."""
        return settings_digest(self.to_json())

    def stream(self, *names: str) -> int:
        """A seed for one purpose, the same on every machine."""
        text = "\0".join((str(self.seed), *names))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def generator(self, *names: str) -> np.random.Generator:
        """Random numbers for one purpose, independent of those for others."""
        return np.random.default_rng(self.stream(*names))
