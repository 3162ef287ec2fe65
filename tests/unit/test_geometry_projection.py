"""Projection: measured counts on the synthetic scene, the rule's corners, and intrinsics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures_scene import synthetic_scene
from xscene.errors import InvalidInput
from xscene.geometry.frames import Frame, Points, align
from xscene.geometry.projection import Intrinsics, project

UNIT = Intrinsics(fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=8, height=6)

# threshold, border_px, visible of floor, wall and cabinet in frames 0 and 1.
RAW_COUNTS = [
    (0.25, 1, [157, 254, 237], [156, 220, 213]),
    (0.05, 1, [151, 254, 107], [145, 220, 156]),
    (0.02, 1, [134, 254, 87], [134, 219, 117]),
    (0.25, 0, [168, 275, 237], [163, 233, 213]),
    (0.25, 10, [82, 130, 237], [91, 123, 213]),
]
MISTAKEN_COUNTS = [
    (0.25, 1, [96, 53, 24], [91, 49, 26]),
    (0.05, 1, [2, 0, 0], [7, 0, 0]),
    (0.02, 1, [2, 0, 0], [7, 0, 0]),
]


@pytest.fixture(scope="module")
def scene():
    return synthetic_scene()


def visible_counts(scene, points, frame, threshold, border_px):
    projection = project(
        points,
        scene.camera_to_world[frame],
        scene.intrinsics,
        scene.depth[frame],
        threshold=threshold,
        border_px=border_px,
    )
    return np.bincount(scene.instance_ids[projection.visible], minlength=3).tolist()


@pytest.mark.parametrize(("threshold", "border_px", "frame_0", "frame_1"), RAW_COUNTS)
def test_raw_points_are_seen_as_often_as_measured(scene, threshold, border_px, frame_0, frame_1):
    for frame, expected in enumerate((frame_0, frame_1)):
        assert visible_counts(scene, scene.points(), frame, threshold, border_px) == expected


@pytest.mark.parametrize(("threshold", "border_px", "frame_0", "frame_1"), MISTAKEN_COUNTS)
def test_aligned_points_passed_off_as_raw_give_other_counts(scene, threshold, border_px, frame_0, frame_1):
    mistaken = Points(align(scene.points(), scene.axis_alignment).xyz, Frame.RAW)
    for frame, expected in enumerate((frame_0, frame_1)):
        assert visible_counts(scene, mistaken, frame, threshold, border_px) == expected


def test_aligned_points_that_say_so_are_refused(scene):
    with pytest.raises(InvalidInput, match="points: in frame aligned, needs raw"):
        visible_counts(scene, align(scene.points(), scene.axis_alignment), 0, 0.25, 1)


def test_a_lost_pose_is_refused_by_name(scene):
    with pytest.raises(InvalidInput, match="camera_to_world: 16 values are not finite"):
        visible_counts(scene, scene.points(), 2, 0.25, 1)


def project_slowly(xyz, pose, camera, depth, threshold, border_px):
    """One point at a time, from the rule's words."""
    world_to_camera = np.linalg.inv(pose)
    answers = []
    for point in xyz:
        x, y, z, _ = world_to_camera @ [*point, 1.0]
        answer = (0, 0, False)
        if z > 0:
            column = round(float(camera.fx * x / z + camera.cx))
            row = round(float(camera.fy * y / z + camera.cy))
            wide = border_px <= column < camera.width - border_px
            if wide and border_px <= row < camera.height - border_px:
                near = depth is None or abs(depth[row, column] - z) <= threshold * depth[row, column]
                if near and (depth is None or depth[row, column] > 0):
                    answer = (row, column, True)
        answers.append(answer)
    return answers


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("with_depth", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projection_equals_the_rule_point_by_point(scene, frame, with_depth, dtype):
    xyz = np.random.default_rng(5).uniform(-3, 3, (600, 3)).astype(dtype)
    depth = scene.depth[frame] if with_depth else None
    pose = scene.camera_to_world[frame]
    found = project(Points(xyz, Frame.RAW), pose, scene.intrinsics, depth, threshold=0.3, border_px=2)
    expected = project_slowly(xyz, pose, scene.intrinsics, depth, 0.3, 2)
    assert list(zip(found.rows, found.columns, found.visible, strict=True)) == expected
    assert 10 < found.visible.sum() < 590


def on_unit_camera(*rows, depth=None, threshold=0.25, border_px=0):
    points = Points(np.array(rows, dtype=np.float64), Frame.RAW)
    found = project(points, np.eye(4), UNIT, depth, threshold=threshold, border_px=border_px)
    return list(zip(found.rows.tolist(), found.columns.tolist(), found.visible.tolist(), strict=True))


def test_halves_go_to_the_even_pixel():
    assert on_unit_camera((0.5, 1.5, 1), (2.5, 3.5, 1)) == [(2, 0, True), (4, 2, True)]


def test_the_border_counts_on_both_sides():
    rows = [(2, 2, 1), (1, 2, 1), (5, 3, 1), (6, 3, 1), (3, 4, 1)]
    found = on_unit_camera(*rows, border_px=2)
    assert found == [(2, 2, True), (0, 0, False), (3, 5, True), (0, 0, False), (0, 0, False)]


def test_a_border_that_leaves_no_pixel_hides_everything():
    assert on_unit_camera((3, 3, 1), border_px=4) == [(0, 0, False)]


def test_without_depth_only_points_in_front_are_visible():
    found = on_unit_camera((1, 1, 1), (1, 1, 0), (-1, -1, -1))
    assert found == [(1, 1, True), (0, 0, False), (0, 0, False)]


def test_the_threshold_is_relative_and_inclusive():
    depth = np.full((6, 8), 2.0)
    found = on_unit_camera((0, 0, 1.5), (0, 0, 2.5), (0, 0, 1.49), (0, 0, 2.51), depth=depth)
    assert [visible for _, _, visible in found] == [True, True, False, False]


def test_a_wide_threshold_does_not_reach_behind_the_camera():
    depth = np.full((6, 8), 2.0)
    assert on_unit_camera((0, 0, -1), depth=depth, threshold=2.0) == [(0, 0, False)]


@pytest.mark.parametrize("hole", [0.0, math.nan, math.inf, -1.0])
def test_nothing_is_visible_at_a_hole(hole):
    depth = np.full((6, 8), hole, dtype=np.float32)
    assert on_unit_camera((1, 1, 1), depth=depth) == [(0, 0, False)]


def test_points_out_of_all_proportion_are_merely_invisible():
    found = on_unit_camera((1e308, -1e308, 1e-300), (1e308, 1e308, 1e308), (1e300, 0, 5e-324))
    assert found == [(0, 0, False), (1, 1, True), (0, 0, False)]


def test_no_points_project_to_nothing():
    points = Points(np.zeros((0, 3)), Frame.RAW)
    assert len(project(points, np.eye(4), UNIT, threshold=0.25, border_px=0).visible) == 0


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"depth": np.ones((8, 6))}, "depth", "shape [8, 6], needs [6, 8]"),
        ({"depth": np.ones((6, 8), dtype=np.uint16)}, "depth", "type uint16, needs metres"),
        ({"threshold": -0.1}, "threshold", "-0.1"),
        ({"threshold": math.nan}, "threshold", "nan"),
        ({"border_px": -1}, "border_px", "-1"),
    ],
)
def test_settings_that_cannot_be_right_are_named(changes, field, words):
    with pytest.raises(InvalidInput) as caught:
        on_unit_camera((1, 1, 1), **changes)
    assert caught.value.violations[0].field == field
    assert words in caught.value.message


