"""Boxes around objects, axis-aligned and oriented, and how much two of them overlap.

Shapes: N and M boxes, P points, K corners of a polygon. An overlap is always
intersection / (volume + volume - intersection + 1e-8), so that flat boxes divide by no zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscene.errors import InvalidInput
from xscene.geometry.frames import (
    Floats,
    Frame,
    Matrix,
    Points,
    apply,
    require_finite,
    require_frame,
    require_rotation,
    rigid,
)

IOU_EPSILON_M3 = 1e-8
# Relative to the largest edge: faces closer than this count as one face.
COPLANAR = 1e-9
POINTS_PER_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class AxisAlignedBoxes:
    """Boxes along x, y and z by midpoints (N,3) and full sizes (N,3) in metres, and their frame."""

    midpoints: Floats
    sizes: Floats
    frame: Frame

    def __post_init__(self) -> None:
        require_finite(self.midpoints, (None, 3), "midpoints")
        require_finite(self.sizes, (len(self.midpoints), 3), "sizes")
        _require_not_negative(self.sizes, "sizes")

    def __len__(self) -> int:
        return len(self.midpoints)


@dataclass(frozen=True, eq=False)
class MeanLocations:
    """Where objects are, by the means of their points (N,3) and box sizes (N,3) in metres.

    Not boxes: the mean lies off the middle wherever points are denser on one side.
    """

    means: Floats
    sizes: Floats
    frame: Frame


def fit_boxes(objects: Sequence[Points]) -> AxisAlignedBoxes:
    """The smallest box around each object's points; all in one frame."""
    low, high, frame = _extremes(objects)
    return AxisAlignedBoxes((low + high) / 2, high - low, frame)


def mean_locations(objects: Sequence[Points]) -> MeanLocations:
    """Mean and box size of each object's points; all in one frame."""
    low, high, frame = _extremes(objects)
    return MeanLocations(
        np.stack([item.xyz.mean(axis=0, dtype=np.float64) for item in objects]), high - low, frame
    )


def _extremes(objects: Sequence[Points]) -> tuple[Matrix, Matrix, Frame]:
    if not objects:
        raise InvalidInput.at("objects", "none given, needs at least one")
    for index, item in enumerate(objects):
        require_frame(item, objects[0].frame, f"objects[{index}]")
        if not len(item):
            raise InvalidInput.at(f"objects[{index}]", "has no points, so it has no box")
    low, high = (
        np.stack([reduce(item.xyz, axis=0) for item in objects]).astype(np.float64)
        for reduce in (np.min, np.max)
    )
    return low, high, objects[0].frame


def _require_not_negative(size: Floats, field: str) -> None:
    if (size < 0).any():
        raise InvalidInput.at(field, f"smallest is {size.min():g} m, needs at least 0")


def _require_one_frame(first: Frame, second: Frame) -> None:
    if first != second:
        raise InvalidInput.at("second", f"in frame {second}, but first is in frame {first}")


def _require_thickness(min_thickness_m: float) -> None:
    if not (np.isfinite(min_thickness_m) and min_thickness_m >= 0):
        raise InvalidInput.at("min_thickness_m", f"{min_thickness_m}, needs a finite number of at least 0")


def box_iou(first: AxisAlignedBoxes, second: AxisAlignedBoxes, *, min_thickness_m: float = 0.0) -> Matrix:
    """Overlap (N,M) of every pair of boxes, 0 to 1.

    A flat box has no volume and overlaps nothing, not even itself; with a minimum thickness, edges
    shorter than that grow to it about the midpoint.
    """
    _require_one_frame(first.frame, second.frame)
    _require_thickness(min_thickness_m)
    (low_a, high_a, volume_a), (low_b, high_b, volume_b) = (
        _bounds(boxes, min_thickness_m) for boxes in (first, second)
    )
    low = np.maximum(low_a[:, None], low_b[None])
    high = np.minimum(high_a[:, None], high_b[None])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    return _overlap(shared, volume_a[:, None], volume_b[None])


def _bounds(boxes: AxisAlignedBoxes, min_thickness_m: float) -> tuple[Matrix, Matrix, Matrix]:
    sizes = np.maximum(boxes.sizes.astype(np.float64), min_thickness_m)
    return boxes.midpoints - sizes / 2, boxes.midpoints + sizes / 2, sizes.prod(axis=1)


