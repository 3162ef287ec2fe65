"""The synthetic scene is the one that all other numbers were measured on."""

import numpy as np
import pytest

from tests.fixtures_scene import synthetic_scene
from xscene.geometry.boxes import fit_boxes
from xscene.geometry.frames import align
from xscene.geometry.projection import project


@pytest.fixture(scope="module")
def scene():
    return synthetic_scene()


def test_the_scene_has_three_objects_in_a_known_order(scene):
    assert scene.vertices.shape == (1127, 3)
    assert scene.faces.shape == (1960, 3)
    assert np.bincount(scene.instance_ids).tolist() == [441, 441, 245]
    assert np.all(np.diff(scene.instance_ids) >= 0)
    assert scene.colors[[0, 441, 882]].tolist() == [[180, 170, 160], [200, 200, 210], [120, 60, 30]]
    expected = [*range(100, 108), *range(200, 208), *range(300, 305)]
    assert np.unique(scene.segment_ids).tolist() == expected


def test_every_face_stays_on_one_object_and_every_vertex_has_one(scene):
    owners = scene.instance_ids[scene.faces]
    assert np.all(owners == owners[:, :1])
    assert np.unique(scene.faces).tolist() == list(range(1127))


def test_the_scene_is_the_same_every_time(scene):
    again = synthetic_scene()
    assert np.array_equal(scene.vertices, again.vertices)
    assert np.array_equal(scene.depth, again.depth)


@pytest.mark.parametrize(
    ("frame", "maximum", "holes", "centre"), [(0, 3.9787, 72, 2.5933), (1, 4.6602, 319, 2.5336)]
)
def test_depth_has_the_measured_range_and_holes(scene, frame, maximum, holes, centre):
    depth = scene.depth[frame]
    assert depth.shape == (48, 64)
    assert depth.max() == pytest.approx(maximum, abs=5e-5)
    assert np.count_nonzero(depth == 0) == holes
    assert depth[24, 32] == pytest.approx(centre, abs=5e-5)
    assert np.array_equal(scene.pixel_instances[frame] == -1, depth == 0)


def test_the_third_frame_lost_its_tracking(scene):
    assert np.all(np.isneginf(scene.camera_to_world[2]))
    assert not scene.depth[2].any()


def nearest_triangle(eye, ray, corners):
    """Moeller and Trumbore's intersection: the least length along the ray over triangles (F,3,3)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(ray, second)
    area = np.sum(first * across, axis=1)
    usable = np.abs(area) > 1e-12
    first, second, across, area, corners = (part[usable] for part in (first, second, across, area, corners))
    offset = eye - corners[:, 0]
    u = np.sum(offset * across, axis=1) / area
    turned = np.cross(offset, first)
    v = turned @ ray / area
    length = np.sum(second * turned, axis=1) / area
    hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (length > 0)
    return length[hit].min(initial=np.inf)


@pytest.mark.parametrize("frame", [0, 1])
def test_depth_agrees_with_the_mesh(scene, frame):
    pose, camera = scene.camera_to_world[frame], scene.intrinsics
    corners = scene.vertices[scene.faces]
    for row, column in np.random.default_rng(frame).integers((0, 0), (48, 64), (40, 2)):
        in_camera = ((column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, 1.0)
        length = nearest_triangle(pose[:3, 3], pose[:3, :3] @ in_camera, corners)
        assert scene.depth[frame, row, column] == pytest.approx(length if np.isfinite(length) else 0.0)


def test_aligned_objects_have_the_measured_boxes(scene):
    aligned = align(scene.points(), scene.axis_alignment)
    boxes = fit_boxes([aligned.take(scene.instance_ids == instance) for instance in range(3)])
    expected = [(1.5, -0.5, 0.1), (-0.5, -0.5, 1.3), (0.5, -0.5, 0.4)]
    np.testing.assert_allclose(boxes.midpoints, expected, atol=1e-12)
    np.testing.assert_allclose(boxes.sizes, [(4, 4, 0), (0, 4, 2.4), (0.6, 0.6, 0.6)], atol=1e-12)


def test_693_points_are_seen_in_one_of_the_two_frames(scene):
    seen = np.zeros(1127, dtype=bool)
    for frame in range(2):
        seen |= project(
            scene.points(),
            scene.camera_to_world[frame],
            scene.intrinsics,
            scene.depth[frame],
            threshold=0.25,
            border_px=1,
        ).visible
    assert np.bincount(scene.instance_ids[seen]).tolist() == [181, 267, 245]
