"""Frames of reference: points that carry their frame, rigid transforms between frames, and poses.

Shapes: N points. A matrix is 4x4 and maps column vectors: a pose camera_to_world takes camera
coordinates to world coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscene.errors import InvalidInput

Floats = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
Order = Literal["row", "column"]

# Pose files hold six decimals, so a true rotation read from one is off by about 1e-6.
RIGID_TOLERANCE = 1e-3
QUATERNION_TOLERANCE = 1e-2
# Numbers of a quaternion below this are rounding, whose sign means nothing.
SIGN_BELOW = 1e-9


class Frame(StrEnum):
    """What coordinates are relative to."""

    RAW = "raw"
    """The sensor's world frame, the one that camera poses are in."""
    ALIGNED = "aligned"
    """Turned and shifted so that walls lie along x and y."""
    CANONICAL = "canonical"
    """The own frame of one CAD model."""


class UpAxis(StrEnum):
    """Axis that points up."""

    X = "x"
    Y = "y"
    Z = "z"


@dataclass(frozen=True, eq=False)
class Points:
    """Coordinates (N,3) in metres and the frame they are in; all finite."""

    xyz: Floats
    frame: Frame

    def __post_init__(self) -> None:
        require_finite(self.xyz, (None, 3), "points")

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Self:
        """The points at these indices, or where a mask (N,) is true."""
        return type(self)(self.xyz[rows], self.frame)


def require_finite(values: NDArray[Any], shape: tuple[int | None, ...], field: str) -> None:
    """Refuses what is not a finite float array of this shape; None stands for any length."""
    fits = values.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, values.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InvalidInput.at(field, f"shape {list(values.shape)}, needs [{wanted}]")
    if not np.issubdtype(values.dtype, np.floating):
        raise InvalidInput.at(field, f"type {values.dtype}, needs floating point")
    finite = np.isfinite(values)
    if not finite.all():
        first = [int(axis[0]) for axis in np.nonzero(~finite)]
        raise InvalidInput.at(field, f"{np.count_nonzero(~finite)} values are not finite, first at {first}")


def require_frame(points: Points, frame: Frame, field: str = "points") -> None:
    """Refuses points of any other frame."""
    if points.frame != frame:
        raise InvalidInput.at(field, f"in frame {points.frame}, needs {frame}")


def rigid(matrix: ArrayLike, field: str, *, tolerance: float = RIGID_TOLERANCE) -> Matrix:
    """The matrix as float64 (4,4); refuses all but a finite rotation and shift."""
    checked = np.asarray(matrix, dtype=np.float64)
    require_finite(checked, (4, 4), field)
    if np.abs(checked[3] - (0.0, 0.0, 0.0, 1.0)).max() > tolerance:
        raise InvalidInput.at(field, f"last row is {checked[3].tolist()}, needs [0, 0, 0, 1]")
    require_rotation(checked[:3, :3], field, tolerance=tolerance)
    return checked


def require_rotation(rotation: Matrix, field: str, *, tolerance: float = RIGID_TOLERANCE) -> None:
    """Refuses a finite (3,3) that scales, shears or mirrors."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if not error <= tolerance:
        raise InvalidInput.at(field, f"off a rotation by {error:.3g}, the tolerance is {tolerance:g}")
    if np.linalg.det(rotation) < 0:
        raise InvalidInput.at(field, "mirrors, needs a rotation")


def inverse(matrix: ArrayLike, field: str = "matrix") -> Matrix:
    """The transform back."""
    forward = rigid(matrix, field)
    back = np.eye(4)
    # Not the transpose: a rotation read from a text file is orthonormal to six decimals only.
    back[:3, :3] = np.linalg.inv(forward[:3, :3])
    back[:3, 3] = -back[:3, :3] @ forward[:3, 3]
    return back


def transform(points: Points, matrix: ArrayLike, *, frame: Frame, field: str = "matrix") -> Points:
    """Points moved by a rigid matrix, which takes them to this frame."""
    moved = apply(rigid(matrix, field), points.xyz)
    with np.errstate(over="ignore"):
        return Points(moved.astype(points.xyz.dtype, copy=False), frame)


def apply(matrix: Matrix, xyz: Floats) -> Matrix:
    """Coordinates (N,3) moved by a matrix that was checked before, in float64; may overflow to inf."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved: Matrix = xyz.astype(np.float64, copy=False) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def align(points: Points, axis_alignment: ArrayLike | None) -> Points:
    """Raw points in the aligned frame; None stands for the identity, of scans that come without."""
    require_frame(points, Frame.RAW)
    matrix = np.eye(4) if axis_alignment is None else axis_alignment
    return transform(points, matrix, frame=Frame.ALIGNED, field="axis_alignment")


