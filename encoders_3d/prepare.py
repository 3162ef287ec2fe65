"""Clouds and objects as they come: their checks, the voxels of clouds, the points of objects."""

# P points of a request, N clouds or objects, K points of an object, V voxels of a cloud, C channels

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders_3d.grouping import farthest_points, rows_at
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Frame, Points, require_finite
from xscene.geometry.voxels import voxelise
from xscene.nn.groups import Ends

POINTS, COLORS, CLOUD_ENDS = "points", "colors", "cloud_ends"
CLOUDS = Ends(field=CLOUD_ENDS, group="cloud", item="point")
# Clouds move by whole multiples, which leaves every coarser lattice of the network where it was.
LATTICE_VOXELS = 192
# Three coordinates in one number of 63.
AXIS_BITS = 21
# Of objects with more points, so many are drawn before farthest points are looked for.
MAX_CANDIDATES = 8192
SEED = 0
# Farthest points of several objects are looked for together, as many as fit into so many bytes: more
# neither stay in a core's cache nor are one thread's work to torch.
GROUP_BYTES = 4 << 20
# Three coordinates given and around their mean, three squares, their sums and the least so far.
POINT_BYTES = 16 * 8
MIN_RADIUS_M = 1e-6

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class CloudLimits:
    """Sizes past which clouds are refused."""

    max_clouds: int
    max_points: int
    max_voxels: int
    max_extent_voxels: int


@dataclass(frozen=True, kw_only=True)
class ObjectLimits:
    """Sizes past which objects are refused."""

    max_objects: int
    max_points: int
    min_object_points: int


@dataclass(frozen=True, eq=False)
class VoxelCloud:
    """A cloud of one point a voxel."""

    coordinates: NDArray[np.int32]
    """(V,3), near the origin."""
    colors: Bytes | None
    """(V,3) of the first point of each voxel; None where the cloud has none."""

    def __len__(self) -> int:
        return len(self.coordinates)


def decode_clouds(
    xyz_P3: Floats,
    colors_P3: Bytes | None,
    cloud_ends: NDArray[np.int32] | None,
    voxel_m: float,
    limits: CloudLimits,
) -> list[VoxelCloud]:
    """The clouds of a request as voxels; a fault is named by its cloud."""
    if len(xyz_P3) > limits.max_points:
        raise LimitExceeded.of(POINTS, value=len(xyz_P3), limit=limits.max_points, unit="points")
    if colors_P3 is not None and len(colors_P3) != len(xyz_P3):
        raise InvalidInput.at(COLORS, f"{len(colors_P3)} rows, points have {len(xyz_P3)}")
    if not len(xyz_P3):
        raise InvalidInput.at(POINTS, "is empty, at least one point is needed")
    ends = [len(xyz_P3)]
    if cloud_ends is not None:
        ends = CLOUDS.decode(cloud_ends, len(xyz_P3), max_groups=limits.max_clouds)
    require_finite(xyz_P3, (None, 3), POINTS)
    clouds = []
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        colors = None if colors_P3 is None else colors_P3[start:end]
        with at_item(f"cloud[{number}]"):
            clouds.append(voxel_cloud(xyz_P3[start:end], colors, voxel_m, limits))
    return clouds


def voxel_cloud(
    xyz_P3: NDArray[Any], colors_P3: Bytes | None, voxel_m: float, limits: CloudLimits
) -> VoxelCloud:
    """The voxels of one cloud; the first point of each gives its colour, as thinning keeps that one."""
    points = Points(xyz_P3, Frame.RAW)
    voxels = voxelise(points, voxel_m, max_extent_voxels=limits.max_extent_voxels)
    if len(voxels) > limits.max_voxels:
        unit = f"voxels of {voxel_m} m"
        raise LimitExceeded.of(POINTS, value=len(voxels), limit=limits.max_voxels, unit=unit)
    # Column by column, and `take`: many times as fast as numpy's other ways along the long axis.
    lowest = np.array([voxels.coordinates[:, axis].min() for axis in range(3)], dtype=np.int32)
    colors = None if colors_P3 is None else colors_P3.take(voxels.first, axis=0)
    corner = lowest // LATTICE_VOXELS * LATTICE_VOXELS
    return VoxelCloud(voxels.coordinates - corner, colors)


