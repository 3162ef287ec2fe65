"""Cameras and scans: poses that see, depth with faults, and clouds that carry their instances."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.rooms_furniture import box_library
from trainer.data.rooms import cameras
from trainer.data.rooms.cameras import Rig, Targets, look
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.footprints import in_outline
from trainer.data.rooms.places import Place, first_room
from trainer.data.rooms.rendering import Frame as View
from trainer.data.rooms.scanning import Fusion, Sensor, fuse, measured
from trainer.data.rooms.streams import stream
from xscene.geometry.frames import Frame, Points, inverse
from xscene.geometry.projection import Intrinsics, project

LENS = Intrinsics(fx=120, fy=120, cx=79.5, cy=59.5, width=160, height=120)
RIG = Rig(intrinsics=LENS, height_m=(1.2, 1.6), pitch_rad=(0.1, 0.4))
EXACT = Sensor(noise_m=0, noise_per_m2=0, drop_share=0, hole_share=0)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    library = box_library(tmp_path_factory.mktemp("furniture") / "library")
    return first_room(Place(seed=1, index=0), library, Furnishings())


def wall(depth_m, object_id=0):
    shape = (LENS.height, LENS.width)
    rgb = np.full((*shape, 3), 80, dtype=np.uint8)
    return View(rgb, np.full(shape, depth_m, np.float32), np.full(shape, object_id + 1, np.uint16))


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (1.0, 0.3), (-2.0, -0.4), (3.0, 0.9)])
def test_a_camera_looks_where_it_is_turned(yaw, pitch):
    pose = look(np.array((1.0, 2.0, 1.5)), yaw, pitch)
    assert np.isclose(np.linalg.det(pose[:3, :3]), 1.0)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    ahead = np.array((math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)))
    np.testing.assert_allclose(pose[:3, 2], ahead, atol=1e-12)
    # Down in the picture is down in the room, and right is to the right of one who looks ahead.
    assert pose[2, 1] < 0
    np.testing.assert_allclose(np.cross(pose[:3, 2], (0, 0, 1)) @ pose[:3, 0], math.cos(pitch), atol=1e-12)


def test_cameras_stand_free_in_the_room_and_see_furniture(room):
    targets = cameras.piece_targets(room)
    poses = cameras.choose(stream("views"), room, targets, RIG, 8)
    assert len(poses) == 8
    for pose in poses:
        assert in_outline(pose[:2, 3], room.shell.outline)
        assert all(
            piece.footprint.distance(pose[:2, 3]) > 0.2 for piece in room.pieces if piece.footprint.low < 1.6
        )
        inside = project(Points(targets.points, Frame.RAW), pose, LENS, threshold=0, border_px=0).visible
        hidden = ~cameras.visible(room, pose[None, :3, 3], targets)[0]
        assert len(set(targets.owners[inside & ~hidden])) >= 2


def test_chosen_views_show_more_than_views_at_random(room):
    targets = cameras.piece_targets(room)

    def shown(poses):
        owners = set()
        for pose in poses:
            inside = project(Points(targets.points, Frame.RAW), pose, LENS, threshold=0, border_px=0).visible
            owners |= set(targets.owners[inside & cameras.visible(room, pose[None, :3, 3], targets)[0]])
        return len(owners)

    rng = stream("random")
    stands = room.floor().stands()
    for count in (1, 2, 3):
        chosen = shown(cameras.choose(stream("views"), room, targets, RIG, count))
        random = [
            shown(
                [
                    look(np.array((*stands[int(rng.integers(len(stands)))], 1.4)), rng.uniform(-3, 3), 0.2)
                    for _ in range(count)
                ]
            )
            for _ in range(20)
        ]
        assert chosen > np.mean(random)


def test_nobody_looks_into_the_blind_sector(room):
    rig = Rig(intrinsics=LENS, height_m=(1.2, 1.6), pitch_rad=(0.1, 0.4), blind_rad=3.0)
    poses = cameras.choose(stream("partial"), room, cameras.shell_targets(room), rig, 30)
    yaws = np.sort([math.atan2(pose[1, 2], pose[0, 2]) for pose in poses])
    gaps = np.diff(np.append(yaws, yaws[0] + 2 * math.pi))
    assert gaps.max() >= 3.0


def test_a_piece_in_between_hides_what_is_behind_it(room):
    bare = replace(room, pieces=())
    hidden = 0
    for piece in room.pieces:
        box = piece.footprint
        for axis, side in zip(box.axes(), (box.width, box.depth), strict=True):
            spots = [np.array((box.x, box.y)) + sign * axis * (side / 2 + 0.05) for sign in (-1, 1)]
            height = (box.low + box.high) / 2
            eyes, there = np.array([(*spots[0], height)]), np.array([(*spots[1], height)])
            targets = Targets(there, np.array([len(room.pieces)]))
            if cameras.visible(bare, eyes, targets)[0, 0]:
                assert not cameras.visible(room, eyes, targets)[0, 0], piece
                hidden += 1
            own = Targets(there, np.array([room.pieces.index(piece)]))
            alone = replace(room, pieces=room.pieces[: own.owners[0] + 1])
            others = replace(room, pieces=room.pieces[: own.owners[0]])
            assert cameras.visible(alone, eyes, own)[0, 0] == cameras.visible(others, eyes, own)[0, 0]
    assert hidden >= 3


def test_noise_grows_with_distance_and_has_the_stated_spread():
    sensor = Sensor(drop_share=0, hole_share=0)
    for depth_m in (1.0, 4.0):
        depth = measured(stream("noise"), wall(depth_m), sensor, [])
        spread = sensor.noise_m + sensor.noise_per_m2 * (depth_m - 0.4) ** 2
        assert np.isclose((depth - depth_m).std(), spread, rtol=0.05)
        np.testing.assert_allclose(depth * 1000, np.rint(depth * 1000), atol=1e-3)


def test_stated_shares_of_pixels_are_lost():
    scattered = measured(stream("drop"), wall(2.0), Sensor(drop_share=0.1, hole_share=0), [])
    assert np.isclose((scattered == 0).mean(), 0.1, atol=0.01)
    blocks = measured(stream("hole"), wall(2.0), Sensor(drop_share=0, hole_share=0.3), []) == 0
    assert np.isclose(blocks.mean(), 0.3, atol=0.06)
    square = blocks.reshape(15, 8, 20, 8)
    assert (square.all(axis=(1, 3)) == square.any(axis=(1, 3))).all()
    glass = measured(stream("glass"), wall(2.0, 4), Sensor(), [5])
    assert np.isclose((glass == 0).mean(), 0.9, atol=0.03)
    assert (measured(stream("far"), wall(9.0), Sensor(), []) == 0).all()


def test_edges_lose_their_pixels():
    view = wall(2.0)
    view.depth[:, 80:] = 3.0
    depth = measured(stream("edge"), view, EXACT, [])
    np.testing.assert_array_equal(np.unique(np.nonzero(depth == 0)[1]), [79])


def test_a_flat_wall_becomes_a_flat_mesh_of_one_object():
    pose = look(np.array((0.0, 0.0, 1.5)), 0.0, 0.0)
    view = wall(2.0, 3)
    scan = fuse([view], [measured(stream("flat"), view, EXACT, [])], [pose], LENS, Fusion(min_points=1))
    np.testing.assert_allclose(scan.vertices[:, 0], 2.0, atol=1e-6)
    assert set(scan.objects) == {3}
    assert (scan.colors == 80).all()
    corners = scan.vertices[scan.faces].astype(np.float64)
    turns = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # All faces look back at the camera, and together they cover the wall.
    assert (turns[:, 0] < 0).all()
    wide, high = 2.0 * (LENS.width - 4) / LENS.fx, 2.0 * (LENS.height - 4) / LENS.fy
    assert np.isclose(np.linalg.norm(turns, axis=1).sum() / 2, wide * high, rtol=0.05)


def test_vertices_lie_where_their_pixels_were_seen():
    rng = np.random.default_rng(0)
    pose = look(np.array((0.5, -1.0, 1.5)), 0.7, 0.2, 0.1)
    view = wall(2.0)
    view.depth[:] = rng.uniform(1.0, 3.0, size=view.depth.shape)
    scan = fuse([view], [view.depth], [pose], LENS, Fusion(voxel_m=0.001, min_points=1))
    found = project(Points(scan.vertices.astype(np.float64), Frame.RAW), pose, LENS, threshold=0, border_px=0)
    assert found.visible.all()
    z = (scan.vertices - pose[:3, 3]) @ pose[:3, 2]
    np.testing.assert_allclose(z, view.depth[found.rows, found.columns], atol=2e-3)


def test_voxels_with_too_few_points_are_left_out_and_faces_stay_within_the_vertices():
    poses = [look(np.array((0.0, 0.0, 1.5)), yaw, 0.0) for yaw in (0.0, 0.2)]
    views = [wall(2.0), wall(2.2)]
    all_points, many = (
        fuse(views, [view.depth for view in views], poses, LENS, Fusion(voxel_m=0.05, min_points=count))
        for count in (1, 3)
    )
    assert 0 < len(many.vertices) < len(all_points.vertices)
    assert many.faces.max() < len(many.vertices)
    assert len(many.objects) == len(many.colors) == len(many.segments) == len(many.vertices)


def test_segments_lie_within_one_object_and_one_cell():
    view = wall(2.0)
    view.ids[:, 80:] = 2
    pose = look(np.array((0.0, 0.0, 1.5)), 0.0, 0.0)
    scan = fuse([view], [view.depth], [pose], LENS, Fusion())
    assert set(scan.objects) == {0, 1}
    for segment in np.unique(scan.segments):
        rows = scan.segments == segment
        assert len(set(scan.objects[rows])) == 1
        assert np.ptp(scan.vertices[rows], axis=0).max() <= 0.5 + 1e-6


def test_faces_do_not_cross_a_step_in_depth():
    view = wall(2.0)
    view.depth[:, 80:] = 3.0
    pose = np.eye(4)
    scan = fuse([view], [view.depth], [pose], LENS, Fusion(min_points=1))
    z = (scan.vertices @ inverse(pose)[:3, :3].T)[:, 2][scan.faces]
    assert np.ptp(z, axis=1).max() < 0.1
    assert {2, 3} == set(np.rint(np.unique(z)).astype(int))
