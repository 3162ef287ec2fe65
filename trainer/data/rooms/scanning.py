"""A scan as a depth camera makes it: noise and holes, fused to a coloured cloud and a mesh with instances.

Shapes: H and W pixels, P points, V vertices, F faces.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms.rendering import Frame as View
from trainer.data.rooms.shapes import distinct_faces
from trainer.data.rooms.streams import Stream
from xscene.geometry.frames import Frame, Matrix, Points
from xscene.geometry.projection import Intrinsics
from xscene.geometry.voxels import group, mean_per_voxel, voxelise

SEGMENT_M = 0.5
CHANCES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Faults of a depth camera."""

    range_m: tuple[float, float] = (0.35, 5.0)
    noise_m: float = 0.0012
    noise_per_m2: float = 0.0012
    """Added noise for each square metre of the distance beyond 0.4 m."""
    drop_share: float = 0.02
    hole_share: float = 0.02
    """Share of blocks of hole_px pixels that are lost whole."""
    hole_px: int = 8
    glass_drop_share: float = 0.9
    max_slope: float = 0.12
    """Largest step to the next pixel, as a share of the depth; beyond it, edges lose their pixels."""


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How depth becomes a cloud."""

    voxel_m: float = 0.02
    min_points: int = 2
    """Voxels with fewer points are noise."""
    mesh_stride_px: int = 2
    max_step: float = 0.06
    """Largest difference of depth across a face, as a share of the depth."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A fused scan: vertices (V,3) in metres, colours (V,3), object ids (V,), segments (V,), faces (F,3)."""

    vertices: NDArray[np.float32]
    colors: NDArray[np.uint8]
    objects: NDArray[np.int32]
    segments: NDArray[np.int32]
    faces: NDArray[np.int32]