def coarser(cells_V3: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    """The distinct cells so many times as wide that hold these, which are none below 0."""
    keys = np.zeros(len(cells_V3), np.int64)
    for axis in range(3):
        keys <<= AXIS_BITS
        keys += cells_V3[:, axis] // factor
    # Neighbours along z share a cell: dropping repeats first leaves less to sort.
    keys = _without_repeats(keys)
    keys.sort(kind="stable")
    keys = _without_repeats(keys)
    shifts, mask = (2 * AXIS_BITS, AXIS_BITS, 0), (1 << AXIS_BITS) - 1
    return np.column_stack([(keys >> bits & mask).astype(np.int32) for bits in shifts])


def _without_repeats(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The keys but those that the one in front repeats; none is negative."""
    return keys[np.flatnonzero(np.diff(keys, prepend=-1))]


def decode_objects(
    xyz_NK3: Floats, colors_NK3: Bytes | None, num_points: int, limits: ObjectLimits
) -> list[Floats]:
    """The objects of a request, each as `num_points` points in the unit sphere."""
    num_objects, num_given = xyz_NK3.shape[:2]
    if not num_objects:
        raise InvalidInput.at(POINTS, "is empty, at least one object is needed")
    if num_objects > limits.max_objects:
        raise LimitExceeded.of(POINTS, value=num_objects, limit=limits.max_objects, unit="objects")
    if num_objects * num_given > limits.max_points:
        unit = "points of all objects"
        raise LimitExceeded.of(POINTS, value=num_objects * num_given, limit=limits.max_points, unit=unit)
    if num_given < limits.min_object_points:
        least = f"at least {limits.min_object_points} are needed"
        raise InvalidInput.at(POINTS, f"{num_given} points an object, {least}")
    if colors_NK3 is not None and colors_NK3.shape != xyz_NK3.shape:
        raise InvalidInput.at(COLORS, f"shape {list(colors_NK3.shape)}, points have {list(xyz_NK3.shape)}")
    for number in np.flatnonzero(~np.isfinite(xyz_NK3).all(axis=(1, 2))).tolist():
        raise InvalidInput.at(f"{POINTS}[{number}]", "holds numbers that are not finite")
    size = max(1, GROUP_BYTES // (min(num_given, MAX_CANDIDATES) * POINT_BYTES))
    found: list[Floats] = []
    for start in range(0, num_objects, size):
        covers = _covers(xyz_NK3[start : start + size], num_points)
        for number, cover in enumerate(covers, start):
            with at_item(f"{POINTS}[{number}]"):
                found.append(_in_unit_sphere(cover))
    return found


def object_points(xyz_K3: NDArray[Any], num_points: int) -> Floats:
    """Points that cover an object, in the unit sphere around their mean.

    They are farthest points, the first being the farthest from the mean of all, so that the order of
    the points given changes nothing. Fewer points than wanted come again in the same order.
    """
    return _in_unit_sphere(_covers(xyz_K3[None], num_points)[0])


def _covers(xyz_NK3: NDArray[Any], num_points: int) -> NDArray[np.float64]:
    """Farthest points of several objects, looked for together, each object around its mean."""
    wide = np.asarray(xyz_NK3, np.float64)
    if wide.shape[1] > MAX_CANDIDATES:
        rows = np.random.default_rng(SEED).choice(wide.shape[1], MAX_CANDIDATES, replace=False)
        wide = wide[:, np.sort(rows)]
    with np.errstate(over="ignore", invalid="ignore"):
        # One by one: over several objects numpy might add up in another order.
        wide = np.stack([each - each.mean(axis=0) for each in wide])
        start = torch.from_numpy(np.square(wide).sum(axis=2).argmax(axis=1))
        given = torch.from_numpy(wide)
        found: NDArray[np.float64] = rows_at(given, farthest_points(given, num_points, start)).numpy()
    return found


def _in_unit_sphere(chosen_K3: NDArray[np.float64]) -> Floats:
    """The points around their mean, the farthest at 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        around: NDArray[np.float64] = chosen_K3 - chosen_K3.mean(axis=0)
        radius_m = float(np.sqrt(np.square(around).sum(axis=1).max()))
    if not np.isfinite(radius_m):
        raise InvalidInput.at(POINTS, "are too far apart for their distance to be a number")
    if radius_m < MIN_RADIUS_M:
        raise InvalidInput.at(POINTS, f"all points lie within {MIN_RADIUS_M:g} m of each other")
    return (around / radius_m).astype(np.float32)


@contextlib.contextmanager
def at_item(field: str) -> Iterator[None]:
    """Name the item in front of what is wrong with it."""
    try:
        yield
    except InvalidInput as error:
        wrong = error.violations[0].description if error.violations else error.message
        raise type(error).at(field, wrong) from error
