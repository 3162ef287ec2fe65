"""Frames carried by points, rigid transforms, matrices from numbers, and poses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures_scene import synthetic_scene
from xscene.errors import InvalidInput
from xscene.geometry.frames import (
    Frame,
    Points,
    UpAxis,
    align,
    inverse,
    matrix_from_numbers,
    pose,
    position_and_quaternion,
    rigid,
    to_z_up,
    transform,
    z_up_rotation,
)

# Rescan to reference as the dataset stores it: identity and a shift, column after column.
STORED_TRANSFORM = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0.5, -0.2, 0.05, 1]

number = st.floats(-1, 1)
quaternions = st.tuples(number, number, number, number).filter(lambda q: math.hypot(*q) > 1e-3)
positions = st.tuples(*[st.floats(-50, 50)] * 3)


def unit(quaternion):
    return np.array(quaternion) / math.hypot(*quaternion)


def cloud(*rows, frame=Frame.RAW):
    return Points(np.array(rows, dtype=np.float64), frame)


@pytest.mark.parametrize(
    ("xyz", "words"),
    [
        (np.zeros((4, 2)), "shape [4, 2], needs [any, 3]"),
        (np.zeros(3), "shape [3], needs [any, 3]"),
        (np.zeros((4, 3), dtype=np.int32), "type int32"),
        (np.array([[0, 0, 0], [0, np.nan, np.inf]]), "2 values are not finite, first at [1, 1]"),
    ],
)
def test_points_that_cannot_be_right_are_refused(xyz, words):
    with pytest.raises(InvalidInput) as caught:
        Points(xyz, Frame.RAW)
    assert caught.value.violations[0].field == "points"
    assert words in caught.value.message


def test_no_points_are_points():
    assert len(Points(np.zeros((0, 3)), Frame.RAW)) == 0


def test_points_keep_frame_and_type_when_some_are_taken():
    points = Points(np.arange(9, dtype=np.float32).reshape(3, 3), Frame.CANONICAL)
    taken = points.take(np.array([2, 0]))
    assert taken.frame is Frame.CANONICAL
    assert taken.xyz.dtype == np.float32
    assert taken.xyz.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert points.take(np.array([False, True, False])).xyz.tolist() == [[3, 4, 5]]


def test_align_turns_and_shifts_raw_points():
    aligned = align(cloud((1, 2, 3)), synthetic_scene().axis_alignment)
    assert aligned.frame is Frame.ALIGNED
    np.testing.assert_allclose(aligned.xyz, [[-0.5, 0.5, 3.1]])


def test_a_scan_without_alignment_gets_the_identity():
    aligned = align(cloud((1, 2, 3)), None)
    assert aligned.frame is Frame.ALIGNED
    assert aligned.xyz.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("frame", [Frame.ALIGNED, Frame.CANONICAL])
def test_only_raw_points_can_be_aligned(frame):
    with pytest.raises(InvalidInput, match=f"points: in frame {frame}, needs raw"):
        align(cloud((1, 2, 3), frame=frame), np.eye(4))


def mirrored():
    return np.diag([1.0, 1.0, -1.0, 1.0])


def with_last_row():
    matrix = np.eye(4)
    matrix[3, 0] = 0.5
    return matrix


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.full((4, 4), -np.inf), "16 values are not finite, first at [0, 0]"),
        (np.eye(3), "shape [3, 3], needs [4, 4]"),
        (with_last_row(), "last row is [0.5, 0.0, 0.0, 1.0]"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), "off a rotation by 3"),
        (np.diag([1e200, 1.0, 1.0, 1.0]), "off a rotation by"),
        (mirrored(), "mirrors"),
    ],
)
def test_a_matrix_that_is_not_rigid_is_refused_by_name(matrix, words):
    with pytest.raises(InvalidInput) as caught:
        inverse(matrix, "frames[7].pose")
    assert caught.value.violations[0].field == "frames[7].pose"
    assert words in caught.value.message


def test_a_rotation_of_six_decimals_is_rigid():
    turn = pose((1, 2, 3), unit((0.1, 0.2, 0.3, 0.9)))
    assert np.array_equal(rigid(np.round(turn, 6), "pose"), np.round(turn, 6))


def test_the_tolerance_is_the_callers():
    with pytest.raises(InvalidInput, match="the tolerance is 1e-09"):
        rigid(np.round(pose((1, 2, 3), unit((0.1, 0.2, 0.3, 0.9))), 6), "pose", tolerance=1e-9)


@settings(deadline=None, max_examples=50)
@given(positions, quaternions)
def test_the_inverse_undoes_a_transform(position, quaternion):
    matrix = pose(position, unit(quaternion))
    points = cloud((0, 0, 0), (1, -2, 3))
    there = transform(points, matrix, frame=Frame.ALIGNED)
    back = transform(there, inverse(matrix), frame=Frame.RAW)
    np.testing.assert_allclose(back.xyz, points.xyz, atol=1e-12)
    np.testing.assert_allclose(inverse(matrix) @ matrix, np.eye(4), atol=1e-12)


def test_a_transform_equals_the_product_with_homogeneous_columns():
    matrix = pose((1, 2, 3), unit((0.1, 0.2, 0.3, 0.9)))
    points = cloud((4, 5, 6), (-1, 0, 2))
    moved = transform(points, matrix, frame=Frame.RAW)
    for before, after in zip(points.xyz, moved.xyz, strict=True):
        np.testing.assert_allclose((matrix @ [*before, 1])[:3], after, atol=1e-12)


def test_a_transform_keeps_the_precision_of_the_points():
    points = Points(np.ones((1, 3), dtype=np.float32), Frame.CANONICAL)
    moved = transform(points, np.eye(4), frame=Frame.RAW)
    assert (moved.xyz.dtype, moved.frame) == (np.float32, Frame.RAW)


def test_points_moved_out_of_range_are_refused():
    far = np.eye(4)
    far[0, 3] = 1e300
    with pytest.raises(InvalidInput, match="points: 1 values are not finite"):
        transform(Points(np.ones((1, 3), dtype=np.float32), Frame.RAW), far, frame=Frame.RAW)


@pytest.mark.parametrize(
    ("up", "right_handed"), [(UpAxis.X, (-3, 2, 1)), (UpAxis.Y, (1, -3, 2)), (UpAxis.Z, (1, 2, 3))]
)
def test_the_given_axis_points_up_afterwards(up, right_handed):
    turned = to_z_up(cloud((1, 2, 3), frame=Frame.CANONICAL), up)
    assert turned.frame is Frame.CANONICAL
    assert turned.xyz.tolist() == [list(right_handed)]
    axis = np.eye(3)["xyz".index(up)]
    assert (rigid(z_up_rotation(up), "up")[:3, :3] @ axis).tolist() == [0, 0, 1]


def test_a_column_major_transform_brings_the_rescan_back():
    reference = synthetic_scene().points()
    shift = np.array([0.5, -0.2, 0.05])
    rescan = Points((reference.xyz - shift).astype(np.float32), Frame.RAW)
    matrix = matrix_from_numbers(STORED_TRANSFORM, order="column", field="transform")
    moved = transform(rescan, matrix, frame=Frame.RAW)
    assert np.abs(moved.xyz - reference.xyz).max() < 1e-6


def test_a_column_major_transform_read_by_rows_is_refused():
    matrix = matrix_from_numbers(STORED_TRANSFORM, order="row", field="transform")
    with pytest.raises(InvalidInput, match=r"transform: last row is \[0.5, -0.2, 0.05, 1.0\]"):
        inverse(matrix, "transform")


def test_numbers_are_read_in_the_order_that_is_said():
    by_row = matrix_from_numbers(range(16), order="row", field="m")
    assert by_row[0].tolist() == [0, 1, 2, 3]
    assert np.array_equal(matrix_from_numbers(range(16), order="column", field="m"), by_row.T)


def test_fifteen_numbers_are_no_matrix():
    with pytest.raises(InvalidInput, match=r"m: shape \[15\], needs \[16\]"):
        matrix_from_numbers(range(15), order="row", field="m")


def test_a_lost_pose_can_be_read_but_not_used():
    lost = matrix_from_numbers([-math.inf] * 16, order="row", field="pose")
    with pytest.raises(InvalidInput, match="pose: 16 values are not finite"):
        rigid(lost, "pose")


def test_a_quarter_turn_about_z_takes_x_to_y():
    matrix = pose((1, 2, 3), (0, 0, math.sqrt(0.5), math.sqrt(0.5)))
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


@settings(deadline=None)
@given(positions, quaternions)
def test_a_pose_comes_back_from_its_matrix(position, quaternion):
    shift, turn = position_and_quaternion(pose(position, unit(quaternion)))
    np.testing.assert_allclose(shift, position)
    assert abs(turn @ unit(quaternion)) == pytest.approx(1.0)
    np.testing.assert_allclose(pose(shift, turn), pose(position, unit(quaternion)), atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_half_turns_have_one_quaternion(axis):
    expected = np.eye(4)[axis]
    for sign in (1, -1):
        assert position_and_quaternion(pose((0, 0, 0), sign * expected))[1].tolist() == expected.tolist()


def test_rounding_does_not_choose_the_sign_of_a_quaternion():
    for rounding in (1e-17, -1e-17):
        turn = position_and_quaternion(pose((0, 0, 0), (-0.6, 0.8, 0, rounding)))[1]
        np.testing.assert_allclose(turn, [-0.6, 0.8, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("position", "quaternion", "field", "words"),
    [
        ((0, 0, 0), (0, 0, 0, 0), "pose.orientation", "norm 0, needs 1"),
        ((0, 0, 0), (0, 0, 0, 2), "pose.orientation", "norm 2, needs 1"),
        ((0, 0, 0), (0, 0, math.nan, 1), "pose.orientation", "not finite"),
        ((0, 0, 0), (0, 0, 1), "pose.orientation", "shape [3]"),
        ((0, -math.inf, 0), (0, 0, 0, 1), "pose.position", "not finite"),
    ],
)
def test_a_pose_that_cannot_be_right_names_its_half(position, quaternion, field, words):
    with pytest.raises(InvalidInput) as caught:
        pose(position, quaternion)
    assert caught.value.violations[0].field == field
    assert words in caught.value.message
