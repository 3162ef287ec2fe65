"""OpenScene's files: labelled clouds in the raw frame, and features of pictures fused onto their points.

Shapes: N points of a cloud, M of them with features, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.labels import NO_CLASS
from trainer.data.readers.tensors import MAX_TENSOR_BYTES, array_of, read_torch
from xscene.errors import InvalidInput
from xscene.geometry.frames import Frame, Points

POINTS_ENDING = "_vh_clean_2.pth"
NO_LABEL = -100
FLOATS, LABELS = "f", "fiu"
COLOR_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelledCloud:
    """A cloud in the raw frame, in the order of the mesh's vertices."""

    scan_id: str
    points: Points
    colors: NDArray[np.uint8] | None
    """(N,3); None where the file has none."""
    classes: NDArray[np.uint8]
    """(N,), NO_CLASS for none."""


@dataclass(frozen=True, eq=False)
class FusedFeatures:
    """Features of the points that pictures saw."""

    scan_id: str
    part: int
    """Number of the random choice of points that the file holds; 0 where it holds all."""
    features: NDArray[np.float16]
    """(M,D), in the order of points."""
    seen: NDArray[np.bool_]
    """Which of the cloud's points have features (N,)."""


def read_cloud(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> LabelledCloud:
    """A file of points: `<scan>_vh_clean_2.pth`, or Matterport's `<building>_<region>.pth`."""
    found = read_torch(path, max_bytes=max_bytes)
    if not isinstance(found, tuple | list) or len(found) != 3:
        raise InvalidInput.at(path.name, "needs a tuple of points, colours and labels")
    coords = array_of(found[0], f"{path.name}: points", (None, 3), FLOATS)
    if not np.isfinite(coords).all():
        raise InvalidInput.at(f"{path.name}: points", "holds numbers that are not finite")
    labels = array_of(found[2], f"{path.name}: labels", (len(coords),), LABELS)
    return LabelledCloud(
        scan_id=path.name.removesuffix(POINTS_ENDING) if path.name.endswith(POINTS_ENDING) else path.stem,
        points=Points(coords, Frame.RAW),
        colors=_colors(found[1], len(coords), f"{path.name}: colours"),
        classes=_classes(labels, f"{path.name}: labels"),
    )


def _colors(value: Any, count: int, where: str) -> NDArray[np.uint8] | None:
    """Colours of 0 to 255 from those of -1 to 1; a scalar stands for none."""
    if np.ndim(value) == 0:
        return None
    found = array_of(value, where, (count, 3), FLOATS)
    if not (np.abs(found) <= 1 + COLOR_TOLERANCE).all():
        raise InvalidInput.at(where, "not all within -1 and 1")
    colors: NDArray[np.uint8] = np.rint((np.clip(found, -1, 1) + 1) * 127.5).astype(np.uint8)
    return colors


def _classes(labels: NDArray[Any], where: str) -> NDArray[np.uint8]:
    known = np.where(labels == NO_LABEL, NO_CLASS, labels)
    if not ((known >= 0) & (known <= NO_CLASS) & (known == np.rint(known))).all():
        raise InvalidInput.at(where, f"not all whole numbers of 0 to {NO_CLASS}, or {NO_LABEL}")
    return known.astype(np.uint8)


def read_features(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> FusedFeatures:
    """A file `<scan>_<part>.pt`: features, and a mask over all points of the cloud."""
    found = read_torch(path, max_bytes=max_bytes)
    scan_id, _, part = path.stem.rpartition("_")
    if not (scan_id and part.isdecimal()):
        raise InvalidInput.at(path.name, "is not named <scan>_<part>.pt")
    if not isinstance(found, dict) or not {"feat", "mask_full"} <= found.keys():
        raise InvalidInput.at(path.name, "needs a dict with feat and mask_full")
    seen = array_of(found["mask_full"], f"{path.name}: mask_full", (None,), "b")
    features = array_of(found["feat"], f"{path.name}: feat", (int(seen.sum()), None), FLOATS)
    if not np.isfinite(features).all():
        raise InvalidInput.at(f"{path.name}: feat", "holds numbers that are not finite")
    return FusedFeatures(scan_id, int(part), features.astype(np.float16), seen)


def require_same_points(teachers: Mapping[str, FusedFeatures]) -> None:
    """Refuses features of several teachers whose rows stand for different points."""
    names = sorted(teachers)
    for name in names[1:]:
        if not np.array_equal(teachers[name].seen, teachers[names[0]].seen):
            raise InvalidInput.at(name, f"covers other points of {teachers[name].scan_id} than {names[0]}")