SCANNET = Intrinsics(fx=577.870605, fy=577.870605, cx=319.5, cy=239.5, width=640, height=480)
MATTERPORT = Intrinsics(fx=1000, fy=1000, cx=640, cy=512, width=1280, height=1024)


@pytest.mark.parametrize(
    ("camera", "size", "expected"),
    [
        (SCANNET, (640, 480), (577.870605, 577.870605, 319.5, 239.5)),
        (SCANNET, (320, 240), (288.9353025, 288.9353025, 159.5, 119.5)),
        (MATTERPORT, (640, 512), (500, 500, 319.749805, 255.749756)),
    ],
)
def test_resized_intrinsics_have_the_measured_values(camera, size, expected):
    resized = camera.resized(*size)
    assert (resized.fx, resized.fy, resized.cx, resized.cy) == pytest.approx(expected, abs=5e-7)
    assert (resized.width, resized.height) == size


def test_the_horizontal_focal_length_follows_the_old_proportions():
    colour = Intrinsics(fx=1296, fy=968, cx=648, cy=484, width=1296, height=968)
    # 480 * 1296 / 968 is 642.6: a pixel grid of 642 columns, not of the 640 asked for.
    assert colour.resized(640, 480).fx == 642
    assert colour.resized(640, 480).fy == 480


@settings(deadline=None)
@given(st.integers(2, 500), st.integers(2, 500))
def test_corner_pixels_stay_corner_pixels(width, height):
    camera = Intrinsics(fx=600, fy=600, cx=639, cy=479, width=640, height=480)
    resized = camera.resized(width, height)
    assert (resized.cx, resized.cy) == pytest.approx((width - 1, height - 1))


@pytest.mark.parametrize("side", [3, 4])
def test_a_camera_matrix_round_trips(side):
    matrix = np.eye(side)
    matrix[:3, :3] = SCANNET.matrix()
    assert Intrinsics.from_matrix(matrix, width=640, height=480) == SCANNET


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], "entries other than"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 2]], "entries other than"),
        ([[1, 0, 0], [0, math.nan, 0], [0, 0, 1]], "not finite"),
        (np.ones((2, 3)), "shape [2, 3]"),
    ],
)
def test_a_matrix_that_is_no_pinhole_is_refused(matrix, words):
    with pytest.raises(InvalidInput) as caught:
        Intrinsics.from_matrix(matrix, width=640, height=480)
    assert caught.value.violations[0].field == "intrinsics"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fx": 0.0}, "intrinsics.fx"),
        ({"fy": -1.0}, "intrinsics.fy"),
        ({"cx": math.nan}, "intrinsics.cx"),
        ({"cy": math.inf}, "intrinsics.cy"),
        ({"width": 1}, "intrinsics.width"),
        ({"height": 0}, "intrinsics.height"),
    ],
)
def test_intrinsics_that_cannot_be_right_are_named(changes, field):
    values = {"fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0, "width": 8, "height": 6} | changes
    with pytest.raises(InvalidInput) as caught:
        Intrinsics(**values)
    assert caught.value.violations[0].field == field
