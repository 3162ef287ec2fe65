"""MultiScan is read with its objects on faces, its poses in their own frame, its numbers as numbers."""

import json

import numpy as np
import pytest

from tests.fixtures_multiscan import OBJECT_IDS, SCANS, write_mesh, write_multiscan
from tests.layout_files import picture, ply, rgb, write, xyz
from trainer.data.readers.multiscan import MultiscanDataset, register
from trainer.data.scans import NO_OBJECT, Registry, Split
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.projection import project


@pytest.fixture
def scene(tmp_path):
    return write_multiscan(tmp_path)


@pytest.fixture
def dataset(scene, tmp_path):
    return MultiscanDataset(tmp_path)


@pytest.fixture
def scan(dataset):
    return dataset.open(dataset.entries()[0])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scenes" / SCANS[0]


def test_it_is_known_by_its_name(scene, tmp_path):
    registry = Registry()
    register(registry)
    assert registry.open("multiscan", tmp_path).name == "multiscan"


def test_places_are_told_apart_by_all_but_the_last_number(dataset):
    entries = dataset.entries()
    assert [entry.scan_id for entry in entries] == list(SCANS)
    assert [entry.place_id for entry in entries] == ["scene_00000", "scene_00000", "scene_00010"]
    assert [entry.is_reference for entry in entries] == [True, False, True]


def test_a_scan_listed_for_validation_and_test_counts_for_validation(dataset):
    assert [entry.split for entry in dataset.entries()] == [Split.TRAIN, Split.TRAIN, Split.VAL]


def test_a_scan_listed_for_training_and_validation_is_refused(dataset, tmp_path):
    write(tmp_path / "files" / "val_scans.txt", f"{SCANS[0]}\n")
    with pytest.raises(InvalidInput, match=r"val_scans.txt: scan scene_00000_00 is listed for train as well"):
        dataset.entries()


def test_a_place_in_two_splits_is_refused(dataset, tmp_path):
    write(tmp_path / "files" / "train_scans.txt", f"{SCANS[0]}\n")
    write(tmp_path / "files" / "test_scans.txt", f"{SCANS[1]}\n")
    with pytest.raises(InvalidInput, match="place scene_00000 lies in splits train and test"):
        dataset.entries()


def test_without_any_listed_scan_the_data_set_is_not_there(dataset, tmp_path):
    for split in ("train", "val", "test"):
        text = "" if split == "train" else "scene_00099_00\n"
        write(tmp_path / "files" / f"{split}_scans.txt", text)
    with pytest.raises(NotFound, match="none of 1 listed scans is there"):
        dataset.entries()


def test_vertices_have_the_objects_of_their_faces(scan, scene):
    surface = scan.surface()
    np.testing.assert_allclose(surface.points.xyz, scene.vertices, atol=1e-6)
    assert np.array_equal(surface.colors, scene.colors)
    assert np.array_equal(surface.object_ids, np.array(OBJECT_IDS)[scene.instance_ids])


def test_the_last_face_wins_and_vertices_without_one_have_no_object(scan, folder, scene):
    points = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (2, 1, 0), (9, 9, 9), (3, 0, 0)], float)
    faces = np.array([(0, 1, 2), (1, 2, 3), (3, 4, 1), (4, 6, 6)])
    face = {"objectId": np.array([4, 9, -1, 30], dtype="i4")}
    colors = np.zeros((7, 3))
    write(folder / f"{SCANS[0]}.ply", ply({**xyz(points), **rgb(colors)}, faces, face))
    expected = [NO_OBJECT] * 7
    for corners, owner in zip(faces, face["objectId"], strict=True):
        for corner in corners:
            # What is to be removed, object 30, is no object.
            expected[corner] = owner if owner in (4, 9) else NO_OBJECT
    assert scan.surface().object_ids.tolist() == expected == [4, -1, 9, -1, -1, -1, -1]


def test_a_mesh_whose_faces_have_no_objects_is_refused(scan, folder, scene):
    write(folder / f"{SCANS[0]}.ply", ply({**xyz(scene.vertices), **rgb(scene.colors)}, scene.faces, {}))
    with pytest.raises(InvalidInput, match=r"scene_00000_00.ply: its faces have no objectId"):
        scan.surface()


