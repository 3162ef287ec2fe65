"""Projection of points into pinhole cameras, with a depth test.

Shapes: N points, H and W pixels. Cameras look along z, with x to the right and y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats, Frame, Points, apply, inverse, require_finite, require_frame

MIN_SIDE_PX = 2


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """Focal lengths and principal point of an image, in pixels; pixel centres lie at whole numbers."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy"):
            if not math.isfinite(value := getattr(self, name)):
                raise InvalidInput.at(f"intrinsics.{name}", f"{value}, needs a finite number")
        for name in ("fx", "fy"):
            if (value := getattr(self, name)) <= 0:
                raise InvalidInput.at(f"intrinsics.{name}", f"{value}, needs more than 0")
        for name in ("width", "height"):
            if (value := getattr(self, name)) < MIN_SIDE_PX:
                raise InvalidInput.at(f"intrinsics.{name}", f"{value} px, needs at least {MIN_SIDE_PX}")

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, *, width: int, height: int) -> Self:
        """Reads a camera matrix (3,3) or (4,4); one with skew is refused."""
        checked = np.asarray(matrix, dtype=np.float64)
        side = 4 if checked.shape == (4, 4) else 3
        require_finite(checked, (side, side), "intrinsics")
        pinhole = np.eye(side)
        pinhole[(0, 1, 0, 1), (0, 1, 2, 2)] = checked[(0, 1, 0, 1), (0, 1, 2, 2)]
        if not np.array_equal(pinhole, checked):
            raise InvalidInput.at("intrinsics", "has entries other than fx, fy, cx and cy")
        fx, fy, cx, cy = (float(checked[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return cls(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)

    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix (3,3)."""
        return np.array(((self.fx, 0.0, self.cx), (0.0, self.fy, self.cy), (0.0, 0.0, 1.0)))

    def resized(self, width: int, height: int) -> Self:
        """Intrinsics of the image scaled to this size; outermost pixel centres stay outermost.

        The horizontal scale comes from the width that keeps the old proportions at the new height,
        so pixels stay square where the new proportions differ by rounding.
        """
        return type(self)(
            fx=self.fx * (height * self.width // self.height) / self.width,
            fy=self.fy * height / self.height,
            cx=self.cx * (width - 1) / (self.width - 1),
            cy=self.cy * (height - 1) / (self.height - 1),
            width=width,
            height=height,
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """Where each of N points falls: rows and columns (N,), and a mask; invisible points carry 0, 0, False."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    visible: NDArray[np.bool_]


def project(
    points: Points,
    camera_to_world: ArrayLike,
    intrinsics: Intrinsics,
    depth: Floats | None = None,
    *,
    threshold: float,
    border_px: int,
) -> Projection:
    """Pixels of raw points in one frame.

    A point is visible when it lies in front of the camera, at least border_px from the image's edge,
    and, given depth (H,W) in metres, within threshold times the depth of its pixel of that depth.
    Depth that is zero or not finite is a hole, behind which nothing is visible.
    """
    require_frame(points, Frame.RAW)
    _check_limits(intrinsics, depth, threshold, border_px)
    in_camera = apply(inverse(camera_to_world, "camera_to_world"), points.xyz)
    seen = np.flatnonzero(in_camera[:, 2] > 0)
    x, y, z = in_camera[seen].T
    # A point almost in the camera's plane, or absurdly far, overflows to inf or nan: outside of any image.
    with np.errstate(over="ignore", invalid="ignore"):
        column = np.rint(intrinsics.fx * x / z + intrinsics.cx)
        row = np.rint(intrinsics.fy * y / z + intrinsics.cy)
    inside = _inside(column, intrinsics.width, border_px) & _inside(row, intrinsics.height, border_px)
    seen, z = seen[inside], z[inside]
    row_px, column_px = row[inside].astype(np.int64), column[inside].astype(np.int64)
    if depth is not None:
        kept = _unoccluded(depth[row_px, column_px], z, threshold)
        seen, row_px, column_px = seen[kept], row_px[kept], column_px[kept]
    return _scatter(len(points), seen, row_px, column_px)


def _check_limits(
    intrinsics: Intrinsics, depth: NDArray[Any] | None, threshold: float, border_px: int
) -> None:
    if not (math.isfinite(threshold) and threshold >= 0):
        raise InvalidInput.at("threshold", f"{threshold}, needs a finite number of at least 0")
    if border_px < 0:
        raise InvalidInput.at("border_px", f"{border_px}, needs at least 0")
    if depth is None:
        return
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise InvalidInput.at(
            "depth", f"shape {list(depth.shape)}, needs [{intrinsics.height}, {intrinsics.width}]"
        )
    if not np.issubdtype(depth.dtype, np.floating):
        raise InvalidInput.at("depth", f"type {depth.dtype}, needs metres in floating point")


def _inside(pixel: Floats, size_px: int, border_px: int) -> NDArray[np.bool_]:
    return (pixel >= border_px) & (pixel < size_px - border_px)


def _unoccluded(measured: Floats, z: Floats, threshold: float) -> NDArray[np.bool_]:
    # Zero is a hole without a test of its own: nothing in front of the camera is within 0 of depth 0.
    metres = np.where(np.isfinite(measured), measured, 0.0).astype(np.float64)
    return np.asarray(np.abs(metres - z) <= threshold * metres)


def _scatter(
    num_points: int, seen: NDArray[np.intp], row_px: NDArray[np.int64], column_px: NDArray[np.int64]
) -> Projection:
    rows, columns = np.zeros((2, num_points), dtype=np.int64)
    visible = np.zeros(num_points, dtype=np.bool_)
    rows[seen], columns[seen], visible[seen] = row_px, column_px, True
    return Projection(rows, columns, visible)