def z_up_rotation(up: UpAxis) -> Matrix:
    """Rotation about one axis, (4,4), that turns the given axis up; camera poses need it as well."""
    rows = {
        UpAxis.X: ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
        UpAxis.Y: ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
        UpAxis.Z: ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    }
    matrix = np.eye(4)
    matrix[:3, :3] = rows[up]
    return matrix


def to_z_up(points: Points, up: UpAxis) -> Points:
    """The same points, in the same kind of frame, with z up."""
    return points if up == UpAxis.Z else transform(points, z_up_rotation(up), frame=points.frame)


def matrix_from_numbers(numbers: Sequence[float] | NDArray[Any], *, order: Order, field: str) -> Matrix:
    """A matrix from 16 numbers, row after row or column after column; may hold -inf, as lost poses do."""
    flat = np.asarray(numbers, dtype=np.float64)
    if flat.shape != (16,):
        raise InvalidInput.at(field, f"shape {list(flat.shape)}, needs [16]")
    rows = flat.reshape(4, 4)
    return rows.copy() if order == "row" else rows.T.copy()


def pose(
    position: ArrayLike,
    quaternion_xyzw: ArrayLike,
    field: str = "pose",
    *,
    tolerance: float = QUATERNION_TOLERANCE,
) -> Matrix:
    """The matrix (4,4) of a position (3,) and a unit quaternion (x, y, z, w)."""
    shift = np.asarray(position, dtype=np.float64)
    turn = np.asarray(quaternion_xyzw, dtype=np.float64)
    require_finite(shift, (3,), f"{field}.position")
    require_finite(turn, (4,), f"{field}.orientation")
    norm = math.hypot(*turn.tolist())
    if abs(norm - 1.0) > tolerance:
        raise InvalidInput.at(
            f"{field}.orientation", f"quaternion of norm {norm:.6g}, needs 1 within {tolerance:g}"
        )
    x, y, z, w = (turn / norm).tolist()
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    matrix[:3, 3] = shift
    return matrix


def position_and_quaternion(matrix: ArrayLike, field: str = "pose") -> tuple[Matrix, Matrix]:
    """Position (3,) and unit quaternion (x, y, z, w) of a rigid matrix; the last non-zero number is positive.

    A rotation has two quaternions, q and -q; fixing the sign makes the answer one.
    """
    checked = rigid(matrix, field)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = checked[:3, :3].tolist()
    # Four times the outer product of the quaternion with itself: each row is the quaternion
    # scaled by one of its own numbers, and the row of the largest number loses no digits.
    outer = np.array(
        (
            (1 + xx - yy - zz, yx + xy, zx + xz, zy - yz),
            (yx + xy, 1 - xx + yy - zz, zy + yz, xz - zx),
            (zx + xz, zy + yz, 1 - xx - yy + zz, yx - xy),
            (zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz),
        )
    )
    row = outer[outer.diagonal().argmax()]
    sign = np.sign(row[np.flatnonzero(np.abs(row) > SIGN_BELOW)[-1]])
    return checked[:3, 3].copy(), sign * row / np.linalg.norm(row)