def measured(rng: Stream, view: View, sensor: Sensor, glass: Collection[int]) -> NDArray[np.float32]:
    """Depth (H,W) in metres as the sensor gives it, in whole millimetres; 0 where it gives none."""
    depth = view.depth
    height, width = depth.shape
    spread = sensor.noise_m + sensor.noise_per_m2 * np.square(np.maximum(depth - 0.4, 0.0))
    # Drawn from a table in a fifth of the time; steps are far below the millimetre that is kept.
    noisy = depth + spread * _normal_quantiles()[rng.integers(CHANCES, size=depth.shape, dtype=np.uint16)]
    blocks = rng.random((-(-height // sensor.hole_px), -(-width // sensor.hole_px)), dtype=np.float32)
    holes = np.repeat(np.repeat(blocks < sensor.hole_share, sensor.hole_px, 0), sensor.hole_px, 1)
    lost = holes[:height, :width] | (depth < sensor.range_m[0]) | (depth > sensor.range_m[1])
    drop_share = np.full(int(view.ids.max()) + 1, sensor.drop_share)
    drop_share[[each for each in glass if each < len(drop_share)]] = sensor.glass_drop_share
    chances = rng.integers(CHANCES, size=depth.shape, dtype=np.uint16)
    lost |= chances < (drop_share * CHANCES).astype(np.uint16)[view.ids]
    lost |= _edges(depth, sensor.max_slope)
    millimetres = np.rint(noisy * 1000)
    return np.asarray(np.where(lost, 0.0, millimetres / 1000), dtype=np.float32)


@functools.cache
def _normal_quantiles() -> NDArray[np.float32]:
    """As many numbers as there are chances, spread as a normal distribution is."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((at + 0.5) / CHANCES) for at in range(CHANCES)], dtype=np.float32)


def _edges(depth: NDArray[np.float32], max_slope: float) -> NDArray[np.bool_]:
    """Pixels that differ from the one to the right or below by more than a share of their depth."""
    found = np.zeros(depth.shape, dtype=np.bool_)
    found[:, :-1] |= np.abs(np.diff(depth, axis=1)) > max_slope * depth[:, :-1]
    found[:-1] |= np.abs(np.diff(depth, axis=0)) > max_slope * depth[:-1]
    return found


def fuse(
    views: Sequence[View],
    depths: Sequence[NDArray[np.float32]],
    poses: Sequence[Matrix],
    intrinsics: Intrinsics,
    settings: Fusion,
) -> Scan:
    """One vertex a voxel, at the mean of its points and in their mean colour; faces where pixels adjoin."""
    rows, columns = np.indices(depths[0].shape)
    # Every second pixel carries as much as is needed, at half the work.
    board = (rows + columns) % 2 == 0
    seen = [np.flatnonzero((depth > 0) & board) for depth in depths]
    rays = _rays(intrinsics).reshape(-1, 3)
    clouds = [
        (rays[at] * depth.reshape(-1, 1)[at]) @ pose[:3, :3].T.astype(np.float32)
        + pose[:3, 3].astype(np.float32)
        for at, depth, pose in zip(seen, depths, poses, strict=True)
    ]
    points = Points(np.concatenate(clouds), Frame.RAW)
    voxels = voxelise(points, settings.voxel_m)
    colors = np.concatenate([view.rgb.reshape(-1, 3)[at] for view, at in zip(views, seen, strict=True)])
    ids = np.concatenate([view.ids.reshape(-1)[at] for view, at in zip(views, seen, strict=True)])
    kept = voxels.counts >= settings.min_points
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    vertices = mean_per_voxel(voxels, points.xyz)[kept].astype(np.float32)
    objects = ids[voxels.first[kept]].astype(np.int32) - 1
    return Scan(
        vertices,
        mean_per_voxel(voxels, colors)[kept].round().astype(np.uint8),
        objects,
        _segments(vertices, objects),
        _faces(depths, seen, number[voxels.inverse], settings),
    )


def _rays(intrinsics: Intrinsics) -> NDArray[np.float32]:
    """Points (H,W,3) at depth 1 of each pixel."""
    rows, columns = np.indices((intrinsics.height, intrinsics.width))
    x, y = (columns - intrinsics.cx) / intrinsics.fx, (rows - intrinsics.cy) / intrinsics.fy
    return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


def _faces(
    depths: Sequence[NDArray[np.float32]],
    seen: Sequence[NDArray[np.intp]],
    vertex_of_point: NDArray[np.int64],
    settings: Fusion,
) -> NDArray[np.int32]:
    """Triangles between neighbouring pixels whose depths are close, by the vertices they fell to."""
    step, start = settings.mesh_stride_px, 0
    grids = np.full((len(depths), *depths[0][::step, ::step].shape), -1, dtype=np.int64)
    for grid, pixels in zip(grids, seen, strict=True):
        vertices = np.full(depths[0].shape, -1, dtype=np.int64)
        vertices.reshape(-1)[pixels] = vertex_of_point[start : start + len(pixels)]
        start += len(pixels)
        grid[:] = vertices[::step, ::step]
    z = np.stack([depth[::step, ::step] for depth in depths])
    here, right, below, across = (
        (slice(None), slice(row, row - 1 or None), slice(column, column - 1 or None))
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    found = []
    for triangle in ((here, below, right), (right, below, across)):
        near = [z[corner] for corner in triangle]
        low, high = np.minimum.reduce(near), np.maximum.reduce(near)
        corners = [grids[corner] for corner in triangle]
        kept = (high - low < settings.max_step * high) & (np.minimum.reduce(corners) >= 0)
        found.append(np.stack([corner[kept] for corner in corners], axis=1))
    return distinct_faces(np.concatenate(found))


def _segments(vertices: NDArray[np.float32], objects: NDArray[np.int32]) -> NDArray[np.int32]:
    """Over-segments (V,): parts of one object that lie in one coarse cell."""
    cells = np.floor(vertices / SEGMENT_M).astype(np.int64)
    keys = objects.astype(np.int64)
    for column in (cells - cells.min(axis=0)).T:
        keys = keys * (int(column.max()) + 1) + column
    _, segments, _ = group(keys - keys.min(initial=0))
    return segments.astype(np.int32)
