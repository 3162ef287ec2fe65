"""Clouds and objects before the network: voxels, normalised points, and every fault by name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders_3d import prepare
from encoders_3d.prepare import (
    LATTICE_VOXELS,
    MAX_CANDIDATES,
    coarser,
    decode_clouds,
    decode_objects,
    object_points,
)
from tests.points import CLOUDS, OBJECTS, blob, room
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Frame, Points
from xscene.geometry.selection import farthest_point_sample
from xscene.geometry.voxels import thin

VOXEL_M = 0.1
XYZ, COLORS = room(600)


def slow_voxels(xyz: np.ndarray, colors: np.ndarray) -> dict[tuple[int, ...], tuple[int, ...]]:
    """The colour of the first point of each voxel."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for point, color in zip(xyz.astype(np.float64), colors, strict=True):
        found.setdefault(tuple(math.floor(v / VOXEL_M) for v in point), tuple(color.tolist()))
    return found


def as_dict(cloud) -> dict[tuple[int, ...], tuple[int, ...]]:
    rows = zip(cloud.coordinates.tolist(), cloud.colors.tolist(), strict=True)
    return {tuple(place): tuple(color) for place, color in rows}


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 9), st.tuples(*[st.integers(-40, 40)] * 3))
def test_voxels_are_those_found_the_slow_way_up_to_the_lattice(num_points, seed, shift):
    xyz, colors = room(num_points, seed)
    xyz = xyz + np.array(shift, np.float32)
    (cloud,) = decode_clouds(xyz, colors, None, VOXEL_M, CLOUDS)
    wanted = slow_voxels(xyz, colors)
    corner = [min(place[axis] for place in wanted) // LATTICE_VOXELS * LATTICE_VOXELS for axis in range(3)]
    moved = {
        tuple(v - c for v, c in zip(place, corner, strict=True)): color for place, color in wanted.items()
    }
    assert as_dict(cloud) == moved
    assert (cloud.coordinates.min(axis=0) >= 0).all()
    assert (cloud.coordinates.min(axis=0) < LATTICE_VOXELS).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 9))
def test_clouds_of_a_request_are_what_each_is_alone(sizes, seed):
    xyz, colors = room(sum(sizes), seed)
    ends = np.cumsum(sizes).astype(np.int32)
    found = decode_clouds(xyz, colors, ends, VOXEL_M, CLOUDS)
    for cloud, start, end in zip(found, [0, *ends[:-1]], ends, strict=True):
        (alone,) = decode_clouds(xyz[start:end], colors[start:end], None, VOXEL_M, CLOUDS)
        np.testing.assert_array_equal(cloud.coordinates, alone.coordinates)
        np.testing.assert_array_equal(cloud.colors, alone.colors)


def test_a_cloud_that_was_thinned_before_is_the_same_cloud():
    thinned = thin(Points(XYZ, Frame.RAW), COLORS, VOXEL_M)
    assert len(thinned.points) < len(XYZ)
    (whole,) = decode_clouds(XYZ, COLORS, None, VOXEL_M, CLOUDS)
    (kept,) = decode_clouds(thinned.points.xyz, thinned.colors, None, VOXEL_M, CLOUDS)
    assert as_dict(whole) == as_dict(kept)


def test_a_cloud_without_colours_has_none():
    (cloud,) = decode_clouds(XYZ, None, None, VOXEL_M, CLOUDS)
    assert cloud.colors is None


NAN = XYZ.copy()
NAN[17, 2] = np.nan
FAR = XYZ.copy()
FAR[250] = (200.0, 0, 0)
ENDS = "cloud_ends"


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("xyz", "colors", "ends", "message"),
    [
        (XYZ[:0], None, None, "points: is empty, at least one point is needed"),
        (XYZ, None, ints(), f"{ENDS}: is empty, at least one cloud is needed"),
        (XYZ, None, ints(100, 200, 300, 400, 600), f"{ENDS}: 5 clouds, the limit is 4"),
        (XYZ, None, ints(300, 300, 600), f"{ENDS}[1]: 300, needs more than 300: a cloud holds at least"),
        (XYZ, None, ints(-1, 600), f"{ENDS}[0]: -1, needs more than 0"),
        (XYZ, None, ints(700), f"{ENDS}[0]: 700, there are 600 points"),
        (XYZ, None, ints(300, 500), f"{ENDS}[1]: 500, the last cloud must end at 600"),
        (XYZ, COLORS[:-1], None, "colors: 599 rows, points have 600"),
        (NAN, None, None, "points: 1 values are not finite, first at [17, 2]"),
        (FAR, None, ints(200, 600), f"cloud[1]: 2001 voxels of {VOXEL_M} m along x, the limit is 1000"),
        (XYZ * np.float32(1e38), None, None, "cloud[0]: "),
        (np.zeros((20_001, 3), np.float32), None, None, "points: 20001 points, the limit is 20000"),
    ],
)
def test_a_faulty_cloud_is_named(xyz, colors, ends, message):
    with pytest.raises(InvalidInput) as caught, np.errstate(over="ignore"):
        decode_clouds(xyz, colors, ends, VOXEL_M, CLOUDS)
    assert caught.value.message.startswith(message)
    assert caught.value.violations[0].field == message.partition(":")[0]


