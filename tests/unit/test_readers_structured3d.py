"""Structured3D is read with poses from camera to world, in metres, and focal lengths as fractions."""

import numpy as np
import pytest

from tests.fixtures_structured3d import CAMERA, ROOMS, write_structured3d
from tests.layout_files import picture, png16, write
from trainer.data.readers.structured3d import Structured3dDataset, register
from trainer.data.scans import NO_OBJECT, Registry, Split
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.projection import project


@pytest.fixture
def scene(tmp_path):
    return write_structured3d(tmp_path)


@pytest.fixture
def dataset(scene, tmp_path):
    return Structured3dDataset(tmp_path)


@pytest.fixture
def scan(dataset):
    return dataset.open(dataset.entries()[0])


@pytest.fixture
def folder(tmp_path):
    """The first view."""
    return tmp_path / "scans" / "scene_00000" / "2D_rendering" / "485142" / "perspective" / "full" / "2"


def test_it_is_known_by_its_name(scene, tmp_path):
    registry = Registry()
    register(registry)
    assert registry.open("structured3d", tmp_path).name == "structured3d"


def test_each_room_is_a_place(dataset):
    entries = dataset.entries()
    assert [entry.scan_id for entry in entries] == list(ROOMS)
    assert [entry.place_id for entry in entries] == list(ROOMS)
    assert [entry.split for entry in entries] == [Split.TRAIN, Split.TRAIN, Split.VAL]
    assert all(entry.is_reference for entry in entries)


def test_a_house_in_two_splits_is_refused(dataset, tmp_path):
    write(tmp_path / "files" / "train_scans.txt", f"{ROOMS[0]}\n")
    write(tmp_path / "files" / "test_scans.txt", f"{ROOMS[1]}\n")
    with pytest.raises(InvalidInput, match="house scene_00000 lies in splits train and test"):
        dataset.entries()


def test_a_name_of_a_house_is_no_room(dataset, tmp_path):
    write(tmp_path / "files" / "train_scans.txt", "scene_00000\n")
    with pytest.raises(InvalidInput, match="scene_00000 is no id of a room"):
        dataset.entries()


def test_the_mesh_comes_whole_and_background_is_no_object(scan, scene):
    surface = scan.surface()
    np.testing.assert_allclose(surface.points.xyz, scene.vertices, atol=1e-6)
    assert np.array_equal(surface.colors, scene.colors)
    assert np.array_equal(surface.object_ids, np.array((0, NO_OBJECT, 17))[scene.instance_ids])
    assert len(surface.faces) == 1960


def test_an_object_is_of_the_class_of_most_of_its_vertices(scan):
    found = [(one.object_id, one.label, one.nyu40) for one in scan.objects()]
    assert found == [(0, "floor", 2), (17, "cabinet", 3)]


def test_views_are_in_the_order_of_their_numbers(scan):
    assert [view.view_id for view in scan.views()] == ["2", "10", "100"]
    assert [view.is_tracked for view in scan.views()] == [True, True, False]


def test_poses_lead_from_camera_to_world_in_metres(scan, scene):
    for view, pose in zip(scan.views()[:2], scene.camera_to_world[:2], strict=True):
        np.testing.assert_allclose(view.camera_to_world, pose, atol=1e-8)


def test_focal_lengths_keep_their_fractions(scan):
    camera = scan.views()[0].intrinsics
    assert camera == CAMERA.resized(64, 48)
    assert camera.fx == pytest.approx(32 / np.tan(0.5059), abs=1e-6)
    assert camera.fx % 1 > 0.1
    assert camera.fy % 1 > 0.1


@pytest.mark.parametrize("at", [0, 1])
def test_points_fall_on_pixels_of_their_object(scan, scene, at):
    view, surface = scan.views()[at], scan.surface()
    depth, pixels = view.depth(), view.object_pixels()
    found = project(
        surface.points, view.camera_to_world, depth.intrinsics, depth.metres, threshold=0.02, border_px=1
    )
    counts = np.bincount(scene.instance_ids[found.visible])
    assert counts.min() > 50
    seen = pixels[found.rows[found.visible], found.columns[found.visible]]
    # Along the edges between objects rounding may choose the other.
    assert np.mean(seen == surface.object_ids[found.visible]) > 0.9
    assert set(np.unique(pixels)) == {NO_OBJECT, 0, 17}


def test_depth_and_instances_may_be_missing(scan, folder):
    for name in ("depth.png", "instance.png"):
        (folder / name).unlink()
    view = scan.views()[0]
    assert view.depth() is None
    assert view.object_pixels() is None


def test_the_room_has_its_kind_and_its_plan(scan, dataset):
    assert scan.scene_label() == "living room"
    (plan,) = scan.floorplans()
    assert plan.encoded == picture(40, 30, "PNG")
    assert dataset.open(dataset.entries()[1]).scene_label() == ""


def test_sentences_are_about_the_one_object_that_they_are_tied_to(scan, dataset):
    assert [(one.text, one.target_id) for one in scan.referrals()] == [("Sentence 1.", 17)]
    assert dataset.open(dataset.entries()[1]).referrals() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3", "3 numbers, needs 11 or 12"),
        ("0 0 0 1 0 0 0 0 1 x .4 1", "is not all numbers"),
        ("0 0 0 1 0 0 0 0 1 -0.5 .4 1", "needs half angles of view"),
        ("0 0 0 1 0 0 0 0 1 nan .4 1", "needs half angles of view"),
    ],
)
def test_a_broken_camera_is_named(scan, folder, text, said):
    write(folder / "camera_pose.txt", text)
    view = scan.views()[0]
    with pytest.raises(InvalidInput, match=f"2/camera_pose.txt: .*{said}"):
        _ = (view.camera_to_world, view.intrinsics)


@pytest.mark.parametrize("looks", ["0 0 0 0 0 1", "0 0 1 0 0 1", "nan 0 0 0 0 1", "-inf -inf -inf 0 0 1"])
def test_a_camera_that_looks_nowhere_counts_as_lost(scan, folder, looks):
    write(folder / "camera_pose.txt", f"0 0 0 {looks} .5 .4 1")
    assert not scan.views()[0].is_tracked


def test_a_broken_picture_of_instances_is_named(scan, folder):
    data = png16(np.zeros((48, 64)))
    write(folder / "instance.png", data[: len(data) // 2])
    with pytest.raises(InvalidInput, match=r"2/instance.png: cannot be decoded"):
        scan.views()[0].object_pixels()


def test_a_room_that_is_not_there_is_left_out(dataset, tmp_path):
    for room in ("485142", "490854"):
        (tmp_path / "scans" / "scene_00000" / "3D_rendering" / room / "room_mesh.ply").unlink()
        (tmp_path / "scans" / "scene_00000" / "3D_rendering" / room).rmdir()
    assert [entry.scan_id for entry in dataset.entries()] == [ROOMS[2]]
    scan = dataset.open(dataset.entries()[0])
    (tmp_path / "scans" / "scene_03000" / "3D_rendering" / "12" / "room_mesh.ply").unlink()
    with pytest.raises(NotFound, match=r"room_mesh.ply: there is no such file"):
        scan.surface()