def test_objects_are_ordered_and_labelled_in_words(scan):
    found = [(one.object_id, one.label, one.nyu40) for one in scan.objects()]
    assert found == [(2, "wall cabinet", 3), (4, "floor", 2), (9, "wall", 1)]


def test_frames_are_in_the_order_of_their_numbers(scan):
    assert [view.view_id for view in scan.views()] == ["0", "20", "100"]
    assert [view.is_tracked for view in scan.views()] == [True, True, False]


def test_poses_come_into_the_frame_of_the_mesh(scan, scene):
    for view, pose in zip(scan.views()[:2], scene.camera_to_world[:2], strict=True):
        np.testing.assert_allclose(view.camera_to_world, pose, atol=1e-9)
        assert view.intrinsics == scene.intrinsics
        assert view.color() == picture(64, 48, "JPEG")
        assert view.depth() is None


@pytest.mark.parametrize(("at", "counts"), [(0, [157, 254, 237]), (1, [156, 220, 213])])
def test_as_many_points_are_seen_as_were_measured(scan, scene, at, counts):
    view, surface = scan.views()[at], scan.surface()
    found = project(
        surface.points,
        view.camera_to_world,
        view.intrinsics,
        scene.depth[at],
        threshold=0.25,
        border_px=1,
    )
    assert [int((found.visible & (surface.object_ids == one)).sum()) for one in OBJECT_IDS] == counts


def test_intrinsics_follow_the_true_size_of_the_picture(scan, folder):
    write(folder / "sequence" / "frame-0.color.jpg", picture(32, 24, "JPEG"))
    camera = scan.views()[0].intrinsics
    assert (camera.width, camera.height, camera.fx) == (32, 24, pytest.approx(57.787061 / 2))


def test_frames_without_a_line_count_as_lost_and_keep_the_intrinsics_of_the_stream(scan, folder, scene):
    write(folder / "sequence" / "frame-7.color.jpg", picture(64, 48, "JPEG"))
    view = next(view for view in scan.views() if view.view_id == "7")
    assert not view.is_tracked
    assert view.intrinsics == scene.intrinsics


def edit_line(folder, **changes):
    lines = (folder / "poses.jsonl").read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | changes)
    (folder / "poses.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("transform", [[0.0] * 16, [float("nan")] * 16, [float("-inf")] * 16])
def test_a_pose_without_meaning_counts_as_lost(scan, folder, transform):
    edit_line(folder, transform=transform)
    assert not scan.views()[0].is_tracked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transform": [1.0] * 15}, r"line 1.transform: shape \[15\], needs \[16\]"),
        ({"transform": ["x"] * 16}, "line 1.transform: is no list of numbers"),
        ({"transform": [2.0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]}, "line 1.transform: off a rot"),
        ({"intrinsics": [-1.0, 0, 0, 0, 1, 0, 0, 0, 1]}, "line 1.intrinsics: intrinsics.fx"),
        ({"intrinsics": [1.0] * 8}, r"line 1.intrinsics: shape \[8\]"),
    ],
)
def test_a_broken_line_is_named(scan, folder, changes, said):
    edit_line(folder, **changes)
    view = scan.views()[0]
    with pytest.raises(InvalidInput, match=f"poses.jsonl, {said}"):
        _ = (view.camera_to_world, view.intrinsics)


def test_without_an_alignment_poses_are_not_guessed(scan, folder):
    (folder / f"{SCANS[0]}.align.json").unlink()
    with pytest.raises(NotFound, match=r"scene_00000_00.align.json: there is no such file"):
        scan.views()


def test_sentences_are_about_objects_of_the_scan(scan):
    assert [(one.text, one.target_id) for one in scan.referrals()] == [("The cabinet is before the wall.", 2)]


def test_a_truncated_mesh_is_refused(scan, folder, scene):
    path = folder / f"{SCANS[0]}.ply"
    write_mesh(path, scene)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match=r"scene_00000_00.ply"):
        scan.surface()