def _overlap(shared: Matrix, first: Matrix, second: Matrix) -> Matrix:
    # Rounding may leave a little more in common than there is.
    shared = np.minimum(shared, np.minimum(first, second))
    overlap: Matrix = shared / (first + second - shared + IOU_EPSILON_M3)
    return overlap


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Matrix:
    """Overlap (N,M) of every pair of point masks (N,P) and (M,P); two empty masks overlap by 0."""
    for field, mask in (("first", first), ("second", second)):
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise InvalidInput.at(
                field, f"shape {list(mask.shape)} of {mask.dtype}, needs [any, any] of bool"
            )
    if first.shape[1] != second.shape[1]:
        raise InvalidInput.at("second", f"covers {second.shape[1]} points, but first covers {first.shape[1]}")
    shared = np.zeros((len(first), len(second)))
    # float32 counts exactly to 2**24, and blocks bound the memory.
    for start in range(0, first.shape[1], POINTS_PER_BLOCK):
        block = slice(start, start + POINTS_PER_BLOCK)
        shared += first[:, block].astype(np.float32) @ second[:, block].astype(np.float32).T
    union = first.sum(axis=1)[:, None] + second.sum(axis=1)[None] - shared
    overlap: Matrix = shared / np.maximum(union, 1)
    return overlap


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A box of any rotation: centre (3,) and full size (3,) in metres, rotation (3,3), and its frame.

    The rotation's columns are the box's own axes.
    """

    centre: Floats
    size: Floats
    rotation: Floats
    frame: Frame

    def __post_init__(self) -> None:
        require_finite(self.centre, (3,), "centre")
        require_finite(self.size, (3,), "size")
        _require_not_negative(self.size, "size")
        require_finite(self.rotation, (3, 3), "rotation")
        require_rotation(self.rotation.astype(np.float64), "rotation")

    @property
    def volume_m3(self) -> float:
        """Product of the edges."""
        return float(self.size.prod(dtype=np.float64))

    def corners(self) -> Points:
        """The eight corners, x slowest and z fastest along the box's own axes."""
        signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
        return Points((signs * self.size) @ self.rotation.T + self.centre, self.frame)

    def contains(self, points: Points, *, margin_m: float = 0.0) -> NDArray[np.bool_]:
        """Which of N points (N,) lie in the box, or no further than the margin outside its faces."""
        require_frame(points, self.frame)
        along = (points.xyz - self.centre) @ self.rotation
        inside: NDArray[np.bool_] = np.all(np.abs(along) <= self.size / 2 + margin_m, axis=1)
        return inside

    def moved(self, matrix: ArrayLike, *, frame: Frame) -> Self:
        """The box after a rigid motion that takes it to this frame."""
        checked = rigid(matrix, "matrix")
        centre = apply(checked, self.centre[None])[0]
        return type(self)(centre, self.size, checked[:3, :3] @ self.rotation, frame)


def oriented_iou(first: OrientedBox, second: OrientedBox, *, min_thickness_m: float = 0.0) -> float:
    """Overlap of two boxes of any rotation, 0 to 1, exact up to rounding."""
    _require_one_frame(first.frame, second.frame)
    _require_thickness(min_thickness_m)
    size_a, size_b = (np.maximum(box.size.astype(np.float64), min_thickness_m) for box in (first, second))
    # In the first box's own axes, about its centre, far-off origins cost no digits.
    turn = first.rotation.T.astype(np.float64) @ second.rotation
    shift = (second.centre.astype(np.float64) - first.centre) @ first.rotation
    if np.linalg.norm(shift) >= (np.linalg.norm(size_a) + np.linalg.norm(size_b)) / 2:
        return 0.0
    tolerance_m = COPLANAR * float(max(size_a.max(), size_b.max()))
    faces_a = list(_faces(size_a, np.eye(3), np.zeros(3)))
    faces_b = list(_faces(size_b, turn, shift))
    # Where faces of the two coincide, the surface of the intersection takes the first box's alone.
    surface = [*_cut(faces_a, faces_b, tolerance_m), *_cut(faces_b, faces_a, -tolerance_m)]
    shared = np.array(_enclosed_m3(surface))
    return float(_overlap(shared, size_a.prod(), size_b.prod()))


@dataclass(frozen=True, eq=False)
class _Face:
    normal: Matrix  # (3,), unit, outwards
    corners: Matrix  # (K,3), in order around the face


def _faces(size: Matrix, turn: Matrix, centre: Matrix) -> Iterator[_Face]:
    edges = turn * (size / 2)
    for axis, sign in itertools.product(range(3), (-1.0, 1.0)):
        middle = centre + sign * edges[:, axis]
        u, v = edges[:, axis - 2], edges[:, axis - 1]
        yield _Face(sign * turn[:, axis], middle + np.stack([-u - v, u - v, u + v, v - u]))


def _cut(faces: list[_Face], solid: list[_Face], margin_m: float) -> Iterator[_Face]:
    """What of the faces lies within the solid, grown by a margin."""
    for face in faces:
        corners = face.corners
        for side in solid:
            corners = _clip(corners, side.normal, float(side.normal @ side.corners[0]) + margin_m)
        if len(corners):
            yield _Face(face.normal, corners)


def _clip(corners: Matrix, normal: Matrix, offset: float) -> Matrix:
    """The part of a convex polygon (K,3) with normal @ corner <= offset."""
    outside_by = corners @ normal - offset
    next_outside_by = np.roll(outside_by, -1)
    inside = outside_by <= 0
    crosses = inside != (next_outside_by <= 0)
    span = np.where(crosses, outside_by - next_outside_by, 1.0)
    crossings = corners + (outside_by / span)[:, None] * (np.roll(corners, -1, axis=0) - corners)
    # Each corner is followed by the crossing on the edge that leaves it.
    kept = np.stack([inside, crosses], axis=1).reshape(-1)
    clipped: Matrix = np.stack([corners, crossings], axis=1).reshape(-1, 3)[kept]
    return clipped


def _enclosed_m3(surface: list[_Face]) -> float:
    """Volume of a convex solid: a pyramid over each face, with a point inside as the tip."""
    if not surface:
        return 0.0
    tip = np.concatenate([face.corners for face in surface]).mean(axis=0)
    volume = 0.0
    for face in surface:
        spokes = face.corners - face.corners[0]
        area = np.abs(np.cross(spokes[:-1], spokes[1:]).sum(axis=0) @ face.normal) / 2
        volume += float(area * ((face.corners[0] - tip) @ face.normal) / 3)
    return volume
