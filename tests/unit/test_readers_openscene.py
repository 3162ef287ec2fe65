"""Files of OpenScene, Mask3D and Chat-Scene's preparation, and what of torch's files is let in."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
import torch

from tests.allocation import allocates_at_most
from tests.fixtures_openscene import (
    CLASSES,
    FOUND,
    SCORES,
    as_numpy_1,
    attributes,
    seen_points,
    write_annotations,
    write_mask3d,
    write_openscene,
    write_pickled,
)
from tests.fixtures_scannet import SCAN, aligned_points
from tests.fixtures_scene import COLORS, INSTANCE_NAMES, SCANNET_IDS, synthetic_scene
from trainer.data.readers.mask3d import (
    object_key,
    read_attributes,
    read_found,
    read_object_features,
    read_segmented_cloud,
    read_segments,
    split_key,
)
from trainer.data.readers.openscene import read_cloud, read_features, require_same_points
from trainer.data.readers.tensors import read_npy, read_npz, read_torch
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.geometry.frames import Frame
from xscene.geometry.projection import project

SCENE = synthetic_scene()
CLOUD = f"scannet_3d/train/{SCAN}_vh_clean_2.pth"


@pytest.fixture
def openscene(tmp_path):
    write_openscene(tmp_path, SCENE)
    return tmp_path


def test_a_cloud_comes_in_the_raw_frame_with_colours_and_classes(openscene):
    cloud = read_cloud(openscene / CLOUD)
    assert cloud.scan_id == SCAN
    assert cloud.points.frame is Frame.RAW
    np.testing.assert_array_equal(cloud.points.xyz, SCENE.vertices)
    np.testing.assert_array_equal(cloud.colors, np.array(COLORS)[SCENE.instance_ids])
    assert np.bincount(cloud.classes).tolist() == [441, 441, 245]
    assert cloud.classes[0] == CLASSES[0]


def test_labels_and_colours_that_are_missing_are_marked(tmp_path):
    path = tmp_path / "2t7WUuJeko7_region3.pth"
    torch.save((np.zeros((3, 3)), 0, np.array([-100.0, 255.0, 7.0])), path)
    cloud = read_cloud(path)
    assert cloud.scan_id == "2t7WUuJeko7_region3"
    assert cloud.colors is None
    assert cloud.classes.tolist() == [255, 255, 7]


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (np.zeros((2, 3)), "needs a tuple of points"),
        ((np.zeros((2, 3)), 0), "needs a tuple of points"),
        ((np.zeros((2, 2)), 0, np.zeros(2)), r"points: shape \[2, 2\] of float64, needs \[any, 3\]"),
        ((np.full((2, 3), np.nan), 0, np.zeros(2)), "points: holds numbers that are not finite"),
        ((np.zeros((2, 3)), np.full((2, 3), 128.0), np.zeros(2)), "colours: not all within -1 and 1"),
        ((np.zeros((2, 3)), np.full((2, 3), np.nan), np.zeros(2)), "colours: not all within -1 and 1"),
        ((np.zeros((2, 3)), 0, np.zeros(3)), r"labels: shape \[3\]"),
        ((np.zeros((2, 3)), 0, np.array([0, 256.0])), "labels: not all whole numbers of 0 to 255"),
        ((np.zeros((2, 3)), 0, np.array([0, 0.5])), "labels: not all whole numbers"),
        (([1, 2], 0, np.zeros(2)), "points: is a list, needs an array"),
        ((torch.zeros(2, 3).bfloat16(), 0, np.zeros(2)), "points: is a tensor of torch.bfloat16"),
    ],
)
def test_a_wrong_cloud_is_refused_by_its_field(tmp_path, cloud, message):
    torch.save(cloud, tmp_path / "a.pth")
    with pytest.raises(InvalidInput, match=rf"^a\.pth: .*{message}|^a\.pth: {message}"):
        read_cloud(tmp_path / "a.pth")


def test_features_cover_the_points_that_were_seen(openscene):
    assert seen_points(SCENE).sum() == 693
    parts = [read_features(openscene / f"scannet_multiview_lseg/{SCAN}_{part}.pt") for part in range(5)]
    assert [part.part for part in parts] == [0, 1, 2, 3, 4]
    for part in parts:
        assert part.scan_id == SCAN
        assert part.features.dtype == np.float16
        assert part.features.shape == (693, 8)
        counts = np.bincount(SCENE.instance_ids[part.seen])
        assert counts.tolist() == [181, 267, 245]
    assert parts[3].features[1].tolist() == [11, 12, 13, 14, 15, 16, 17, 18]


def test_an_old_file_with_a_second_mask_is_read(tmp_path):
    mask = torch.tensor([True, False, True])
    torch.save({"feat": torch.ones(2, 4).half(), "mask_full": mask, "mask": mask[:2]}, tmp_path / "a_b_7.pt")
    found = read_features(tmp_path / "a_b_7.pt")
    assert (found.scan_id, found.part, found.seen.tolist()) == ("a_b", 7, [True, False, True])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.pt", {}, "is not named <scan>_<part>.pt"),
        ("a_x.pt", {}, "is not named <scan>_<part>.pt"),
        ("a_0.pt", {"feat": torch.ones(2, 4)}, "needs a dict with feat and mask_full"),
        ("a_0.pt", {"feat": torch.ones(2, 4), "mask_full": torch.ones(3).bool()}, r"feat: shape \[2, 4\]"),
        ("a_0.pt", {"feat": torch.ones(3, 4), "mask_full": torch.ones(3)}, "mask_full: shape"),
        (
            "a_0.pt",
            {"feat": torch.full((1, 4), torch.nan), "mask_full": torch.ones(1).bool()},
            "feat: holds numbers that are not finite",
        ),
    ],
)
def test_wrong_features_are_refused(tmp_path, name, value, message):
    torch.save(value, tmp_path / name)
    with pytest.raises(InvalidInput, match=message):
        read_features(tmp_path / name)


def test_teachers_whose_rows_are_of_different_points_are_refused(tmp_path):
    features = {}
    for name, seen in (("dino", [1, 0, 1]), ("lseg", [1, 0, 1]), ("sd", [0, 1, 1])):
        torch.save({"feat": torch.ones(2, 4), "mask_full": torch.tensor(seen).bool()}, tmp_path / "a_0.pt")
        features[name] = read_features(tmp_path / "a_0.pt")
    require_same_points({name: features[name] for name in ("lseg", "dino")})
    with pytest.raises(InvalidInput, match=r"^sd: covers other points of a than dino"):
        require_same_points(features)


@pytest.mark.parametrize("by_folder", [False, True])
def test_masks_are_found_in_either_layout_and_ranks_may_be_missing(tmp_path, by_folder):
    index = write_mask3d(tmp_path, SCENE, by_folder=by_folder, ranks=(0, 3, 107))
    found = read_found(index, 1127)
    assert [item.rank for item in found] == [0, 3, 107]
    assert [item.label_id for item in found] == [SCANNET_IDS[at] for at in FOUND]
    assert [item.score for item in found] == list(SCORES)
    for item, instance in zip(found, FOUND, strict=True):
        np.testing.assert_array_equal(item.vertices, np.flatnonzero(SCENE.instance_ids == instance))
    assert [item.rank for item in read_found(index, 1127, min_score=0.9)] == [0, 3]


def test_masks_that_overlap_are_kept(tmp_path):
    index = write_mask3d(tmp_path, SCENE)
    (index.parent / f"pred_mask/{SCAN}_1.txt").write_text("1\n" * 1127)
    first, second, _ = read_found(index, 1127)
    assert set(first.vertices) < set(second.vertices)


@pytest.mark.parametrize(
    ("line", "mask", "message"),
    [
        (f"pred_mask/{SCAN}_0.txt 7", "", "line 1: .* needs a mask's file, a label id and a score"),
        (f"pred_mask/{SCAN}_0.txt chair 0.5", "", "line 1: .* needs a mask's file"),
        (f"pred_mask/{SCAN}_0.txt 7 nan", "", "line 1: score nan"),
        (f"../{SCAN}_0.txt 7 0.5", "", "names no mask below the index"),
        (f"/{SCAN}_0.txt 7 0.5", "", "names no mask below the index"),
        ("pred_mask/0.txt 7 0.5", "", "names no mask below the index"),
        (f"pred_mask/{SCAN}_0.txt 7 0.5", "1\n" * 1126, rf"{SCAN}_0\.txt: 1126 vertices, the mesh has 1127"),
        (f"pred_mask/{SCAN}_0.txt 7 0.5", "2\n" * 1127, "holds more than 0 and 1"),
        (f"pred_mask/{SCAN}_0.txt 7 0.5", "10\n" * 1127, "holds more than 0 and 1"),
    ],
)
def test_a_wrong_index_or_mask_is_refused(tmp_path, line, mask, message):
    index = write_mask3d(tmp_path, SCENE)
    index.write_text(line + "\n")
    (index.parent / f"pred_mask/{SCAN}_0.txt").write_text(mask)
    with pytest.raises(InvalidInput, match=message):
        read_found(index, 1127)


def test_a_mask_that_is_missing_is_named(tmp_path):
    index = write_mask3d(tmp_path, SCENE)
    (index.parent / f"pred_mask/{SCAN}_2.txt").unlink()
    with pytest.raises(NotFound, match=rf"line 3: there is neither {SCAN}_2\.txt nor {SCAN}/2\.txt"):
        read_found(index, 1127)
    with pytest.raises(LimitExceeded, match="3 objects, the limit is 2"):
        read_found(index, 1127, max_objects=2)


def test_the_prepared_cloud_is_aligned_and_refused_for_projection(tmp_path):
    write_annotations(tmp_path, SCENE)
    cloud = read_segmented_cloud(tmp_path / f"mask3d_ins_data/pcd_all/{SCAN}.pth")
    assert cloud.points.frame is Frame.ALIGNED
    np.testing.assert_array_equal(cloud.points.xyz, aligned_points(SCENE))
    np.testing.assert_array_equal(cloud.colors, np.array(COLORS)[SCENE.instance_ids])
    with pytest.raises(InvalidInput, match="in frame aligned, needs raw"):
        project(cloud.points, np.eye(4), SCENE.intrinsics, threshold=0.25, border_px=1)
    listed = read_segments(tmp_path / f"mask3d_inst_seg/{SCAN}.pt")
    for segments in (cloud.segments, listed):
        assert [item.label for item in segments] == [INSTANCE_NAMES[at] for at in FOUND]
        for item, instance in zip(segments, FOUND, strict=True):
            np.testing.assert_array_equal(item.vertices, np.flatnonzero(SCENE.instance_ids == instance))


def test_rows_of_found_and_true_objects_differ(tmp_path):
    folder = write_annotations(tmp_path, SCENE)
    found = read_attributes(folder / "scannet_mask3d_train_attributes.pt")[SCAN]
    true = read_attributes(folder / "scannet_train_attributes.pt")[SCAN]
    assert (found.labels, true.labels) == (("cabinet", "floor", "wall"), ("floor", "wall", "cabinet"))
    assert true.boxes.frame is Frame.ALIGNED
    expected = [(1.5, -0.5, 0.1), (-0.5, -0.5, 1.3), (0.5, -0.5, 0.4)]
    np.testing.assert_allclose(true.boxes.midpoints, expected, atol=1e-6)
    np.testing.assert_allclose(true.boxes.sizes, [(4, 4, 0), (0, 4, 2.4), (0.6, 0.6, 0.6)], atol=1e-6)


@pytest.mark.parametrize(
    ("num_labels", "num_rows", "kept"), [(130, 100, 100), (130, 130, 100), (0, 1, 0), (3, 3, 3)]
)
def test_labels_stop_where_boxes_do(tmp_path, num_labels, num_rows, kept):
    entry = {"objects": [f"o{at}" for at in range(num_labels)], "locs": torch.zeros(num_rows, 6)}
    torch.save({"a": entry}, tmp_path / "a.pt")
    table = read_attributes(tmp_path / "a.pt")["a"]
    assert len(table.labels) == len(table.boxes) == kept


def test_attributes_of_two_lengths_are_refused(tmp_path):
    plain = attributes(SCENE, (0, 1, 2))
    plain[SCAN]["locs"] = plain[SCAN]["locs"][:2]
    torch.save(plain, tmp_path / "a.pt")
    with pytest.raises(InvalidInput, match=rf"^a\.pt: {SCAN}: 2 boxes for 3 objects"):
        read_attributes(tmp_path / "a.pt")
    plain[SCAN]["locs"] = -torch.ones(3, 6)
    torch.save(plain, tmp_path / "a.pt")
    with pytest.raises(InvalidInput, match=rf"^a\.pt: {SCAN}: sizes: smallest is -1 m"):
        read_attributes(tmp_path / "a.pt")


def test_keys_of_objects_are_split_at_the_last_underscore(tmp_path):
    folder = write_annotations(tmp_path, SCENE)
    vectors = read_object_features(folder / "scannet_mask3d_uni3d_feats.pt")
    assert {scan: sorted(rows) for scan, rows in vectors.items()} == {SCAN: [0, 1, 2]}
    assert vectors[SCAN][2].shape == (1024,)
    assert vectors[SCAN][2][0] == 2
    for key, row in ((f"{SCAN}_07", 7), (f"{SCAN}_107", 107)):
        assert split_key(key) == (SCAN, row)
        assert object_key(SCAN, row) == key
    for wrong in ("07", "scene_", "_07", "a_b"):
        with pytest.raises(InvalidInput, match="is no <scan>_<row>"):
            split_key(wrong)
    torch.save({"a_00": torch.zeros(3), "a_01": torch.zeros(4)}, tmp_path / "b.pt")
    with pytest.raises(InvalidInput, match=r"^b\.pt: a_01: shape \[4\] of float32, needs \[3\]"):
        read_object_features(tmp_path / "b.pt")


def test_files_of_both_numpy_generations_are_let_in(openscene):
    path = openscene / CLOUD
    expected = read_cloud(path)
    as_numpy_1(path)
    np.testing.assert_array_equal(read_cloud(path).points.xyz, expected.points.xyz)


@pytest.mark.parametrize(
    "kind", ["b", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8"]
)
def test_arrays_of_every_number_are_let_in(tmp_path, kind):
    torch.save([np.ones(3, kind), np.ones(1, kind)[0]], tmp_path / "a.pt")
    array, number = read_torch(tmp_path / "a.pt")
    assert (array.dtype, array.tolist(), number) == (np.dtype(kind).newbyteorder("="), [1, 1, 1], 1)


class RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("old", [False, True])
def test_a_file_that_would_run_a_command_is_refused(tmp_path, old):
    path, trace = tmp_path / "a.pth", tmp_path / "trace"
    hostile = [np.zeros(3), RunsACommand(f"touch {trace}")]
    if old:
        torch.save(hostile, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(hostile, path)
    with pytest.raises(InvalidInput, match=r"^a\.pth: holds what may not be loaded: .*system"):
        read_torch(path)
    assert not trace.exists()
    assert np.ndarray not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("value", [np.array(["a"], dtype=object), np.array(["a"]), {1: [np.array([None])]}])
def test_arrays_of_anything_else_are_refused(tmp_path, value):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(InvalidInput, match=r"^a\.pth: holds"):
        read_torch(tmp_path / "a.pth")


def test_what_is_no_torch_file_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(40)}, path)
    whole = path.read_bytes()
    for data in (b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-1], b"\x80\x02K\x01."):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=r"^a\.pth: "):
            read_torch(path)
    write_pickled(path, {"plain": [1, "x"]})
    assert read_torch(path) == {"plain": [1, "x"]}


def test_a_torch_file_cannot_grow_past_its_limit(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(torch.zeros(1).expand(1 << 40), path)
    with pytest.raises(LimitExceeded, match=r"^a\.pth: 4398046511104 bytes, the limit is 8589934592"):
        read_torch(path)
    torch.save(torch.zeros(4 << 20), path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    with allocates_at_most(1 << 20):
        with pytest.raises(LimitExceeded, match=r"^a\.pth/.*: 16777216 bytes, the limit is 1000000"):
            read_torch(path, max_bytes=1_000_000)


def test_arrays_of_numpy_are_read_without_pickle(tmp_path):
    by_columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez_compressed(tmp_path / "a.npz", a=by_columns, b=np.arange(3, dtype=">i2"), c=np.float32(2))
    found = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["a"], by_columns)
    assert found["b"].tolist() == [0, 1, 2]
    assert found["c"].shape == ()
    np.savez(tmp_path / "b.npz", a=np.array([{"x": 1}]))
    with pytest.raises(InvalidInput, match=r"^b\.npz/a\.npy: holds an array of object, needs numbers"):
        read_npz(tmp_path / "b.npz")


def test_an_array_file_that_lies_is_refused_before_anything_is_allocated(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((11, 3)))
    whole = path.read_bytes()
    for data in (
        whole[:-1],
        whole + b"\0",
        whole.replace(b"(11, 3)", b"(99, 9)"),
        whole[:20],
        b"",
        b"x" * 99,
    ):
        path.write_bytes(data)
        with allocates_at_most(1 << 20):
            with pytest.raises(InvalidInput, match=r"^a\.npy: "):
                read_npy(path)
