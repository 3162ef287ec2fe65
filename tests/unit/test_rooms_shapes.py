"""Meshes: boxes, refinement, merging, faces without repeats, and what can stand on top."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.rooms_furniture import furniture_shape, write_archive
from trainer.data.rooms.catalogue import read_catalogue
from trainer.data.rooms.models import BakeLimits, bake
from trainer.data.rooms.shapes import Soup, cuboid, distinct_faces, joined, merged, refined, top_heights


def areas(corners):
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def soup(corners):
    return Soup(corners, np.ones_like(corners), np.zeros((*corners.shape[:2], 2)))


def test_a_cuboid_has_its_area_and_its_normals_point_out():
    shape = cuboid((0, 0, 0), (1, 2, 3), (9, 8, 7))
    corners = shape.vertices[shape.faces].astype(np.float64)
    assert np.isclose(areas(corners).sum(), 2 * (2 + 3 + 6))
    outwards = corners.mean(axis=1) - (0.5, 1.0, 1.5)
    assert ((shape.normals[shape.faces[:, 0]] * outwards).sum(axis=1) > 0).all()
    turns = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((turns * outwards).sum(axis=1) > 0).all()


@given(hnp.arrays(np.float64, (4, 3, 3), elements=st.floats(-1, 1)))
def test_refining_keeps_the_area_and_shortens_the_edges(corners):
    fine = refined(soup(corners), 0.5, max_triangles=10**6).corners
    assert np.isclose(areas(fine).sum(), areas(corners).sum())
    assert np.linalg.norm(fine - np.roll(fine, -1, axis=1), axis=2).max() <= 0.5


def test_refining_stops_at_the_limit():
    corners = np.array([[[0, 0, 0], [8, 0, 0], [0, 8, 0]]], dtype=float)
    assert len(refined(soup(corners), 0.01, max_triangles=100).corners) == 64


def test_merging_joins_corners_in_one_cell_unless_they_face_opposite_ways():
    corners = np.array(
        [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0.01, 0, 0], [1.01, 0, 0], [1, 1, 0]]], dtype=float
    )
    up = np.tile((0.0, 0.0, 1.0), (2, 3, 1))
    colors = np.full((2, 3, 3), 100, dtype=np.uint8)
    uv = np.zeros((2, 3, 2))
    assert len(merged(Soup(corners, up, uv), colors, 0.1).vertices) == 4
    down = up * np.array([1, -1])[:, None, None]
    assert len(merged(Soup(corners, down, uv), colors, 0.1).vertices) == 6


@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(0, 5)))
def test_faces_are_those_of_a_slow_search(faces):
    slow = set()
    for face in faces.tolist():
        if len(set(face)) == 3:
            turns = [tuple(face[at:] + face[:at]) for at in range(3)]
            slow.add(min(turns))
    assert sorted(map(tuple, distinct_faces(faces).tolist())) == sorted(slow)


def test_the_top_of_a_table_is_level_and_nothing_lies_beside_it():
    board = furniture_shape("table", (1.0, 0.6, 0.75))
    heights = top_heights(board, (1.2, 0.6), 0.02)
    assert heights.shape == (60, 30)
    np.testing.assert_allclose(heights[6:-6], 0.75, atol=1e-6)
    assert (heights[:4] == -1).all()
    assert (heights[-4:] == -1).all()


def test_heights_agree_with_rays_cast_one_by_one():
    rng = np.random.default_rng(3)
    shapes = [
        cuboid(low, low + rng.uniform(0.05, 0.5, size=3), (1, 2, 3))
        for low in rng.uniform(-0.5, 0.2, size=(6, 3))
    ]
    shape = joined(shapes)
    heights = top_heights(shape, (1.5, 1.5), 0.1)
    middles = (np.arange(15) + 0.5) / 15 * 1.5 - 0.75
    for (i, x), (j, y) in itertools.product(enumerate(middles), repeat=2):
        over = [
            part.vertices[:, 2].max()
            for part in shapes
            if (part.vertices[:, :2].min(axis=0) < (x, y)).all()
            and (part.vertices[:, :2].max(axis=0) > (x, y)).all()
        ]
        assert np.isclose(heights[i, j], max(over, default=-1.0), atol=1e-5)


def test_a_model_is_baked_in_its_canonical_frame_with_its_texture_in_its_corners(tmp_path):
    archive = write_archive(tmp_path / "a.sh3f", {})
    (model,) = read_catalogue(archive)
    shape = bake(archive, model, BakeLimits())
    np.testing.assert_allclose(shape.vertices.min(axis=0), (-0.25, -0.3, 0.0), atol=1e-5)
    np.testing.assert_allclose(shape.vertices.max(axis=0), (0.25, 0.3, 0.8), atol=1e-5)
    # Seen from its front, which faces -y, the left half is red: that is towards -x.
    front = np.isclose(shape.vertices[:, 1], -0.3) & (shape.normals[:, 1] < -0.9)
    left = front & (shape.vertices[:, 0] < -0.05)
    right = front & (shape.vertices[:, 0] > 0.05) & (shape.vertices[:, 0] < 0.24)
    assert left.sum() > 50
    np.testing.assert_array_equal(np.unique(shape.colors[left], axis=0), [[255, 0, 0]])
    np.testing.assert_array_equal(np.unique(shape.colors[right], axis=0), [[0, 255, 0]])
    rest = shape.normals[:, 1] > -0.5
    np.testing.assert_array_equal(np.unique(shape.colors[rest], axis=0), [[0, 0, 255]])


def test_a_rotated_model_is_turned_before_it_is_scaled(tmp_path):
    # About y by a quarter turn: what pointed to z, the front, now points to x.
    archive = write_archive(tmp_path / "a.sh3f", {"modelRotation": "0 0 1 0 1 0 -1 0 0"})
    (model,) = read_catalogue(archive)
    shape = bake(archive, model, BakeLimits())
    red = (shape.colors == (255, 0, 0)).all(axis=1)
    np.testing.assert_allclose(shape.vertices[red][:, 0], 0.25, atol=1e-5)


def test_no_model_has_more_faces_than_the_limit(tmp_path):
    archive = write_archive(tmp_path / "a.sh3f", {})
    (model,) = read_catalogue(archive)
    assert 12 <= len(bake(archive, model, BakeLimits(max_faces=200)).faces) <= 200
