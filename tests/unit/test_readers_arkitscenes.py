"""ARKitScenes is read with its boxes as objects, its poses inverted and its times matched."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_arkitscenes import VIDEOS, annotated, motion_text, write_arkitscenes
from tests.layout_files import picture, write
from trainer.data.readers.arkitscenes import ArkitDataset, register, rotation_about
from trainer.data.scans import NO_OBJECT, Registry, Split
from xscene.errors import InvalidInput
from xscene.geometry.projection import project


@pytest.fixture
def scene(tmp_path):
    return write_arkitscenes(tmp_path)


@pytest.fixture
def dataset(scene, tmp_path):
    return ArkitDataset(tmp_path)


@pytest.fixture
def scan(dataset):
    return dataset.open(next(entry for entry in dataset.entries() if entry.scan_id == VIDEOS[0]))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scans" / VIDEOS[0]


def test_it_is_known_by_its_name(scene, tmp_path):
    registry = Registry()
    register(registry)
    assert registry.open("arkitscenes", tmp_path).name == "arkitscenes"


def test_videos_of_a_visit_share_a_place_and_the_first_listed_is_the_reference(dataset):
    entries = {entry.scan_id: entry for entry in dataset.entries()}
    assert list(entries) == sorted(VIDEOS)
    assert [entries[one].place_id for one in VIDEOS] == [
        "visit_382147",
        "visit_382147",
        VIDEOS[2],
        "visit_421069",
    ]
    assert [entries[one].is_reference for one in VIDEOS] == [False, True, True, True]
    assert [entries[one].split for one in VIDEOS] == [Split.TRAIN] * 3 + [Split.VAL]


def test_lists_of_splits_go_before_the_folds_of_the_table(dataset, tmp_path):
    write(tmp_path / "files" / "val_scans.txt", f"{VIDEOS[0]}\n")
    (entry,) = dataset.entries()
    assert (entry.scan_id, entry.place_id, entry.split) == (VIDEOS[0], "visit_382147", Split.VAL)
    assert not entry.is_reference or entry.scan_id == VIDEOS[0]


def test_a_broken_table_of_visits_is_named(dataset, tmp_path):
    write(tmp_path / "files" / "3dod_train_val_splits.csv", "video_id,visit_id,fold\n1,2,Elsewhere\n")
    with pytest.raises(InvalidInput, match=r"3dod_train_val_splits.csv, line 2: needs .*Training"):
        dataset.entries()


def test_vertices_belong_to_the_last_box_that_holds_them(scan, scene):
    surface = scan.surface()
    expected = []
    for point in scene.vertices.astype(np.float32).astype(np.float64):
        owner = NO_OBJECT
        for number, one in enumerate(annotated(), start=1):
            described = one["segments"]["obbAligned"]
            axes = np.reshape(described["normalizedAxes"], (3, 3))
            offset = point - described["centroid"]
            # Each row is an axis.
            along = [abs(float(axis @ offset)) for axis in axes]
            if all(part <= side / 2 for part, side in zip(along, described["axesLengths"], strict=True)):
                owner = number
        expected.append(owner)
    assert surface.object_ids.tolist() == expected
    assert min(expected.count(one) for one in (-1, 1, 2, 3)) > 30
    assert np.array_equal(surface.colors, scene.colors)


def test_objects_are_numbered_from_one_and_labelled_as_in_scannet(scan):
    found = [(one.object_id, one.label, one.nyu40) for one in scan.objects()]
    assert found == [(1, "cabinet", 3), (2, "tv", 25), (3, "washing machine", 39)]


def test_boxes_whose_axes_mirror_are_the_same_boxes(scan, folder):
    expected = scan.surface().object_ids
    found = annotated()
    for one in found:
        axes = one["segments"]["obbAligned"]["normalizedAxes"]
        axes[:3] = [-number for number in axes[:3]]
    write(folder / f"{VIDEOS[0]}_3dod_annotation.json", {"data": found})
    assert np.array_equal(scan.surface().object_ids, expected)


def test_pictures_are_in_the_order_of_their_time(scan):
    assert [view.view_id for view in scan.views()] == ["9.999", "100.120", "100.250"]


def test_poses_lead_from_camera_to_world(scan, scene):
    for view, pose in zip(scan.views()[:2], scene.camera_to_world[:2], strict=True):
        np.testing.assert_allclose(view.camera_to_world, pose, atol=1e-7)
        assert view.intrinsics == scene.intrinsics


def test_a_picture_without_a_pose_counts_as_lost(scan):
    assert [view.is_tracked for view in scan.views()] == [True, True, False]


@pytest.mark.parametrize(("at", "counts"), [(0, [157, 254, 237]), (1, [156, 220, 213])])
def test_as_many_points_are_seen_as_were_measured(scan, scene, at, counts):
    view = scan.views()[at]
    depth = view.depth()
    found = project(
        scan.surface().points,
        view.camera_to_world,
        depth.intrinsics,
        depth.metres,
        threshold=0.25,
        border_px=1,
    )
    assert np.bincount(scene.instance_ids[found.visible]).tolist() == counts


def test_the_very_time_goes_before_its_neighbours(scan, folder, scene):
    path = folder / f"{VIDEOS[0]}_frames" / "lowres_wide.traj"
    far = motion_text(scene.camera_to_world[1])
    near = motion_text(scene.camera_to_world[0])
    path.write_text(f"100.250 {near}\n100.251 {far}\n100.249 {far}\n")
    np.testing.assert_allclose(scan.views()[2].camera_to_world, scene.camera_to_world[0], atol=1e-7)
    path.write_text(f"100.252 {near}\n100.248 {far}\n")
    assert not scan.views()[2].is_tracked


def test_intrinsics_follow_the_true_size_of_the_picture(scan, folder):
    name = f"{VIDEOS[0]}_100.250.png"
    write(folder / f"{VIDEOS[0]}_frames" / "lowres_wide" / name, picture(128, 96, "PNG"))
    view = scan.views()[2]
    assert (view.intrinsics.width, view.intrinsics.fx) == (128, pytest.approx(2 * 57.787061))
    assert (view.depth().intrinsics.width, view.depth().intrinsics.fx) == (64, pytest.approx(57.787061))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1.0 0 0 0 0 0", "6 numbers, needs 7"),
        ("nan 0 0 0 0 0 0", "time nan, needs a finite number"),
        ("1.0 x 0 0 0 0 0", "is not all numbers"),
    ],
)
def test_a_broken_line_of_the_trajectory_is_named(scan, folder, line, said):
    write(folder / f"{VIDEOS[0]}_frames" / "lowres_wide.traj", f"{line}\n")
    with pytest.raises(InvalidInput, match=f"lowres_wide.traj, line 1: .*{said}"):
        scan.views()


def test_a_pose_that_is_not_finite_counts_as_lost(scan, folder):
    write(folder / f"{VIDEOS[0]}_frames" / "lowres_wide.traj", "9.999 -inf 0 nan 0 0 0\n")
    assert not scan.views()[0].is_tracked


def test_a_picture_without_intrinsics_counts_as_lost_and_is_told_of(scan, folder, caplog):
    (folder / f"{VIDEOS[0]}_frames" / "lowres_wide_intrinsics" / f"{VIDEOS[0]}_9.998.pincam").unlink()
    assert [view.is_tracked for view in scan.views()] == [False, True, False]
    assert [(each.scan, each.num_missing) for each in caplog.records] == [(VIDEOS[0], 1)]


def test_missing_or_broken_intrinsics_are_named(scan, folder):
    path = folder / f"{VIDEOS[0]}_frames" / "lowres_wide_intrinsics" / f"{VIDEOS[0]}_9.998.pincam"
    write(path, "64 48 -1 57 31 23")
    with pytest.raises(InvalidInput, match=r"41098139_9.998.pincam: intrinsics.fx"):
        _ = scan.views()[0].intrinsics
    path.unlink()
    with pytest.raises(InvalidInput, match=r"41098139_9.999.png: has no .pincam file of its time"):
        _ = scan.views()[0].intrinsics


def test_a_broken_box_is_named(scan, folder):
    found = annotated()
    found[1]["segments"]["obbAligned"]["axesLengths"] = [1, -1, 1]
    path = write(folder / f"{VIDEOS[0]}_3dod_annotation.json", {"data": found})
    with pytest.raises(InvalidInput, match=r"annotation.json: data\[1\].segments.obbAligned: size"):
        scan.objects()
    found[1]["segments"] = json.loads("{}")
    write(path, {"data": found})
    with pytest.raises(InvalidInput, match=r"data\[1\].segments: has no obbAligned"):
        scan.surface()


def test_sentences_are_about_objects_of_the_scan(scan):
    ((text, target),) = [(one.text, one.target_id) for one in scan.referrals()]
    assert (text, target) == ("The cabinet is before the television.", 1)


@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_axis_and_angle_turn_as_quaternions_do(axis_angle):
    from xscene.geometry.frames import pose

    angle = float(np.linalg.norm(axis_angle))
    half = np.sinc(angle / 2 / np.pi) / 2
    expected = pose((0, 0, 0), (*(half * np.array(axis_angle)), np.cos(angle / 2)))
    np.testing.assert_allclose(rotation_about(np.array(axis_angle)), expected[:3, :3], atol=1e-9)
