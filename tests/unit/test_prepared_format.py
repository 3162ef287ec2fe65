"""The prepared format: what is written comes back, and what was not written so is refused by its name."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.unit.prepared_values import EYE, made, made_dataset
from xscene.errors import InvalidInput, NotFound, PreparedInvalid
from xscene.geometry.frames import Frame
from xscene.prepared.dataset import (
    DATASET_FILE,
    SCENES,
    DatasetRecord,
    merged_color_sums,
    open_dataset,
    record_features,
    write_dataset,
)
from xscene.prepared.features import write_features
from xscene.prepared.records import (
    ColorSums,
    ReferralRecord,
    SceneRecord,
    Split,
)
from xscene.prepared.scene import Content, open_scene, write_scene
from xscene.types.vocabulary import Modality


@st.composite
def scenes(draw: st.DrawFn) -> tuple[SceneRecord, Content]:
    ids = tuple(sorted(draw(st.sets(st.integers(0, 50), max_size=4))))
    some = st.lists(st.sampled_from(ids), max_size=4).map(tuple) if ids else st.just(())
    few = st.integers(0, 3)
    return made(
        num_points=draw(st.integers(len(ids), 30)) if ids else draw(few),
        object_ids=ids,
        num_views=draw(few),
        seen=tuple(sorted(draw(some))),
        said=draw(some),
        modelled=tuple(sorted(set(draw(some)))),
        num_plans=draw(few),
        colored=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scene=scenes())
def test_any_scene_comes_back_as_it_was(tmp_path, scene):
    record, content = scene
    written = write_scene(tmp_path / "room00", record, content)
    found = pickle.loads(pickle.dumps(open_scene(tmp_path / "room00")))
    assert found.record == written == dataclasses.replace(record, arrays=written.arrays)
    cloud = found.cloud()
    np.testing.assert_array_equal(cloud.points.xyz, content.cloud.points.xyz)
    assert cloud.points.frame is Frame.ALIGNED
    if record.num_points:
        np.testing.assert_array_equal(cloud.object_ids, content.cloud.object_ids)
        assert (cloud.colors is None) == (content.cloud.colors is None)
        if cloud.colors is not None:
            np.testing.assert_array_equal(cloud.colors, content.cloud.colors)
    assert (found.views(), found.crops(), found.floorplans()) == (
        content.views, content.crops, content.floorplans
    )  # fmt: skip
    for row in range(len(record.cad)):
        np.testing.assert_array_equal(found.cad(row).xyz, content.cad[row])
        assert found.cad(row).frame is Frame.CANONICAL


def test_the_same_scene_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_scene(tmp_path / name / "room00", *made())
    for file in ("scene.json", "arrays.safetensors"):
        first, second = (tmp_path / name / "room00" / file for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_some_crops_are_read_without_the_others(tmp_path):
    record, content = made(seen=(3, 7, 7))
    write_scene(tmp_path / "room00", record, content)
    scene = open_scene(tmp_path / "room00")
    assert scene.crops([2, 0]) == [*content.crops[6:9], *content.crops[:3]]
    assert scene.sightings_of == {3: [0], 7: [1, 2]}
    with pytest.raises(InvalidInput, match=r"views: row 2, the scene has 2"):
        scene.views([2])


def test_presence_is_what_the_content_has():
    record, _ = made()
    assert record.present == ("text", "image", "floorplan", "point_cloud", "mesh")
    assert [each.present for each in record.objects] == [
        ("text", "point_cloud"), ("image", "point_cloud", "mesh")
    ]  # fmt: skip
    bare, _ = made(num_views=0, seen=(), said=(), modelled=(), num_plans=0)
    assert bare.present == ("point_cloud",)


def test_a_record_that_claims_a_modality_it_lacks_is_refused():
    record, _ = made(said=())
    with pytest.raises(InvalidInput, match=r"present: says text, .* the scene has image"):
        dataclasses.replace(record, present=(Modality.TEXT, *record.present))
    objects = (dataclasses.replace(record.objects[0], present=(Modality.MESH,)), *record.objects[1:])
    with pytest.raises(InvalidInput, match=r"objects\[3\].present: says mesh, the object has point_cloud"):
        dataclasses.replace(record, objects=objects)


def test_a_sentence_about_an_unknown_object_is_refused():
    record, _ = made()
    stranger = ReferralRecord(text="x", target_id=8, anchor_ids=(), relation="")
    with pytest.raises(InvalidInput, match=r"referrals: names object 8, which the scene does not have"):
        dataclasses.replace(record, referrals=(stranger,))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "x" * 129, "a b"])
def test_a_scene_whose_id_names_no_directory_is_refused(name):
    record, _ = made()
    with pytest.raises(InvalidInput, match=r"scene_id"):
        dataclasses.replace(record, scene_id=name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"views": [b"x"]}, "views.ends is I64 \\[1\\], needs I64 \\[2\\]"),
        ({"cad": None}, "missing arrays: cad.points"),
        ({"cad": np.full((1, 4, 3), np.nan, np.float32)}, "cad.points: holds numbers that are not finite"),
        ({"cad": np.zeros((1, 4, 3))}, "cad.points is float64"),
    ],
)
def test_content_that_does_not_fit_its_record_is_not_written(tmp_path, change, words):
    record, content = made()
    with pytest.raises(InvalidInput, match=words):
        write_scene(tmp_path / "room00", record, dataclasses.replace(content, **change))
    assert list(tmp_path.iterdir()) == []


def test_an_object_without_a_point_is_not_written(tmp_path):
    record, content = made()
    cloud = dataclasses.replace(content.cloud, object_ids=np.full(12, 3, dtype=np.int32))
    with pytest.raises(InvalidInput, match=r"differ from the objects of the scene in \[7\]"):
        write_scene(tmp_path / "room00", record, dataclasses.replace(content, cloud=cloud))


def test_models_may_have_colours_one_by_one(tmp_path):
    record, content = made()
    colors = np.arange(12, dtype=np.uint8).reshape(4, 3)
    write_scene(tmp_path / "room00", record, dataclasses.replace(content, cad_colors=[colors]))
    np.testing.assert_array_equal(open_scene(tmp_path / "room00").cad_colors(0), colors)
    write_scene(tmp_path / "room00", record, dataclasses.replace(content, cad_colors=[None]))
    assert open_scene(tmp_path / "room00").cad_colors(0) is None
    two = dataclasses.replace(record, cad=record.cad * 2)
    both = dataclasses.replace(content, cad=np.repeat(content.cad, 2, axis=0), cad_colors=[None, colors])
    write_scene(tmp_path / "room00", two, both)
    scene = open_scene(tmp_path / "room00")
    assert scene.cad_colors(0) is None
    np.testing.assert_array_equal(scene.cad_colors(1), colors)
    with pytest.raises(InvalidInput, match=r"row: 2, the scene has 2 models"):
        scene.cad_colors(2)
    with pytest.raises(InvalidInput, match=r"cad.colors is U8 \[1, 4, 3\], needs U8 \[2, 4, 3\]"):
        write_scene(tmp_path / "room00", two, dataclasses.replace(both, cad_colors=[colors]))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "scene.json: xscene prepared scene version 2 is newer than 1, the newest known"),
        ({"version": 0}, "version 0 is unknown"),
        ({"version": True}, "version True is unknown"),
        ({"format": "photo album"}, "format is 'photo album', needs 'xscene prepared scene'"),
        ({"extra": 1}, "unknown keys: extra"),
        ({"num_points": "12"}, "scene.json.num_points: is '12', needs a whole number"),
        ({"num_points": True}, "scene.json.num_points: is 'True', needs a whole number"),
        ({"split": "holdout"}, "scene.json.split: is 'holdout', needs one of train, val, test"),
        ({"frame": "raw"}, "frame: is raw, needs aligned"),
        ({"objects": {}}, "scene.json.objects: is '{}', needs a list"),
        ({"aligned_from_raw": [[2, 0, 0, 0], *map(list, EYE[1:])]}, "aligned_from_raw: off a rotation"),
        ({"scene_id": "other"}, "scene.json: is of scene other"),
    ],
)
def test_a_changed_record_is_refused_by_the_name_of_what_is_wrong(tmp_path, changes, words):
    write_scene(tmp_path / "room00", *made())
    edit(tmp_path / "room00/scene.json", **changes)
    with pytest.raises(PreparedInvalid, match=r"scene room00.*" + words.replace("(", r"\(")):
        open_scene(tmp_path / "room00")


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"format": "a", "format": "b"}', b"[NaN]", b"\xff", b"[" * 9999]
)
def test_a_record_that_is_no_json_is_refused(tmp_path, data):
    write_scene(tmp_path / "room00", *made())
    (tmp_path / "room00/scene.json").write_bytes(data)
    with pytest.raises(PreparedInvalid, match=r"scene room00: scene.json: torn or not JSON"):
        open_scene(tmp_path / "room00")


@pytest.mark.parametrize("file", ["scene.json", "arrays.safetensors"])
def test_a_scene_that_lacks_a_file_is_torn(tmp_path, file):
    write_scene(tmp_path / "room00", *made())
    (tmp_path / "room00" / file).unlink()
    with pytest.raises(PreparedInvalid, match=f"scene room00: {file}: torn, there is no such file"):
        open_scene(tmp_path / "room00")


def test_a_shorter_or_changed_tensor_file_is_refused(tmp_path):
    write_scene(tmp_path / "room00", *made())
    path = tmp_path / "room00/arrays.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(PreparedInvalid, match=r"torn, .* bytes, needs"):
        open_scene(tmp_path / "room00")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PreparedInvalid, match=r"tampered, SHA-256 is"):
        open_scene(tmp_path / "room00")


def resealed(folder: Path) -> None:
    """Have the record name the tensor file that is there, as one who tampers well would."""
    import hashlib

    data = (folder / "arrays.safetensors").read_bytes()
    edit(
        folder / "scene.json",
        arrays={"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)},
    )


def test_tensors_of_another_scene_or_shape_or_frame_are_refused(tmp_path):
    write_scene(tmp_path / "room00", *made())
    write_scene(tmp_path / "room01", *made("room01"))
    path = tmp_path / "room00/arrays.safetensors"
    original = path.read_bytes()
    shutil.copyfile(tmp_path / "room01/arrays.safetensors", path)
    resealed(tmp_path / "room00")
    with pytest.raises(PreparedInvalid, match=r"is of scene 'room01', needs 'room00'"):
        open_scene(tmp_path / "room00")
    path.write_bytes(
        original.replace(b'\\"cloud.points\\": \\"aligned\\"', b'\\"cloud.points\\": \\"raw\\"    ')
    )
    resealed(tmp_path / "room00")
    with pytest.raises(PreparedInvalid, match=r"cloud.points is in frame raw, needs aligned"):
        open_scene(tmp_path / "room00")
    save_file(load_file(tmp_path / "room01/arrays.safetensors"), path)
    resealed(tmp_path / "room00")
    with pytest.raises(PreparedInvalid, match=r"arrays.safetensors: format is 'None'"):
        open_scene(tmp_path / "room00")


def test_a_data_set_comes_back_with_statistics_of_its_training_scenes(tmp_path):
    found = open_dataset(made_dataset(tmp_path))
    assert found.scene_ids() == ("room00", "room01")
    assert found.scene_ids(Split.VAL) == ()
    colors = np.concatenate([found.scene(name).cloud().colors for name in found.scene_ids()]) / 255
    np.testing.assert_allclose(found.record.color_sums.mean(), colors.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.record.color_sums.std(), colors.std(axis=0), rtol=1e-12)
    found.verify()


@given(parts=st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=6), min_size=1, max_size=5))
def test_colour_sums_merged_in_any_order_are_those_of_the_whole(parts):
    def of(values):
        sums, squares = sum(values), sum(v * v for v in values)
        return ColorSums(num_points=len(values), sums=(sums,) * 3, squares=(squares,) * 3)

    whole = of([value for part in parts for value in part])
    assert ColorSums.merged(map(of, parts)) == ColorSums.merged(map(of, reversed(parts))) == whole


def test_validation_scenes_do_not_count_in_the_statistics():
    train, _ = made(seed=1)
    held, _ = made(seed=2, split=Split.VAL)
    assert merged_color_sums([train, held]) == train.color_sums
    assert merged_color_sums([held]) is None


def test_a_data_set_that_was_changed_is_refused(tmp_path):
    path = made_dataset(tmp_path) / DATASET_FILE
    text = path.read_text()
    path.write_text(text.replace('"place"', '"plaza"'))
    with pytest.raises(PreparedInvalid, match=r"dataset.json: tampered"):
        open_dataset(tmp_path)
    path.write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(PreparedInvalid, match=r"xscene prepared data set version 9 is newer than 1"):
        open_dataset(tmp_path)
    path.unlink()
    with pytest.raises(NotFound, match=r"holds no dataset.json"):
        open_dataset(tmp_path)


def test_a_scene_that_the_list_does_not_mean_is_refused(tmp_path):
    found = open_dataset(made_dataset(tmp_path))
    write_scene(tmp_path / SCENES / "room00", *made(seed=5))
    with pytest.raises(PreparedInvalid, match=r"scene room00: scene.json: tampered"):
        found.scene("room00")
    with pytest.raises(NotFound, match=r"has no scene 'room09'"):
        found.scene("room09")


def test_an_unfinished_data_set_is_refused_unless_asked_for(tmp_path):
    write_dataset(tmp_path, DatasetRecord(name="made", complete=False, settings={}))
    with pytest.raises(PreparedInvalid, match=r"preparation of made has not come to its end"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, allow_incomplete=True).record.scenes == {}


def test_stored_features_come_back_and_belong_to_their_scene(tmp_path):
    found = open_dataset(made_dataset(tmp_path))
    scene = found.scene("room00")
    tensors = {"views.cls": np.ones((2, 5), np.float16), "crops.cls": np.eye(3, 4, dtype=np.float32)}
    digest = write_features(tmp_path, scene, "tiny", "ab", tensors)
    found = record_features(found, "tiny", "ab", {"room00": digest})
    again = open_dataset(tmp_path)
    assert again.record == found.record
    file = again.features(scene, "tiny")
    assert file.names == ("crops.cls", "views.cls")
    np.testing.assert_array_equal(file.tensor("crops.cls"), tensors["crops.cls"])
    again.verify()
    with pytest.raises(NotFound, match=r"scene room01 has no features of tiny"):
        again.features(again.scene("room01"), "tiny")
    with pytest.raises(NotFound, match=r"has no features of 'big'; it has tiny"):
        again.features(scene, "big")
    with pytest.raises(PreparedInvalid, match=r"features of tiny are of backbone ab, these are of cd"):
        record_features(again, "tiny", "cd", {"room01": digest})
    other = record_features(
        found, "other", "cd", {"room00": write_features(tmp_path, scene, "other", "ab", tensors)}
    )
    for verify in (True, False):
        with pytest.raises(
            PreparedInvalid, match=r"features of other: .* backbone_digest is 'ab', needs 'cd'"
        ):
            other.features(scene, "other", verify=verify)
    # A scene that was prepared anew has no features yet.
    write_scene(tmp_path / SCENES / "room00", *made(seed=5))
    with pytest.raises(PreparedInvalid, match=r"arrays_sha256"):
        again.features(open_scene(tmp_path / SCENES / "room00"), "tiny")
    path = tmp_path / "features/tiny/room00.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(PreparedInvalid, match=r"features of tiny: room00.safetensors: tampered"):
        again.features(scene, "tiny")


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("views.cls", np.ones((3, 5), np.float32), r"views.cls: shape \[3, 5\], needs \[2, any\]"),
        ("walls.cls", np.ones((2, 5), np.float32), "walls.cls: needs to be <group>.<output>"),
        ("views", np.ones((2, 5), np.float32), "views: needs to be"),
        ("views.cls", np.ones((2, 5), np.int64), "type int64, needs one of float16, float32"),
        ("views.cls", np.full((2, 5), np.inf, np.float32), "not finite"),
    ],
)
def test_features_that_do_not_fit_the_scene_are_not_stored(tmp_path, name, tensor, words):
    scene = open_dataset(made_dataset(tmp_path)).scene("room00")
    with pytest.raises(InvalidInput, match=words):
        write_features(tmp_path, scene, "tiny", "ab", {name: tensor})
    assert not (tmp_path / "features").exists()