def test_too_many_voxels_are_refused_with_the_voxel_size():
    limits = replace(CLOUDS, max_voxels=10)
    with pytest.raises(LimitExceeded, match=r"cloud\[0\]: \d+ voxels of 0.1 m, the limit is 10"):
        decode_clouds(XYZ, None, None, VOXEL_M, limits)


@given(st.integers(1, 200), st.integers(0, 9), st.integers(1, 70_000), st.sampled_from([1, 2, 3, 16]))
def test_coarser_cells_are_those_found_the_slow_way(num_cells, seed, extent, factor):
    cells = np.random.default_rng(seed).integers(0, extent, (num_cells, 3), np.int32)
    found = coarser(cells, factor)
    assert found.dtype == np.int32
    assert [tuple(cell) for cell in found.tolist()] == sorted(
        {tuple(v // factor for v in cell) for cell in cells.tolist()}
    )


@settings(deadline=None)
@given(st.integers(32, 300), st.integers(0, 99), st.sampled_from([64, 128]))
def test_objects_come_as_points_of_their_own_in_the_unit_sphere(num_given, seed, num_points):
    xyz = blob(num_given, seed)
    found = object_points(xyz, num_points)
    assert found.shape == (num_points, 3)
    assert found.dtype == np.float32
    wide = xyz.astype(np.float64)
    start = int(np.linalg.norm(wide - wide.mean(axis=0), axis=1).argmax())
    wanted = wide[farthest_point_sample(wide, num_points, start=start, repeat=True)]
    wanted -= wanted.mean(axis=0)
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted, axis=1).max(), atol=1e-6)
    assert np.linalg.norm(found, axis=1).max() == pytest.approx(1.0, abs=1e-6)


@settings(deadline=None)
@given(st.integers(32, 300), st.integers(0, 99))
def test_neither_the_order_nor_the_place_nor_the_size_of_an_object_matters(num_given, seed):
    xyz = blob(num_given, seed).astype(np.float64)
    order = np.random.default_rng(seed).permutation(num_given)
    np.testing.assert_allclose(object_points(xyz[order], 64), object_points(xyz, 64), atol=1e-6)
    np.testing.assert_allclose(object_points(xyz * 8 + (1, 2, 3), 64), object_points(xyz, 64), atol=1e-6)


def test_farthest_points_cover_an_object_whose_points_are_crowded():
    corners = np.eye(3, dtype=np.float32)
    crowded = np.concatenate([blob(2000) * np.float32(1e-3), corners])
    found = object_points(crowded, 4)
    apart = np.linalg.norm(found[:, None] - found, axis=-1)[np.triu_indices(4, 1)]
    assert apart.min() > 0.9


def test_very_many_points_are_drawn_from_and_always_alike():
    xyz = blob(3 * MAX_CANDIDATES)
    np.testing.assert_array_equal(object_points(xyz, 64), object_points(xyz.copy(), 64))


def many(num_objects: int, num_points: int) -> np.ndarray:
    return np.stack([blob(num_points, seed) for seed in range(num_objects)])


@pytest.mark.parametrize(("num_given", "most"), [(40, 70), (1024, 32), (2 * MAX_CANDIDATES, 4)])
def test_objects_of_a_request_are_looked_at_together_and_are_what_each_is_alone(monkeypatch, num_given, most):
    sizes, real = [], prepare.farthest_points

    def counted(given, *rest):
        sizes.append(len(given))
        return real(given, *rest)

    monkeypatch.setattr(prepare, "farthest_points", counted)
    objects = many(most, num_given)
    # Two more than go together.
    xyz = np.concatenate([objects, objects[:2]])
    found = decode_objects(xyz, None, 64, replace(OBJECTS, max_objects=99, max_points=1 << 20))
    assert sizes == ([most + 2] if num_given == 40 else [most, 2])
    for one, given_ in zip(found, xyz, strict=True):
        np.testing.assert_array_equal(one, object_points(given_, 64))


BAD = many(3, 40)
BAD[2, 5, 1] = np.inf
SAME = many(2, 40)
SAME[1] = 7.0


@pytest.mark.parametrize(
    ("xyz", "colors", "message"),
    [
        (many(1, 40)[:0], None, "points: is empty, at least one object is needed"),
        (many(5, 40), None, "points: 5 objects, the limit is 4"),
        (many(1, 31), None, "points: 31 points an object, at least 32 are needed"),
        (many(1, 40)[:, :0], None, "points: 0 points an object, at least 32 are needed"),
        (BAD, None, "points[2]: holds numbers that are not finite"),
        (SAME, None, "points[1]: all points lie within 1e-06 m of each other"),
        (many(2, 40), np.zeros((2, 39, 3), np.uint8), "colors: shape [2, 39, 3], points have [2, 40, 3]"),
        (np.zeros((3, 7000, 3), np.float32), None, "points: 21000 points of all objects, the limit is 20000"),
    ],
)
def test_a_faulty_object_is_named(xyz, colors, message):
    with pytest.raises(InvalidInput) as caught:
        decode_objects(xyz, colors, 64, OBJECTS)
    assert caught.value.message == message
