"""Voxels: points on an integer grid, means over voxels, and thinning to one point a voxel.

Shapes: N points, M voxels, C channels. Voxel (i, j, k) covers [i, i+1) * voxel_m along x, and so on;
the grid is anchored at the frame's origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Frame, Matrix, Points

# Three such extents still pack into one int64 key.
LARGEST_EXTENT_VOXELS = 1 << 21
DEFAULT_EXTENT_VOXELS = 1 << 16
LARGEST_COORDINATE = (1 << 31) - 1
MAX_TABLE_CELLS = 1 << 26


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels that hold points, ordered by x, then y, then z."""

    coordinates: NDArray[np.int32]
    """(M,3), each once."""
    inverse: NDArray[np.int64]
    """(N,), the voxel of each point."""
    first: NDArray[np.int64]
    """(M,), the first point of each voxel."""
    counts: NDArray[np.int64]
    """(M,), the points of each voxel, at least 1."""
    voxel_m: float
    frame: Frame

    def __len__(self) -> int:
        return len(self.coordinates)

    def centres(self) -> Points:
        """The middle of each voxel."""
        return Points((self.coordinates + 0.5) * self.voxel_m, self.frame)


@dataclass(frozen=True, eq=False)
class ThinnedCloud:
    """One point a voxel, in the order received."""

    points: Points
    """The kept points (M,3)."""
    colors: NDArray[Any] | None
    """Their colours (M,3), where there were any."""
    kept: NDArray[np.int64]
    """(M,), the index that each kept point had."""
    stand_in: NDArray[np.int64]
    """(N,), for each point received the index of the kept one of its voxel."""

    @property
    def num_received(self) -> int:
        """Points before thinning."""
        return len(self.stand_in)

    @property
    def num_kept(self) -> int:
        """Points after thinning."""
        return len(self.kept)


def voxelise(points: Points, voxel_m: float, *, max_extent_voxels: int = DEFAULT_EXTENT_VOXELS) -> Voxels:
    """The voxels of points; refuses a cloud that spans more voxels along an axis than the limit."""
    _check_settings(voxel_m, max_extent_voxels)
    if not len(points):
        none = np.zeros(0, dtype=np.int64)
        return Voxels(np.zeros((0, 3), dtype=np.int32), none, none, none, voxel_m, points.frame)
    low, extent = _grid(points, voxel_m, max_extent_voxels)
    # Column by column: the keys need no (N,3) array of integers.
    keys = np.zeros(len(points), dtype=np.int64)
    for axis in range(3):
        column = points.xyz[:, axis].astype(np.float64)
        keys *= extent[axis]
        keys += np.floor(column / voxel_m).astype(np.int64) - low[axis]
    first, inverse, counts = group(keys)
    coordinates = np.floor(points.xyz.take(first, axis=0).astype(np.float64) / voxel_m).astype(np.int32)
    return Voxels(coordinates, inverse, first, counts, voxel_m, points.frame)


def group(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Groups of equal keys (N,), in the order of the keys; no key is negative.

    Answers with the first place of each group (M,), the group of each place (N,), and the number of
    places of each group (M,).
    """
    num_cells = int(keys.max(initial=-1)) + 1
    if num_cells > MAX_TABLE_CELLS:
        return np.unique(keys, return_index=True, return_inverse=True, return_counts=True)[1:]
    # A table of all cells takes a sixth of the time of a sort, and rooms have few enough.
    is_taken = np.zeros(num_cells, dtype=np.bool_)
    is_taken[keys] = True
    cells = np.flatnonzero(is_taken)
    number = np.empty(num_cells, dtype=np.int32)
    number[cells] = np.arange(len(cells), dtype=np.int32)
    inverse = number[keys].astype(np.int64)
    first = np.empty(len(cells), dtype=np.int64)
    # From the last place to the first: what is written last stays.
    first[inverse[::-1]] = np.arange(len(keys))[::-1]
    return first, inverse, np.bincount(inverse, minlength=len(cells))


def _check_settings(voxel_m: float, max_extent_voxels: int) -> None:
    if not (math.isfinite(voxel_m) and voxel_m > 0):
        raise InvalidInput.at("voxel_m", f"{voxel_m}, needs a finite number above 0")
    if not 1 <= max_extent_voxels <= LARGEST_EXTENT_VOXELS:
        raise InvalidInput.at("max_extent_voxels", f"{max_extent_voxels}, needs 1 to {LARGEST_EXTENT_VOXELS}")


def _grid(points: Points, voxel_m: float, max_extent_voxels: int) -> tuple[list[int], tuple[int, ...]]:
    """Lowest voxel and number of voxels along each axis, from the extremes alone."""
    # Column by column: many times as fast as numpy's extremes along the long axis.
    columns = [points.xyz[:, axis] for axis in range(3)]
    with np.errstate(over="ignore"):
        low, high = (
            np.floor(np.array([reduce(column) for column in columns], dtype=np.float64) / voxel_m)
            for reduce in (np.min, np.max)
        )
    farthest = float(max(np.abs(low).max(), np.abs(high).max()))
    if farthest > LARGEST_COORDINATE:
        raise LimitExceeded.of(
            "points", value=farthest, limit=LARGEST_COORDINATE, unit=f"voxels of {voxel_m} m from the origin"
        )
    extent = tuple(int(count) for count in high - low + 1)
    for axis, count in zip("xyz", extent, strict=True):
        if count > max_extent_voxels:
            raise LimitExceeded.of(
                "points", value=count, limit=max_extent_voxels, unit=f"voxels of {voxel_m} m along {axis}"
            )
    return [int(corner) for corner in low], extent


def mean_per_voxel(voxels: Voxels, values: NDArray[Any]) -> Matrix:
    """Means (M,C) of the values (N,C) of each voxel's points, summed in float64."""
    if values.ndim != 2 or len(values) != len(voxels.inverse):
        raise InvalidInput.at("values", f"shape {list(values.shape)}, needs [{len(voxels.inverse)}, any]")
    sums = np.empty((len(voxels), values.shape[1]))
    for channel in range(values.shape[1]):
        sums[:, channel] = np.bincount(voxels.inverse, weights=values[:, channel], minlength=len(voxels))
    sums /= voxels.counts[:, None]
    return sums


def thin(
    points: Points,
    colors: NDArray[Any] | None,
    voxel_m: float,
    *,
    max_extent_voxels: int = DEFAULT_EXTENT_VOXELS,
) -> ThinnedCloud:
    """The first point of each voxel, and its colour (N,3); the kept points keep their order."""
    if colors is not None and colors.shape != (len(points), 3):
        raise InvalidInput.at("colors", f"shape {list(colors.shape)}, needs [{len(points)}, 3]")
    voxels = voxelise(points, voxel_m, max_extent_voxels=max_extent_voxels)
    order = np.argsort(voxels.first)
    kept = voxels.first[order]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return ThinnedCloud(
        points=points.take(kept),
        colors=None if colors is None else colors[kept],
        kept=kept,
        stand_in=place[voxels.inverse],
    )
