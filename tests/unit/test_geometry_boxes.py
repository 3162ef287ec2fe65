"""Boxes and overlaps: golden values, laws that hold for all boxes, and sampling as the slow reference."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures_scene import synthetic_scene
from xscene.errors import InvalidInput
from xscene.geometry.boxes import (
    AxisAlignedBoxes,
    OrientedBox,
    box_iou,
    fit_boxes,
    mask_iou,
    mean_locations,
    oriented_iou,
)
from xscene.geometry.frames import Frame, Points, pose

coordinate = st.floats(-1, 1)
edge = st.floats(0.05, 2)
triples = st.tuples(coordinate, coordinate, coordinate)
edges = st.tuples(edge, edge, edge)
turns = st.tuples(coordinate, coordinate, coordinate, coordinate).filter(lambda q: math.hypot(*q) > 1e-3)


def rotation(quaternion):
    return pose((0, 0, 0), np.array(quaternion) / math.hypot(*quaternion))[:3, :3]


def boxes(*rows, frame=Frame.ALIGNED):
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return AxisAlignedBoxes(table[:, :3], table[:, 3:], frame)


def oriented(centre, size, quaternion=(0, 0, 0, 1), frame=Frame.ALIGNED):
    centre, size = np.array(centre, dtype=np.float64), np.array(size, dtype=np.float64)
    return OrientedBox(centre, size, rotation(quaternion), frame)


oriented_boxes = st.builds(oriented, triples, edges, turns)

CUBE = (0, 0, 0, 1, 1, 1)
GOLDEN_PAIRS = [
    (CUBE, (0.5, 0, 0, 1, 1, 1), 1 / 3),
    ((0, 0, 0, 2, 2, 2), CUBE, 0.12499999984),
    (CUBE, CUBE, 1.0),
    (CUBE, (1, 0, 0, 1, 1, 1), 0.0),
    (CUBE, (0, 0, 3, 1, 1, 1), 0.0),
]


@pytest.mark.parametrize(("first", "second", "expected"), GOLDEN_PAIRS)
def test_box_overlaps_have_the_golden_values(first, second, expected):
    assert box_iou(boxes(first), boxes(second))[0, 0] == pytest.approx(expected, abs=1e-8)


def test_the_epsilon_is_in_the_golden_value():
    overlap = box_iou(boxes((0, 0, 0, 2, 2, 2)), boxes(CUBE))[0, 0]
    assert overlap == pytest.approx(1 / (8 + 1e-8), abs=1e-16)


@pytest.mark.parametrize(("first", "second", "expected"), GOLDEN_PAIRS)
def test_oriented_overlaps_have_the_golden_values(first, second, expected):
    overlap = oriented_iou(oriented(first[:3], first[3:]), oriented(second[:3], second[3:]))
    assert overlap == pytest.approx(expected, abs=1e-8)


def test_every_pair_of_boxes_is_compared():
    overlaps = box_iou(boxes(CUBE, (0, 0, 0, 2, 2, 2)), boxes(CUBE, (9, 9, 9, 1, 1, 1), CUBE))
    np.testing.assert_allclose(overlaps, [[1, 0, 1], [0.125, 0, 0.125]], atol=1e-7)
    assert box_iou(boxes(), boxes(CUBE)).shape == (0, 1)


def test_a_flat_box_overlaps_nothing_unless_given_a_thickness():
    floor = boxes((1.5, -0.5, 0.1, 4, 4, 0))
    assert box_iou(floor, floor)[0, 0] == 0
    assert box_iou(floor, floor, min_thickness_m=0.05)[0, 0] == pytest.approx(1.0)
    lifted = boxes((1.5, -0.5, 0.125, 4, 4, 0))
    assert box_iou(floor, lifted, min_thickness_m=0.05)[0, 0] == pytest.approx(1 / 3)
    solid = oriented((1.5, -0.5, 0.1), (4, 4, 0))
    raised = oriented((1.5, -0.5, 0.125), (4, 4, 0))
    assert oriented_iou(solid, solid) == 0
    assert oriented_iou(solid, raised, min_thickness_m=0.05) == pytest.approx(1 / 3)


@settings(deadline=None)
@given(triples, edges, triples, edges)
def test_axis_aligned_overlap_is_symmetric_and_bounded(centre_a, size_a, centre_b, size_b):
    first, second = boxes((*centre_a, *size_a)), boxes((*centre_b, *size_b))
    overlap = box_iou(first, second)[0, 0]
    assert overlap == box_iou(second, first)[0, 0]
    assert 0 <= overlap <= 1


@settings(deadline=None, max_examples=60)
@given(triples, edges, triples, edges)
def test_oriented_overlap_equals_that_of_axis_aligned_boxes(centre_a, size_a, centre_b, size_b):
    expected = box_iou(boxes((*centre_a, *size_a)), boxes((*centre_b, *size_b)))[0, 0]
    assert oriented_iou(oriented(centre_a, size_a), oriented(centre_b, size_b)) == pytest.approx(
        expected, abs=1e-7
    )


@settings(deadline=None, max_examples=60)
@given(oriented_boxes, oriented_boxes, triples, turns)
def test_oriented_overlap_is_symmetric_bounded_and_blind_to_motion(first, second, shift, turn):
    overlap = oriented_iou(first, second)
    assert 0 <= overlap <= 1
    assert oriented_iou(second, first) == pytest.approx(overlap, abs=1e-7)
    motion = pose(np.multiply(shift, 1000), np.array(turn) / math.hypot(*turn))
    there = [box.moved(motion, frame=Frame.RAW) for box in (first, second)]
    assert oriented_iou(*there) == pytest.approx(overlap, abs=1e-7)


@settings(deadline=None, max_examples=60)
@given(oriented_boxes)
def test_a_box_overlaps_itself_wholly(box):
    volume = box.volume_m3
    assert oriented_iou(box, box) == pytest.approx(volume / (volume + 1e-8), abs=1e-7)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_turned_by_a_quarter_swaps_two_edges(axis):
    size = np.array([0.4, 0.8, 1.6])
    turned = size.copy()
    turned[[axis - 2, axis - 1]] = size[[axis - 1, axis - 2]]
    quarter = [0.0, 0.0, 0.0, 1.0]
    quarter[axis] = 1.0
    overlap = oriented_iou(oriented((0, 0, 0), size, quarter), oriented((0, 0, 0), turned))
    assert overlap == pytest.approx(1.0, abs=1e-7)


def test_a_square_turned_by_an_eighth_leaves_an_octagon():
    eighth = (0, 0, math.sin(math.pi / 8), math.cos(math.pi / 8))
    octagon = 2 * (math.sqrt(2) - 1)
    overlap = oriented_iou(oriented((0, 0, 0), (1, 1, 1)), oriented((0, 0, 0), (1, 1, 1), eighth))
    assert overlap == pytest.approx(octagon / (2 - octagon), abs=1e-7)


def test_nearly_coplanar_faces_count_once():
    for angle in (1e-15, 1e-12, 1e-9, 1e-6):
        tilted = oriented((0.5, 0, 0), (1, 1, 1), (0, angle / 2, angle / 3, 1))
        assert oriented_iou(oriented((0, 0, 0), (1, 1, 1)), tilted) == pytest.approx(1 / 3, abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_oriented_overlap_agrees_with_sampling(seed):
    rng = np.random.default_rng(seed)
    first, second = (
        oriented(rng.uniform(-0.4, 0.4, 3), rng.uniform(0.5, 2, 3), rng.normal(size=4)) for _ in range(2)
    )
    reach = 2.2
    samples = Points(rng.uniform(-reach, reach, (200_000, 3)), Frame.ALIGNED)
    shared = np.mean(first.contains(samples) & second.contains(samples)) * (2 * reach) ** 3
    union = first.volume_m3 + second.volume_m3 - shared
    # 200000 samples of a box of 85 m3 find 0.5 m3 to about 3 %.
    assert oriented_iou(first, second) == pytest.approx(shared / union, rel=0.15, abs=0.01)
    assert shared > 0.05


def test_rounding_lifts_no_overlap_above_one():
    rng = np.random.default_rng(0)
    large = AxisAlignedBoxes(rng.uniform(-5000, 5000, (2000, 3)), rng.uniform(50, 100, (2000, 3)), Frame.RAW)
    assert box_iou(large, large).max() <= 1


def test_boxes_of_different_frames_are_not_compared():
    with pytest.raises(InvalidInput, match="second: in frame raw, but first is in frame aligned"):
        box_iou(boxes(CUBE), boxes(CUBE, frame=Frame.RAW))
    with pytest.raises(InvalidInput, match="second: in frame raw, but first is in frame aligned"):
        oriented_iou(oriented((0, 0, 0), (1, 1, 1)), oriented((0, 0, 0), (1, 1, 1), frame=Frame.RAW))


@pytest.mark.parametrize("thickness_m", [-0.1, math.nan, math.inf])
def test_a_thickness_that_cannot_be_right_is_named(thickness_m):
    with pytest.raises(InvalidInput, match="min_thickness_m"):
        box_iou(boxes(CUBE), boxes(CUBE), min_thickness_m=thickness_m)


def test_corners_are_the_extremes_of_the_box():
    box = oriented((1, 2, 3), (2, 4, 6))
    assert box.corners().frame is Frame.ALIGNED
    expected = list(itertools.product((0, 2), (0, 4), (0, 6)))
    np.testing.assert_allclose(box.corners().xyz, expected, atol=1e-12)
    assert box.volume_m3 == 48


@settings(deadline=None)
@given(oriented_boxes)
def test_corners_lie_on_the_box_at_half_the_diagonal(box):
    corners = box.corners()
    assert box.contains(corners, margin_m=1e-9).all()
    distances = np.linalg.norm(corners.xyz - box.centre, axis=1)
    np.testing.assert_allclose(distances, np.linalg.norm(box.size) / 2)
    assert not box.contains(Points(box.centre + 1.01 * (corners.xyz - box.centre), corners.frame)).any()


def test_a_box_contains_what_its_own_axes_say():
    # A 45 degree turn about z puts the long edge along x = y.
    box = oriented((0, 0, 0), (4, 0.2, 0.2), (0, 0, math.sin(math.pi / 8), math.cos(math.pi / 8)))
    points = Points(np.array([(1.4, 1.4, 0), (1.4, -1.4, 0), (1.5, 1.5, 0), (0, 0, 0.15)]), Frame.ALIGNED)
    assert box.contains(points).tolist() == [True, False, False, False]
    assert box.contains(points, margin_m=0.2).tolist() == [True, False, True, True]


def test_points_of_another_frame_are_not_looked_for_in_a_box():
    with pytest.raises(InvalidInput, match="points: in frame raw, needs aligned"):
        oriented((0, 0, 0), (1, 1, 1)).contains(Points(np.zeros((1, 3)), Frame.RAW))


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"size": np.array([1.0, -1.0, 1.0])}, "size", "smallest is -1 m"),
        ({"centre": np.array([0.0, math.nan, 0.0])}, "centre", "not finite"),
        ({"rotation": np.diag([1.0, 1.0, -1.0])}, "rotation", "mirrors"),
        ({"rotation": np.ones((3, 3))}, "rotation", "off a rotation"),
    ],
)
def test_an_oriented_box_that_cannot_be_right_names_its_field(changes, field, words):
    values = {"centre": np.zeros(3), "size": np.ones(3), "rotation": np.eye(3)} | changes
    with pytest.raises(InvalidInput) as caught:
        OrientedBox(**values, frame=Frame.RAW)
    assert caught.value.violations[0].field == field
    assert words in caught.value.message


def test_axis_aligned_boxes_that_cannot_be_right_name_their_field():
    with pytest.raises(InvalidInput, match="sizes: smallest is -1 m, needs at least 0"):
        boxes((0, 0, 0, 1, -1, 1))
    with pytest.raises(InvalidInput, match=r"sizes: shape \[1, 3\], needs \[2, 3\]"):
        AxisAlignedBoxes(np.zeros((2, 3)), np.ones((1, 3)), Frame.RAW)


def test_midpoint_and_mean_are_different_places():
    lopsided = Points(np.array([(0, 0, 0), (0, 0, 0), (0, 0, 0), (4, 2, 0)], dtype=np.float32), Frame.ALIGNED)
    fitted, located = fit_boxes([lopsided]), mean_locations([lopsided])
    assert fitted.midpoints.tolist() == [[2, 1, 0]]
    assert located.means.tolist() == [[1, 0.5, 0]]
    assert fitted.sizes.tolist() == located.sizes.tolist() == [[4, 2, 0]]
    assert fitted.frame is located.frame is Frame.ALIGNED


def test_only_the_cabinet_matches_itself_by_plain_boxes():
    scene = synthetic_scene()
    fitted = fit_boxes([scene.object_points(instance) for instance in range(3)])
    plain = box_iou(fitted, fitted)
    np.testing.assert_allclose(plain.diagonal(), [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(box_iou(fitted, fitted, min_thickness_m=0.02).diagonal(), 1, atol=1e-6)


def test_objects_without_a_box_are_refused_by_index():
    one, none = Points(np.zeros((1, 3)), Frame.RAW), Points(np.zeros((0, 3)), Frame.RAW)
    with pytest.raises(InvalidInput, match=r"objects\[1\]: has no points"):
        fit_boxes([one, none])
    with pytest.raises(InvalidInput, match="objects: none given"):
        mean_locations([])
    with pytest.raises(InvalidInput, match=r"objects\[1\]: in frame aligned, needs raw"):
        fit_boxes([one, Points(np.zeros((1, 3)), Frame.ALIGNED)])


def test_mask_overlap_counts_points_in_common(monkeypatch):
    rng = np.random.default_rng(3)
    first, second = rng.random((4, 1000)) < 0.3, rng.random((5, 1000)) < 0.6
    monkeypatch.setattr("xscene.geometry.boxes.POINTS_PER_BLOCK", 64)
    expected = [[np.sum(a & b) / np.sum(a | b) for b in second] for a in first]
    np.testing.assert_allclose(mask_iou(first, second), expected)


def test_empty_masks_overlap_by_nothing():
    masks = np.array([[False, False], [True, False]])
    assert mask_iou(masks, masks).tolist() == [[0, 0], [0, 1]]


def test_masks_over_different_clouds_are_refused():
    with pytest.raises(InvalidInput, match="second: covers 3 points, but first covers 2"):
        mask_iou(np.ones((1, 2), dtype=bool), np.ones((1, 3), dtype=bool))
    with pytest.raises(InvalidInput, match=r"first: shape \[1, 2\] of int64"):
        mask_iou(np.ones((1, 2), dtype=np.int64), np.ones((1, 2), dtype=bool))
