"""Voxels: against a dictionary filled point by point, and the limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Frame, Points
from xscene.geometry.voxels import (
    LARGEST_EXTENT_VOXELS,
    MAX_TABLE_CELLS,
    group,
    mean_per_voxel,
    thin,
    voxelise,
)

clouds = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(-2, 2, width=32)
)
voxel_sizes = st.sampled_from([0.02, 0.1, 0.5, 1.0, 3.0])


def raw(xyz, dtype=np.float64):
    return Points(np.array(xyz, dtype=dtype).reshape(-1, 3), Frame.RAW)


def voxelise_slowly(xyz, voxel_m):
    """Voxel to the indices of its points, in the order of voxels."""
    members = {}
    for index, point in enumerate(xyz):
        members.setdefault(tuple(math.floor(float(value) / voxel_m) for value in point), []).append(index)
    return dict(sorted(members.items()))


@settings(deadline=None)
@given(clouds, voxel_sizes)
def test_voxels_equal_those_found_point_by_point(xyz, voxel_m):
    voxels = voxelise(Points(xyz, Frame.ALIGNED), voxel_m)
    expected = voxelise_slowly(xyz, voxel_m)
    assert [tuple(row) for row in voxels.coordinates.tolist()] == list(expected)
    assert voxels.first.tolist() == [members[0] for members in expected.values()]
    assert voxels.counts.tolist() == [len(members) for members in expected.values()]
    assert voxels.coordinates.dtype == np.int32
    assert voxels.frame is Frame.ALIGNED


@settings(deadline=None)
@given(clouds, voxel_sizes)
def test_the_inverse_map_leads_each_point_to_its_voxel(xyz, voxel_m):
    voxels = voxelise(Points(xyz, Frame.RAW), voxel_m)
    rebuilt = voxels.coordinates[voxels.inverse]
    assert np.array_equal(rebuilt, np.floor(xyz.astype(np.float64) / voxel_m))
    assert np.array_equal(voxels.inverse[voxels.first], np.arange(len(voxels)))
    offset = xyz - voxels.centres().xyz[voxels.inverse]
    assert np.all(np.abs(offset) <= voxel_m / 2 * (1 + 1e-6))


@settings(deadline=None)
@given(clouds, st.randoms())
def test_the_order_of_points_changes_no_voxel(xyz, random):
    random.shuffle(order := list(range(len(xyz))))
    shuffled = xyz[order]
    first, second = (voxelise(Points(rows, Frame.RAW), 0.5) for rows in (xyz, shuffled))
    assert np.array_equal(first.coordinates, second.coordinates)
    assert np.array_equal(first.counts, second.counts)


def test_negative_coordinates_go_down_not_towards_zero():
    voxels = voxelise(raw([(-0.01, 0.01, -0.5), (-0.5, -0.51, 0.99)]), 0.5)
    assert voxels.coordinates[voxels.inverse].tolist() == [[-1, 0, -1], [-1, -2, 1]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_coordinates_never_become_voxels(value):
    with pytest.raises(InvalidInput, match=r"points: 1 values are not finite, first at \[1, 2\]"):
        voxelise(raw([(0, 0, 0), (0, 0, value)]), 0.1)


@pytest.mark.parametrize(("axis", "name"), list(enumerate("xyz")))
def test_a_cloud_that_spans_too_many_voxels_is_refused(axis, name):
    xyz = np.zeros((2, 3))
    xyz[1, axis] = 10.0
    assert len(voxelise(raw(xyz), 1.0, max_extent_voxels=11)) == 2
    with pytest.raises(LimitExceeded) as caught:
        voxelise(raw(xyz), 1.0, max_extent_voxels=10)
    assert caught.value.message == f"points: 11 voxels of 1.0 m along {name}, the limit is 10"
    assert caught.value.violations[0].field == "points"


def test_a_cloud_of_the_largest_extent_keeps_its_voxels_apart():
    far = float(LARGEST_EXTENT_VOXELS - 1)
    corners = [(x, y, z) for x in (0, far) for y in (0, far) for z in (0, far)]
    voxels = voxelise(raw(corners), 1.0, max_extent_voxels=LARGEST_EXTENT_VOXELS)
    assert voxels.coordinates.tolist() == [[int(value) for value in corner] for corner in corners]


def test_a_small_cloud_may_lie_far_from_the_origin():
    assert voxelise(raw([(5e6, -5e6, 0)]), 0.02).coordinates.tolist() == [[250_000_000, -250_000_000, 0]]


@pytest.mark.parametrize(
    ("xyz", "voxel_m"), [((5e9, 0, 0), 1.0), ((-5e9, 0, 0), 1.0), ((1e300, 0, 0), 1e-300)]
)
def test_coordinates_past_32_bits_are_refused(xyz, voxel_m):
    with pytest.raises(LimitExceeded, match=r"points: .* m from the origin, the limit is 2147483647"):
        voxelise(raw(xyz), voxel_m)


@pytest.mark.parametrize("voxel_m", [0.0, -0.02, math.nan, math.inf])
def test_a_voxel_size_that_cannot_be_right_is_named(voxel_m):
    with pytest.raises(InvalidInput, match=f"voxel_m: {voxel_m}"):
        voxelise(raw([(0, 0, 0)]), voxel_m)


@pytest.mark.parametrize("limit", [0, LARGEST_EXTENT_VOXELS + 1])
def test_an_extent_limit_that_cannot_be_kept_is_named(limit):
    with pytest.raises(InvalidInput, match=f"max_extent_voxels: {limit}, needs 1 to 2097152"):
        voxelise(raw([(0, 0, 0)]), 0.1, max_extent_voxels=limit)


def test_no_points_fill_no_voxels():
    voxels = voxelise(raw([]), 0.1)
    assert voxels.coordinates.shape == (0, 3)
    assert mean_per_voxel(voxels, np.zeros((0, 2))).shape == (0, 2)
    assert thin(raw([]), None, 0.1).num_kept == 0


def test_values_are_averaged_over_the_points_of_a_voxel():
    rng = np.random.default_rng(2)
    xyz, values = rng.uniform(-1, 1, (300, 3)), rng.integers(0, 255, (300, 4)).astype(np.uint8)
    means = mean_per_voxel(voxelise(raw(xyz), 0.5), values)
    for mean, members in zip(means, voxelise_slowly(xyz, 0.5).values(), strict=True):
        for channel in range(4):
            total = sum(int(values[index, channel]) for index in members)
            assert mean[channel] == pytest.approx(total / len(members))


def test_values_of_another_cloud_are_not_averaged():
    with pytest.raises(InvalidInput, match=r"values: shape \[2, 1\], needs \[1, any\]"):
        mean_per_voxel(voxelise(raw([(0, 0, 0)]), 0.5), np.zeros((2, 1)))


def test_thinning_keeps_the_first_point_of_each_voxel_in_order():
    points = raw([(5, 0, 0), (0.1, 0, 0), (5.2, 0, 0), (0.2, 0, 0), (-3, 0, 0)])
    colors = np.arange(15, dtype=np.uint8).reshape(5, 3)
    thinned = thin(points, colors, 1.0)
    assert thinned.kept.tolist() == [0, 1, 4]
    assert thinned.points.xyz[:, 0].tolist() == [5, 0.1, -3]
    assert thinned.points.frame is Frame.RAW
    assert thinned.colors.tolist() == colors[[0, 1, 4]].tolist()
    assert thinned.stand_in.tolist() == [0, 1, 0, 1, 2]
    assert (thinned.num_kept, thinned.num_received) == (3, 5)


@settings(deadline=None)
@given(clouds, voxel_sizes)
def test_thinning_again_changes_nothing(xyz, voxel_m):
    once = thin(Points(xyz, Frame.RAW), None, voxel_m)
    twice = thin(once.points, None, voxel_m)
    assert once.colors is None
    assert np.array_equal(once.points.xyz, twice.points.xyz)
    assert np.array_equal(
        np.floor(once.points.xyz[once.stand_in].astype(np.float64) / voxel_m),
        np.floor(xyz.astype(np.float64) / voxel_m),
    )


def test_colours_of_another_cloud_are_refused():
    with pytest.raises(InvalidInput, match=r"colors: shape \[2, 3\], needs \[1, 3\]"):
        thin(raw([(0, 0, 0)]), np.zeros((2, 3), dtype=np.uint8), 0.5)


def test_thinning_keeps_to_the_extent_limit():
    with pytest.raises(LimitExceeded, match=r"101 voxels of 0\.1 m along y, the limit is 100"):
        thin(raw([(0, 0, 0), (0, 10.05, 0)]), None, 0.1, max_extent_voxels=100)


@given(st.lists(st.integers(0, 50), max_size=60), st.booleans())
def test_equal_keys_form_groups_in_their_order(keys, are_large):
    # Groups of large keys are found in another way than those of small ones.
    values = np.array(keys, dtype=np.int64) + are_large * (MAX_TABLE_CELLS - 10)
    first, inverse, counts = group(values)
    members = {key: np.flatnonzero(values == key).tolist() for key in sorted(set(values.tolist()))}
    assert first.tolist() == [places[0] for places in members.values()]
    assert counts.tolist() == [len(places) for places in members.values()]
    assert [list(members)[each] for each in inverse] == values.tolist()
