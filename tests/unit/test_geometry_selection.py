"""Farthest points and frames: against the definition spelled out, and the corners of both."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.fixtures_scene import look_at, synthetic_scene
from xscene.errors import InvalidInput
from xscene.geometry.frames import pose, position_and_quaternion
from xscene.geometry.selection import farthest_point_sample, select_frames

# Whole numbers, so that ties are exact and duplicates frequent.
grids = arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(-3, 3))


def farthest_slowly(rows, count, start):
    chosen = [start]
    while len(chosen) < min(count, len(rows)):
        rest = [index for index in range(len(rows)) if index not in chosen]
        nearest = {index: min(math.dist(rows[index], rows[other]) for other in chosen) for index in rest}
        chosen.append(max(rest, key=lambda index: (nearest[index], -index)))
    return chosen


@settings(deadline=None)
@given(grids, st.integers(1, 15), st.data())
def test_each_choice_is_the_farthest_from_all_before(grid, count, data):
    rows = grid.astype(np.float64)
    start = data.draw(st.integers(0, len(rows) - 1))
    chosen = farthest_point_sample(rows, count, start=start).tolist()
    assert chosen == farthest_slowly(rows.tolist(), count, start)
    assert len(set(chosen)) == min(count, len(rows))


def test_duplicates_come_last_and_by_index():
    rows = np.array([[0.0], [0.0], [4.0], [0.0], [1.0]])
    assert farthest_point_sample(rows, 5, start=1).tolist() == [1, 2, 4, 0, 3]


def test_repeats_cycle_through_the_order_of_choice():
    rows = np.array([[0.0], [1.0], [5.0]])
    assert farthest_point_sample(rows, 7, start=0, repeat=True).tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert farthest_point_sample(rows, 2, start=0, repeat=True).tolist() == [0, 2]


def test_the_seed_decides_where_to_start():
    rows = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    first, again, other = (farthest_point_sample(rows, 20, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert first[0] != other[0]


@pytest.mark.parametrize(
    ("rows", "settings", "field"),
    [
        (np.zeros((0, 3)), {"count": 1}, "rows"),
        (np.full((2, 3), np.nan), {"count": 1}, "rows"),
        (np.zeros((2, 3)), {"count": 0}, "count"),
        (np.zeros((2, 3)), {"count": 1, "start": 2}, "start"),
        (np.zeros((2, 3)), {"count": 1, "start": -1}, "start"),
    ],
)
def test_a_sample_that_cannot_be_taken_names_its_field(rows, settings, field):
    with pytest.raises(InvalidInput) as caught:
        farthest_point_sample(rows, **settings)
    assert caught.value.violations[0].field == field


def walk(*positions):
    """Poses at these places, all looking the same way."""
    return np.stack([pose(position, (0, 0, 0, 1)) for position in positions])


def test_frames_are_chosen_by_normalised_poses():
    # x spans 100 m and y 1 m: unscaled, frame 2 would be the farthest from frame 0.
    poses = walk((0, 0, 0), (40, 1, 0), (100, 0, 0), (50, 0.5, 0))
    assert select_frames(poses, 2, start=0).chosen.tolist() == [0, 1]


def test_frames_equal_the_farthest_of_scaled_columns():
    rng = np.random.default_rng(4)
    poses = np.stack([look_at(eye, (0.0, 0.0, 0.5)) for eye in rng.uniform(-3, 3, (30, 3))])
    columns = np.stack([np.concatenate(position_and_quaternion(matrix)) for matrix in poses])
    scaled = [
        [(value - min(column)) / (max(column) - min(column)) for value in column] for column in columns.T
    ]
    expected = farthest_slowly(np.transpose(scaled).tolist(), 10, 3)
    assert select_frames(poses, 10, start=3).chosen.tolist() == expected


def test_a_constant_pose_column_adds_nothing():
    # Height is constant but for rounding, which must not be blown up to the range of the others.
    poses = walk((0, 0, 1.2), (1, 0, 1.2 + 1e-15), (9, 0, 1.2), (10, 0, 1.2))
    assert select_frames(poses, 2, start=0).chosen.tolist() == [0, 3]


def test_equal_poses_are_each_chosen_once():
    poses = walk((1, 2, 3), (1, 2, 3), (1, 2, 3))
    assert select_frames(poses, 20, start=1).chosen.tolist() == [1, 0, 2]


def test_a_single_frame_is_chosen():
    assert select_frames(walk((1, 2, 3)), 20).chosen.tolist() == [0]


def test_lost_frames_are_skipped_and_reported():
    selection = select_frames(synthetic_scene().camera_to_world, 20, seed=1)
    assert sorted(selection.chosen.tolist()) == [0, 1]
    assert selection.skipped.tolist() == [2]


def test_indices_are_those_of_all_frames():
    poses = walk((0, 0, 0), (1, 0, 0), (2, 0, 0), (9, 0, 0))
    poses[[0, 2]] = -np.inf
    selection = select_frames(poses, 2, start=3)
    assert selection.chosen.tolist() == [3, 1]
    assert selection.skipped.tolist() == [0, 2]


def test_repeats_are_made_on_request():
    chosen = select_frames(walk((0, 0, 0), (1, 0, 0)), 5, start=0, repeat=True).chosen
    assert chosen.tolist() == [0, 1, 0, 1, 0]


def test_the_seed_decides_which_frame_comes_first():
    poses = walk(*np.random.default_rng(0).uniform(-5, 5, (200, 3)))
    first, again, other = (select_frames(poses, 20, seed=seed).chosen for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first[0] != other[0]


def test_poses_that_are_all_lost_are_refused():
    with pytest.raises(InvalidInput, match="camera_to_world: none of 3 poses is finite"):
        select_frames(np.full((3, 4, 4), -np.inf), 2)


def test_a_lost_frame_cannot_be_the_start():
    with pytest.raises(InvalidInput, match="start: 2, needs the index of a frame with a finite pose"):
        select_frames(synthetic_scene().camera_to_world, 2, start=2)


def test_a_finite_pose_that_is_not_rigid_is_refused_by_index():
    poses = walk((0, 0, 0), (1, 0, 0))
    poses[1, 0, 0] = 3.0
    with pytest.raises(InvalidInput, match=r"camera_to_world\[1\]: off a rotation by 8"):
        select_frames(poses, 2)


def test_poses_need_their_shape():
    with pytest.raises(InvalidInput, match=r"camera_to_world: shape \[4, 4\], needs \[any, 4, 4\]"):
        select_frames(np.eye(4), 2)
