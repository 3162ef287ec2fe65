"""3RScan is read as its authors meant it: true colours, column after column, from reference to rescan."""

import json
import logging
import shutil

import numpy as np
import pytest

from tests.fixtures_rscan import (
    CABINET,
    PALETTE,
    REFERENCE,
    REFERENCE_FROM_RESCAN,
    RESCAN,
    TEST_REFERENCE,
    TEST_RESCAN,
    write_labels,
    write_rscan,
)
from tests.layout_files import column_major, millimetres, picture, write
from trainer.data.readers.rscan import RscanDataset, RscanRules, register
from trainer.data.scans import NO_OBJECT, Registry, Split
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.geometry.frames import Frame, apply
from xscene.geometry.projection import project

COUNTS = {0: [157, 254, 237], 1: [156, 220, 213]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("3rscan")
    return root, write_rscan(root)


@pytest.fixture
def scene(written, tmp_path):
    """The scene; each test may change its own copy of the files."""
    root, scene = written
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return scene


@pytest.fixture
def dataset(scene, tmp_path):
    return RscanDataset(tmp_path)


def scan_of(dataset, scan_id):
    return dataset.open(next(entry for entry in dataset.entries() if entry.scan_id == scan_id))


def edit(path, change):
    """A JSON file with a part of it changed."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_it_is_known_by_its_name(scene, tmp_path):
    registry = Registry()
    register(registry)
    assert registry.open("3rscan", tmp_path).name == "3rscan"


def test_rescans_share_the_place_and_the_split_of_their_reference(dataset):
    entries = {entry.scan_id: entry for entry in dataset.entries()}
    assert list(entries) == sorted([REFERENCE, RESCAN, TEST_REFERENCE, TEST_RESCAN])
    assert [entries[one].place_id for one in (REFERENCE, RESCAN)] == [REFERENCE, REFERENCE]
    assert [entries[one].is_reference for one in (REFERENCE, RESCAN)] == [True, False]
    assert entries[RESCAN].split == Split.TRAIN
    assert entries[TEST_RESCAN].split == Split.TEST


def test_without_the_list_of_places_the_lists_of_splits_count(dataset, tmp_path):
    (tmp_path / "files" / "3RScan.json").unlink()
    write(tmp_path / "files" / "train_scans.txt", f"{REFERENCE}\n")
    write(tmp_path / "files" / "val_scans.txt", f"{RESCAN}\n")
    assert [(entry.scan_id, entry.split) for entry in dataset.entries()] == [
        (REFERENCE, Split.TRAIN),
        (RESCAN, Split.VAL),
    ]


def test_vertices_have_the_colours_of_the_texture_and_never_those_of_the_palette(dataset, scene):
    surface = scan_of(dataset, REFERENCE).surface()
    np.testing.assert_allclose(surface.points.xyz, scene.vertices, atol=1e-6)
    assert np.array_equal(surface.colors, scene.colors)
    assert not (surface.colors == PALETTE[scene.instance_ids]).all(axis=1).any()
    assert np.array_equal(surface.object_ids, scene.instance_ids + 1)
    assert np.array_equal(surface.faces, scene.faces)


@pytest.mark.parametrize("name", ["mesh.refined_0.png", "mesh.refined.mtl", "mesh.refined.v2.obj"])
def test_without_texture_there_are_no_colours(dataset, tmp_path, scene, name):
    (tmp_path / "scans" / REFERENCE / name).unlink()
    surface = scan_of(dataset, REFERENCE).surface()
    assert surface.colors is None
    assert np.array_equal(surface.object_ids, scene.instance_ids + 1)


def test_labels_in_another_order_are_matched_by_position_and_reported(dataset, scene, tmp_path, caplog):
    order = np.random.default_rng(0).permutation(1127)
    write_labels(tmp_path / "scans" / REFERENCE, scene, scene.vertices, order)
    with caplog.at_level(logging.WARNING):
        surface = scan_of(dataset, REFERENCE).surface()
    # Where objects touch, vertices of two of them share a place.
    agree = surface.object_ids == scene.instance_ids + 1
    assert np.unique(scene.vertices[~agree].round(6), axis=0).shape[0] <= 21 + 24
    assert agree.sum() > 1060
    (record,) = [record for record in caplog.records if record.message == "labels matched by position"]
    assert (record.scan, record.vertices, record.unmatched) == (REFERENCE, 1127, 0)


def test_labels_of_other_vertices_leave_those_far_off_without_an_object(dataset, scene, tmp_path):
    write_labels(tmp_path / "scans" / REFERENCE, scene, scene.vertices, np.arange(441))
    ids = scan_of(dataset, REFERENCE).surface().object_ids
    assert np.all(ids[:441] == 1)
    assert np.all(ids[scene.vertices[:, 2] > 0.03] == NO_OBJECT)


def test_labels_of_another_frame_are_refused(dataset, scene, tmp_path):
    write_labels(tmp_path / "scans" / REFERENCE, scene, scene.vertices + 100)
    with pytest.raises(InvalidInput, match=rf"{REFERENCE}/labels.*0\.02 m"):
        scan_of(dataset, REFERENCE).surface()


def test_segments_tell_objects_where_the_labels_are_missing(dataset, scene, tmp_path):
    folder = tmp_path / "scans" / REFERENCE
    (folder / "labels.instances.annotated.v2.ply").unlink()
    assert np.array_equal(scan_of(dataset, REFERENCE).surface().object_ids, scene.instance_ids + 1)
    edit(folder / "mesh.refined.0.010000.segs.v2.json", lambda found: found["segIndices"].pop())
    with pytest.raises(InvalidInput, match="1126 segments of 1127 vertices"):
        scan_of(dataset, REFERENCE).surface()


def test_a_scan_for_test_has_a_surface_and_no_objects(dataset):
    scan = scan_of(dataset, TEST_RESCAN)
    assert scan.objects() == ()
    assert np.all(scan.surface().object_ids == NO_OBJECT)
    assert scan.rescan_link() is None
    assert scan.views() == ()


def test_a_folder_without_files_says_which_are_missing(dataset, tmp_path):
    (tmp_path / "scans" / TEST_RESCAN / "mesh.refined.v2.obj").unlink()
    with pytest.raises(NotFound, match=r"mesh.refined.v2.obj nor labels.instances"):
        scan_of(dataset, TEST_RESCAN).surface()


def test_objects_have_labels_classes_and_boxes_that_hold_their_vertices(dataset, scene):
    for scan_id in (REFERENCE, RESCAN):
        scan = scan_of(dataset, scan_id)
        objects, surface = {one.object_id: one for one in scan.objects()}, scan.surface()
        assert [objects[one].label for one in (1, 2, 3)] == ["floor", "wall", "cabinet"]
        assert [objects[one].nyu40 for one in (1, 2, 3)] == [2, 1, 3]
        for one in (1, 2, 3):
            mine = surface.points.take(surface.object_ids == one)
            assert objects[one].box.frame == Frame.RAW
            assert objects[one].box.contains(mine, margin_m=1e-5).all()
        np.testing.assert_allclose(objects[3].box.size, (0.6, 0.6, 0.6), atol=1e-6)
    assert (objects[4].label, objects[4].nyu40, objects[4].box) == ("bag", None, None)


def test_an_object_given_twice_is_refused(dataset, tmp_path):
    path = tmp_path / "scans" / REFERENCE / "semseg.v2.json"
    edit(path, lambda found: found["segGroups"].append(found["segGroups"][0]))
    with pytest.raises(InvalidInput, match=r"semseg.v2.json: segGroups\[3\].objectId: 1 is .*given twice"):
        scan_of(dataset, REFERENCE).objects()


@pytest.mark.parametrize("zipped", [False, True])
def test_frames_are_those_that_were_written(tmp_path, zipped):
    scene = write_rscan(tmp_path, zipped=zipped)
    views = scan_of(RscanDataset(tmp_path), REFERENCE).views()
    assert [view.view_id for view in views] == ["000000", "000020", "000100"]
    assert [view.is_tracked for view in views] == [True, True, False]
    for at in range(2):
        np.testing.assert_allclose(views[at].camera_to_world, scene.camera_to_world[at], atol=1e-8)
        depth = views[at].depth()
        expected = millimetres(scene.depth[at])[::2, ::2].astype(np.float32) / np.float32(1000)
        assert np.array_equal(depth.metres, expected)
        assert (depth.intrinsics.width, depth.intrinsics.height) == (32, 24)
        assert depth.intrinsics.cx == 15.75
    assert views[0].color() == picture(64, 48, "JPEG")
    assert views[0].intrinsics == scene.intrinsics


def visible(view, points, ids, threshold):
    depth = view.depth()
    found = project(
        points, view.camera_to_world, depth.intrinsics, depth.metres, threshold=threshold, border_px=1
    )
    return np.bincount(ids[found.visible], minlength=4)[1:].tolist()


@pytest.mark.parametrize("scan_id", [REFERENCE, RESCAN])
def test_as_many_points_are_seen_as_were_measured(tmp_path, scan_id):
    write_rscan(tmp_path, depth_step=1)
    scan = scan_of(RscanDataset(tmp_path), scan_id)
    surface, views = scan.surface(), scan.views()
    for at in range(2):
        counts = visible(views[at], surface.points, surface.object_ids, 0.25)
        # The cabinet stands elsewhere in the rescan.
        assert counts[:2] == COUNTS[at][:2]
        assert (counts == COUNTS[at]) is (scan_id == REFERENCE)


def test_smaller_depth_sees_what_a_loop_over_points_sees(dataset):
    scan = scan_of(dataset, REFERENCE)
    surface, (view, *_) = scan.surface(), scan.views()
    depth, camera = view.depth(), view.depth().intrinsics
    world_to_camera, counts = np.linalg.inv(view.camera_to_world), [0, 0, 0]
    for point, owner in zip(surface.points.xyz, surface.object_ids, strict=True):
        x, y, z, _ = world_to_camera @ (*point.tolist(), 1.0)
        column, row = round(camera.fx * x / z + camera.cx), round(camera.fy * y / z + camera.cy)
        if 1 <= column < 31 and 1 <= row < 23:
            measured = float(depth.metres[row, column])
            counts[owner - 1] += measured > 0 and abs(measured - z) <= 0.25 * measured
    assert counts == visible(view, surface.points, surface.object_ids, 0.25)
    assert min(counts) > 100


def test_intrinsics_follow_the_true_size_of_the_picture(dataset, tmp_path):
    write(tmp_path / "scans" / REFERENCE / "sequence" / "frame-000000.color.jpg", picture(128, 96, "JPEG"))
    camera = scan_of(dataset, REFERENCE).views()[0].intrinsics
    assert (camera.width, camera.height) == (128, 96)
    assert camera.fx == pytest.approx(2 * 57.787061)
    assert camera.cx == pytest.approx(31.5 * 127 / 63)


def test_a_rescan_lies_in_its_reference(dataset, scene):
    scan, reference = scan_of(dataset, RESCAN), scan_of(dataset, REFERENCE)
    link = scan.rescan_link()
    assert link.reference_scan_id == REFERENCE
    assert reference.rescan_link() is None
    stayed = scene.instance_ids != CABINET
    points, wanted = scan.surface().points.xyz, reference.surface().points.xyz
    assert np.abs(apply(link.reference_from_scan, points[stayed]) - wanted[stayed]).max() < 1e-6


def test_an_object_that_moved_is_taken_back_to_where_it_was(dataset, scene):
    scan, reference = scan_of(dataset, RESCAN), scan_of(dataset, REFERENCE)
    (motion,) = scan.rescan_link().motions
    cabinet = scene.instance_ids == CABINET
    assert (motion.object_id, motion.reference_object_id, motion.moved) == (3, 3, True)
    back = apply(motion.reference_from_scan, scan.surface().points.xyz[cabinet])
    assert np.abs(back - reference.surface().points.xyz[cabinet]).max() < 1e-6


def test_an_object_that_is_listed_but_stayed_has_not_moved(dataset, tmp_path):
    def stay(places):
        motion = places[0]["scans"][0]["rigid"][0]
        motion["transform"] = column_major(np.linalg.inv(REFERENCE_FROM_RESCAN))

    edit(tmp_path / "files" / "3RScan.json", stay)
    (motion,) = scan_of(dataset, RESCAN).rescan_link().motions
    assert not motion.moved


def test_what_came_and_what_went_is_named(dataset):
    link = scan_of(dataset, RESCAN).rescan_link()
    assert link.added_ids == (4,)
    assert link.removed_ids == (7,)


def test_matrices_that_stand_row_after_row_are_refused(dataset, tmp_path):
    def transpose(places):
        rescan = places[0]["scans"][0]
        rescan["transform"] = np.reshape(rescan["transform"], (4, 4)).T.reshape(-1).tolist()

    edit(tmp_path / "files" / "3RScan.json", transpose)
    with pytest.raises(InvalidInput, match=r"3RScan.json\[0\].scans\[0\].transform: last row"):
        scan_of(dataset, RESCAN).rescan_link()


def test_millimetres_are_no_metres(dataset, tmp_path):
    def in_millimetres(places):
        matrix = places[0]["scans"][0]["transform"]
        matrix[12:15] = [1000 * number for number in matrix[12:15]]

    edit(tmp_path / "files" / "3RScan.json", in_millimetres)
    with pytest.raises(LimitExceeded, match=r"transform: 540\.83\d* m, the limit is 50"):
        scan_of(dataset, RESCAN).rescan_link()
    wide = RscanDataset(tmp_path, rules=RscanRules(max_shift_m=1000.0))
    assert scan_of(wide, RESCAN).rescan_link().reference_from_scan[0, 3] == 500


def test_sentences_are_about_objects_of_the_scan(dataset):
    (referral,) = scan_of(dataset, REFERENCE).referrals()
    assert (referral.text, referral.target_id) == ("The cabinet is before the wall.", 3)
    assert scan_of(dataset, RESCAN).referrals() == ()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("frame-000000.depth.pgm", b"P5\n32 24\n65535\n" + bytes(1535), "pixels need 1536 bytes, got 1535"),
        ("frame-000000.depth.pgm", b"P5\n99999 99999\n65535\n", "pixels, the limit is"),
        ("frame-000000.pose.txt", b"1 2 3", "3 numbers, needs 16"),
        ("frame-000000.pose.txt", b"2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "off a rotation"),
        ("frame-000000.color.jpg", b"no picture", "no JPEG"),
    ],
)
def test_a_broken_frame_is_named(dataset, tmp_path, name, data, said):
    write(tmp_path / "scans" / REFERENCE / "sequence" / name, data)
    view = scan_of(dataset, REFERENCE).views()[0]
    with pytest.raises(InvalidInput, match=f"(frame-)?000000.*{said}"):
        _ = (view.camera_to_world, view.intrinsics, view.depth())


def test_a_frame_without_pose_or_depth_counts_as_lost(dataset, tmp_path):
    for kind in ("pose.txt", "depth.pgm"):
        (tmp_path / "scans" / REFERENCE / "sequence" / f"frame-000000.{kind}").unlink()
    view = scan_of(dataset, REFERENCE).views()[0]
    assert not view.is_tracked
    assert view.depth() is None


@pytest.mark.parametrize("shift", [0, -1, 10**9])
def test_a_broken_depth_scale_is_named(dataset, tmp_path, shift):
    path = tmp_path / "scans" / REFERENCE / "sequence" / "_info.txt"
    path.write_text(path.read_text().replace("m_depthShift = 1000", f"m_depthShift = {shift}"))
    view = scan_of(dataset, REFERENCE).views()[0]
    if shift <= 0:
        with pytest.raises(InvalidInput, match=r"_info.txt: m_depthShift: .*needs more than 0"):
            view.depth()
    else:
        assert view.depth().metres.max() < 1e-4


def test_an_unknown_split_is_refused(dataset, tmp_path):
    edit(tmp_path / "files" / "3RScan.json", lambda places: places[0].update(type="holdout"))
    with pytest.raises(InvalidInput, match=r"3RScan.json.*'holdout', needs one of train"):
        dataset.entries()


def test_an_id_that_leads_out_of_the_folder_is_refused(dataset, tmp_path):
    edit(tmp_path / "files" / "3RScan.json", lambda places: places[0].update(reference="../../etc"))
    with pytest.raises(InvalidInput, match=r"'../../etc' is no id of a scan"):
        dataset.entries()
