"""ScanNet's layout, read back from the synthetic scene."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.fixtures_scannet import (
    SCAN,
    aligned_points,
    facts,
    write_dataset,
    write_export,
    write_layout,
    write_lists,
    write_scan,
    write_scan2cad,
    write_scan_frames,
)
from tests.fixtures_scene import COLORS, INSTANCE_NAMES, INTRINSICS, NYU40_IDS
from trainer.data.readers.scannet import ScanNet, ScanNetOptions
from trainer.data.scans import NO_OBJECT, Split
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.geometry.frames import Frame, apply
from xscene.geometry.projection import project


@pytest.fixture
def scene(tmp_path):
    return write_dataset(tmp_path)


HERE = [0, 0, 0]


def opened(root):
    dataset = ScanNet(root)
    (entry,) = dataset.entries()
    return dataset.open(entry)


def test_the_cloud_comes_in_the_raw_frame_with_objects_and_true_colours(scene, tmp_path):
    surface = opened(tmp_path).surface()
    assert surface.points.frame is Frame.RAW
    np.testing.assert_allclose(surface.points.xyz, scene.vertices, atol=1e-6)
    np.testing.assert_array_equal(surface.faces, scene.faces)
    np.testing.assert_array_equal(surface.object_ids, scene.instance_ids)
    # Those of the labels file are a palette.
    np.testing.assert_array_equal(surface.colors, np.array(COLORS)[scene.instance_ids])


def test_vertices_of_no_group_have_no_object(scene, tmp_path):
    path = tmp_path / f"scans/{SCAN}/{SCAN}.aggregation.json"
    plain = json.loads(path.read_text())
    del plain["segGroups"][1]
    path.write_text(json.dumps(plain))
    expected = np.where(scene.instance_ids == 1, NO_OBJECT, scene.instance_ids)
    np.testing.assert_array_equal(opened(tmp_path).surface().object_ids, expected)
    assert [item.object_id for item in opened(tmp_path).objects()] == [0, 2]


def test_the_aggregation_is_found_under_its_other_name(scene, tmp_path):
    folder = tmp_path / "scans" / SCAN
    (folder / f"{SCAN}.aggregation.json").rename(folder / f"{SCAN}_vh_clean.aggregation.json")
    np.testing.assert_array_equal(opened(tmp_path).surface().object_ids, scene.instance_ids)


def test_objects_have_the_nyu40_id_of_their_vertices_or_of_the_table(scene, tmp_path):
    def found():
        return [(item.object_id, item.label, item.nyu40) for item in opened(tmp_path).objects()]

    expected = list(zip(range(3), INSTANCE_NAMES, NYU40_IDS, strict=True))
    assert found() == expected
    (tmp_path / f"scans/{SCAN}/{SCAN}_vh_clean_2.labels.ply").unlink()
    assert found() == expected
    (tmp_path / "files/scannetv2-labels.combined.tsv").unlink()
    assert [nyu40 for _, _, nyu40 in found()] == [None] * 3


def test_labels_of_vertices_are_ids_without_colours(scene, tmp_path):
    np.testing.assert_array_equal(opened(tmp_path).vertex_nyu40(), np.array(NYU40_IDS)[scene.instance_ids])


@pytest.mark.parametrize("line", ["axisAlignment = {}", "axisAlignment = axisAlignment = {}"])
def test_the_alignment_is_the_last_sixteen_numbers_of_its_line(scene, tmp_path, line):
    numbers = " ".join(str(number) for number in scene.axis_alignment.flat)
    (tmp_path / f"scans/{SCAN}/{SCAN}.txt").write_text(line.format(numbers) + "\n")
    aligned = apply(opened(tmp_path).aligned_from_raw(), scene.vertices)
    np.testing.assert_allclose(aligned, aligned_points(scene), atol=1e-9)


def test_a_scan_without_an_alignment_has_the_identity(scene, tmp_path):
    assert opened(tmp_path).scene_label() == "Apartment"
    (tmp_path / f"scans/{SCAN}/{SCAN}.txt").write_text(facts(scene, aligned=False))
    np.testing.assert_array_equal(opened(tmp_path).aligned_from_raw(), np.eye(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axisAlignment = 1 0 0", "3 numbers, needs 16"),
        ("axisAlignm", "is no `key = value`"),
        ("axisAlignment = " + "2 " * 16, "last row is"),
        ("axisAlignment = " + "nan " * 16, "16 values are not finite"),
    ],
)
def test_a_torn_alignment_is_refused_by_the_files_name(scene, tmp_path, text, message):
    (tmp_path / f"scans/{SCAN}/{SCAN}.txt").write_text(text)
    with pytest.raises(InvalidInput, match=rf"^{SCAN}\.txt.*{message}"):
        opened(tmp_path).aligned_from_raw()


def test_a_scan_for_test_needs_no_annotation(scene, tmp_path):
    folder = tmp_path / "scans_test/scene0707_00"
    write_scan(folder, scene)
    for ending in (".aggregation.json", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json"):
        (folder / f"scene0707_00{ending}").unlink()
    (tmp_path / "scannetv2_test.txt").write_text("scene0707_00\n")
    dataset = ScanNet(tmp_path)
    (scan,) = dataset.scans(Split.TEST)
    assert scan.objects() == ()
    assert (scan.surface().object_ids == NO_OBJECT).all()
    assert scan.vertex_nyu40() is None
    assert [entry.scan_id for entry in dataset.entries()] == [SCAN, "scene0707_00"]


def test_scans_of_one_place_share_it_and_the_first_is_the_reference(tmp_path):
    write_dataset(tmp_path, "scene0000_00", "scene0000_02", "scene0001_00")
    found = [(entry.place_id, entry.is_reference) for entry in ScanNet(tmp_path).entries()]
    assert found == [("scene0000", True), ("scene0000", False), ("scene0001", True)]


def test_a_place_in_two_splits_is_refused(tmp_path):
    write_dataset(tmp_path, "scene0000_00", "scene0000_01")
    write_lists(tmp_path / "files", {"train": ("scene0000_00",), "val": ("scene0000_01",)})
    with pytest.raises(InvalidInput, match="place scene0000 is in train too"):
        ScanNet(tmp_path).entries()


@pytest.mark.parametrize("name", ["../scene0000_00", "scene/0000", ".", ""])
def test_a_list_that_leads_elsewhere_is_refused(tmp_path, scene, name):
    write_lists(tmp_path / "files", {"train": (name,)})
    with pytest.raises((InvalidInput, NotFound), match=r"is no id of a scan|lists no scans"):
        ScanNet(tmp_path).entries()


def test_listed_scans_that_are_missing_are_told_of(tmp_path, scene, caplog):
    write_lists(tmp_path / "files", {"train": (SCAN, "scene0001_00")})
    assert [entry.scan_id for entry in ScanNet(tmp_path).entries()] == [SCAN]
    (record,) = caplog.records
    assert record.num_missing == 1


def test_json_past_its_limit_is_refused(scene, tmp_path):
    dataset = ScanNet(tmp_path, options=ScanNetOptions(max_json_bytes=100))
    (scan,) = dataset.scans()
    with pytest.raises(LimitExceeded, match=rf"^{SCAN}\.aggregation\.json: \d+ bytes, the limit is 100"):
        scan.objects()


def test_segments_of_another_mesh_are_refused(scene, tmp_path):
    path = tmp_path / f"scans/{SCAN}/{SCAN}_vh_clean_2.0.010000.segs.json"
    path.write_text(json.dumps({"segIndices": [100] * 1126}))
    with pytest.raises(InvalidInput, match=r"segs\.json: 1126 segment ids for 1127 vertices"):
        opened(tmp_path).surface()


COUNTS = {
    (0.25, 1): ((157, 254, 237), (156, 220, 213)),
    (0.05, 1): ((151, 254, 107), (145, 220, 156)),
    (0.02, 1): ((134, 254, 87), (134, 219, 117)),
    (0.25, 0): ((168, 275, 237), (163, 233, 213)),
    (0.25, 10): ((82, 130, 237), (91, 123, 213)),
}


@pytest.mark.parametrize(("threshold", "border_px"), COUNTS)
def test_what_is_read_projects_to_the_measured_counts(scene, tmp_path, threshold, border_px):
    write_export(tmp_path / "scannet_2d", scene)
    scan = opened(tmp_path)
    surface = scan.surface()
    for view, expected in zip(scan.views(), COUNTS[threshold, border_px], strict=False):
        depth = view.depth()
        seen = project(
            surface.points,
            view.camera_to_world,
            depth.intrinsics,
            depth.metres,
            threshold=threshold,
            border_px=border_px,
        )
        assert tuple(np.bincount(surface.object_ids[seen.visible]).tolist()) == expected


def test_a_layout_is_turned_from_y_up_to_the_raw_frame(scene, tmp_path):
    assert opened(tmp_path).layout() is None
    raw = write_layout(tmp_path / f"files/scenecad/{SCAN}.json", scene)
    layout = opened(tmp_path).layout()
    np.testing.assert_allclose(layout.corners.xyz, raw, atol=1e-12)
    assert layout.corners.frame is Frame.RAW
    assert layout.edges.tolist() == [[0, 1], [1, 2], [2, 3], [3, 0]]


def test_sentences_name_objects_by_the_aggregations_ids(scene, tmp_path):
    assert opened(tmp_path).referrals() == ()
    path = tmp_path / "files/sceneverse/ssg_ref_rel2_template.json"
    path.parent.mkdir()
    said = [
        {
            "scan_id": SCAN,
            "target_id": "2",
            "utterance": "the cabinet at the wall",
            "instance_type": "cabinet",
        },
        {"scan_id": "scene0009_00", "target_id": 0, "utterance": "another"},
    ]
    path.write_text(json.dumps(said))
    (referral,) = opened(tmp_path).referrals()
    assert (referral.target_id, referral.text) == (2, "the cabinet at the wall")
    assert opened(tmp_path).objects()[referral.target_id].label == "cabinet"


@pytest.mark.parametrize("scan_scale", [1.0, 1.25])
def test_a_model_stands_for_the_object_that_it_overlaps_the_most(scene, tmp_path, scan_scale):
    write_scan2cad(tmp_path / "files/scan2cad_full_annotations.json", scene, scan_scale=scan_scale)
    (model,) = opened(tmp_path).cad_models()
    assert (model.object_id, model.model_id) == (2, "02933112/cabinet1")
    assert model.path == tmp_path / "ShapeNetCore.v2/02933112/cabinet1/models/model_normalized.obj"
    np.testing.assert_allclose(model.scale, 0.6)
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    placed = apply(model.raw_from_canonical, corners * model.scale)
    cabinet = scene.vertices[scene.instance_ids == 2]
    np.testing.assert_allclose(placed.min(axis=0), cabinet.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(placed.max(axis=0), cabinet.max(axis=0), atol=1e-6)
    turned = apply(model.raw_from_canonical, np.array([[1.0, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(turned[0] - turned[1], (0, 1, 0), atol=1e-6)


def test_a_model_whose_file_is_not_there_is_absent_and_counted(scene, tmp_path, caplog):
    write_scan2cad(tmp_path / "files/scan2cad_full_annotations.json", scene)
    (tmp_path / "ShapeNetCore.v2/02933112/cabinet1/models/model_normalized.obj").unlink()
    assert opened(tmp_path).cad_models() == ()
    assert [(each.message, each.num_missing) for each in caplog.records] == [("models are missing", 1)]


def test_a_model_that_overlaps_nothing_is_left_out(scene, tmp_path):
    write_scan2cad(tmp_path / "files/scan2cad_full_annotations.json", scene, shift=50.0)
    assert opened(tmp_path).cad_models() == ()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("id_cad", "../../etc", "is no plain name"),
        ("bbox", [1, 2], r"bbox: shape \[2\], needs \[3\]"),
        (
            "trs",
            {"translation": [0, 0, 0], "rotation": [0, 0, 0, 0], "scale": [1, 1, 1]},
            "quaternion of norm 0",
        ),
        (
            "trs",
            {"translation": [0, 0, 0], "rotation": [1, 0, 0, 0], "scale": [0, 1, 1]},
            "needs more than 0",
        ),
        (
            "trs",
            {"translation": [0, 0, 0], "rotation": [1, 0, 0, 0]},
            r"aligned_models\[0\]\.trs: has no scale",
        ),
    ],
)
def test_a_wrong_annotation_is_refused_by_its_place(scene, tmp_path, key, value, message):
    path = tmp_path / "files/scan2cad_full_annotations.json"
    write_scan2cad(path, scene)
    plain = json.loads(path.read_text())
    plain[0]["aligned_models"][0][key] = value
    path.write_text(json.dumps(plain))
    with pytest.raises(InvalidInput, match=rf"^scan2cad_full_annotations\.json.*{message}"):
        opened(tmp_path).cad_models()


def test_the_camera_is_that_of_the_scene(scene, tmp_path):
    write_scan_frames(tmp_path / "scans" / SCAN, scene)
    camera = opened(tmp_path).views()[0].intrinsics
    np.testing.assert_allclose(camera.matrix(), INTRINSICS.matrix(), atol=1e-6)
