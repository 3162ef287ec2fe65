"""Furnished rooms come in through the reader of ScanNet, and all that their extras know comes along."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.rooms_captures import LENS, captured, turned
from tests.unit.rooms_furniture import box_library
from trainer.data.catalogue import add_reader, built_in
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.extras import CAD, write_extras, write_models
from trainer.data.rooms.places import Changes, Place, first_room, next_room
from trainer.data.rooms.scannet import write_lists, write_scan
from trainer.data.scans import NO_OBJECT, Split
from xscene.errors import AlreadyExists, InvalidInput, NotFound
from xscene.geometry.frames import Frame, apply, inverse

HALL = """ply
format ascii 1.0
element vertex 2
property float x
property float y
property float z
property int objectId
end_header
0 0 0 0
1 0 2 4
"""


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    library = box_library(tmp_path_factory.mktemp("furniture") / "library")
    room = first_room(Place(seed=0, index=0), library, Furnishings())
    later = next_room(Place(seed=0, index=0), 1, room, library, Furnishings(), Changes())
    first = captured(library, 0, room, turned(30, (1, 2, 0.1)), turned(90, (0.5, 0, 0)))
    return library, (first, captured(library, 1, later, turned(-70, (0, 1, 0)), turned(0, (1, 1, 0))))


def write_rooms(root, library, captures):
    (root / "scans").mkdir(parents=True)
    for capture in captures:
        folder = root / "scans" / capture.scan_id
        folder.mkdir()
        write_scan(folder, capture, jpeg_quality=90)
        write_extras(folder / "extras", capture, captures[0] if capture.revision else None)
        write_models(root / CAD, {model.asset_id: model for model in capture.models.values()}, library)
    write_lists(root, [(capture.scan_id, capture.place.split) for capture in captures])


@pytest.fixture(scope="module")
def root(captures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "rooms"
    write_rooms(folder, *captures)
    return folder


@pytest.fixture
def scans(root, captures):
    dataset = built_in().open("rooms", root)
    assert dataset.name == "rooms"
    return list(zip(dataset.scans(), captures[1], strict=True))


def test_scans_have_their_place_and_split(scans):
    for number, (scan, capture) in enumerate(scans):
        assert scan.entry.scan_id == capture.scan_id
        assert scan.entry.place_id == capture.place.name
        assert scan.entry.split == Split(capture.place.split)
        assert scan.entry.is_reference == (number == 0)
        assert scan.scene_label() == capture.room.programme.scene_type


def test_clouds_and_frames_are_those_that_were_captured(scans):
    for scan, capture in scans:
        surface = scan.surface()
        in_room = apply(inverse(capture.raw_from_room), surface.points.xyz)
        np.testing.assert_allclose(in_room, capture.scan.vertices, atol=1e-5)
        np.testing.assert_array_equal(surface.colors, capture.scan.colors)
        np.testing.assert_array_equal(surface.faces, capture.scan.faces)
        np.testing.assert_array_equal(surface.object_ids, capture.scan.objects)
        aligned = apply(scan.aligned_from_raw(), surface.points.xyz)
        np.testing.assert_allclose(
            aligned, apply(capture.aligned_from_room, capture.scan.vertices), atol=1e-4
        )
        views = scan.views()
        assert [view.view_id for view in views] == ["0", "20", "40", "60", "80", "100"]
        for view, made in zip(views, capture.views, strict=True):
            np.testing.assert_allclose(view.camera_to_world, capture.raw_from_room @ made.pose, atol=1e-6)
            assert view.intrinsics == LENS
            np.testing.assert_allclose(view.depth().metres, made.depth, atol=1e-6)
            np.testing.assert_array_equal(view.object_pixels(), made.frame.ids.astype(int) - 1)
            assert Image.open(io.BytesIO(view.color())).size == (LENS.width, LENS.height)


def test_objects_carry_label_box_and_asset(scans):
    for scan, capture in scans:
        objects = scan.objects()
        assert [item.object_id for item in objects] == list(range(len(capture.parts)))
        for item, part in zip(objects, capture.parts, strict=True):
            assert (item.label, item.nyu40) == (part.label, part.nyu40)
            assert item.asset_id == (part.piece.asset.asset_id if part.piece else None)
            if part.piece is None:
                assert item.box is None
                continue
            box = part.piece.footprint.box(Frame.RAW).moved(capture.aligned_from_room, frame=Frame.ALIGNED)
            np.testing.assert_allclose(item.box.corners().xyz, box.corners().xyz, atol=1e-9)
            assert item.box.frame is Frame.ALIGNED


def test_models_stand_where_their_furniture_stands(scans, captures):
    library = captures[0]
    for scan, capture in scans:
        models = {model.object_id: model for model in scan.cad_models()}
        pieces = {at: part.piece for at, part in enumerate(capture.parts) if part.piece}
        assert models.keys() == pieces.keys()
        for at, piece in pieces.items():
            model, asset = models[at], capture.models[piece.key]
            assert model.model_id == asset.asset_id
            assert model.path.is_file()
            shape = library.baked(asset).shape
            placed = apply(model.raw_from_canonical, shape.vertices * model.scale)
            in_room = apply(inverse(capture.raw_from_room), placed)
            corners = piece.footprint.box(Frame.RAW).corners().xyz
            np.testing.assert_allclose(in_room.min(axis=0), corners.min(axis=0), atol=1e-4)
            np.testing.assert_allclose(in_room.max(axis=0), corners.max(axis=0), atol=1e-4)


def test_sentences_name_objects(scans):
    for scan, capture in scans:
        said = scan.referrals()
        assert [item.text for item in said] == [item.text for item in capture.referrals]
        for item, made in zip(said, capture.referrals, strict=True):
            assert capture.parts[item.target_id].piece.key == made.fact.target
            anchors = [capture.parts[at].piece.key for at in item.anchor_ids]
            assert (item.relation, anchors) == (made.fact.relation, list(made.fact.anchors))


def test_plans_come_with_the_place_of_their_pixels(scans):
    for scan, capture in scans:
        plans = {plan.style: plan for plan in scan.floorplans()}
        assert plans.keys() == set(capture.drawings)
        for style, drawing in capture.drawings.items():
            np.testing.assert_allclose(plans[style].pixels_from_aligned, drawing.pixels_from_aligned)
            picture = Image.open(io.BytesIO(plans[style].encoded))
            assert picture.tobytes() == drawing.image.tobytes()
        assert scan.layout() is None


def test_a_rescan_says_what_changed(scans):
    (first, was), (later, now) = scans
    assert first.rescan_link() is None
    link = later.rescan_link()
    assert link.reference_scan_id == first.entry.scan_id
    np.testing.assert_allclose(
        link.reference_from_scan, was.raw_from_room @ inverse(now.raw_from_room), atol=1e-9
    )
    old, new = ({at: part.piece for at, part in enumerate(one.parts) if part.piece} for one in (was, now))
    keys = {piece.key for piece in old.values()}, {piece.key for piece in new.values()}
    assert {new[at].key for at in link.added_ids} == keys[1] - keys[0]
    assert {old[at].key for at in link.removed_ids} == keys[0] - keys[1]
    assert {new[motion.object_id].key for motion in link.motions} == keys[0] & keys[1]
    assert any(motion.moved for motion in link.motions)
    for motion in link.motions:
        piece, before = new[motion.object_id], old[motion.reference_object_id]
        assert piece.key == before.key
        middle = apply(now.raw_from_room @ piece.footprint.matrix(), np.zeros((1, 3)))
        expected = apply(was.raw_from_room @ before.footprint.matrix(), np.zeros((1, 3)))
        np.testing.assert_allclose(apply(motion.reference_from_scan, middle), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("scene.json", {"split": "test"}, "split test, the lists say train"),
        ("scene.json", {"split": None}, r"scene\.json: has no split"),
        ("objects.json", {"cad": {"asset_id": "a", "file": "../../x.ply"}}, "leads out of the data set"),
        ("objects.json", {"box_aligned": {"centre": [0, 0]}}, r"box_aligned: has no size|needs \[3\]"),
        ("objects.json", {"raw_from_canonical": [[1]], "cad": {"asset_id": "a", "file": "x"}}, "needs"),
    ],
)
def test_extras_that_are_wrong_are_refused_by_their_place(tmp_path, captures, file, change, message):
    write_rooms(tmp_path / "rooms", *captures)
    path = tmp_path / "rooms/scans" / captures[1][0].scan_id / "extras" / file
    plain = json.loads(path.read_text())
    (plain[-1] if isinstance(plain, list) else plain).update(change)
    path.write_text(json.dumps(plain))
    with pytest.raises(InvalidInput, match=message):
        read_all(built_in().open("rooms", tmp_path / "rooms"))


def read_all(dataset):
    for scan in dataset.scans():
        scan.objects()
        scan.cad_models()


def example():
    """The file that the documentation shows."""
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    (block,) = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def register" in code
    ]
    return block


def test_a_users_file_adds_a_data_set(tmp_path):
    registry = built_in()
    path = tmp_path / "my_scans.py"
    path.write_text(example())
    (tmp_path / "hall.ply").write_text(HALL)
    add_reader(registry, path)
    assert set(registry.names()) == {*built_in().names(), "meshes"}
    (scan,) = registry.open("meshes", tmp_path).scans(Split.TRAIN)
    assert (scan.entry.scan_id, scan.entry.place_id) == ("hall", "hall")
    assert scan.surface().object_ids.tolist() == [NO_OBJECT, 4]
    assert [item.object_id for item in scan.objects()] == [4]
    with pytest.raises(AlreadyExists, match="meshes is already registered"):
        add_reader(registry, path)


def test_a_users_file_without_register_is_refused(tmp_path):
    path = tmp_path / "nothing.py"
    with pytest.raises(NotFound, match=r"^nothing\.py: there is no such file"):
        add_reader(built_in(), path)
    path.write_text("register = 3\n")
    with pytest.raises(InvalidInput, match=r"^nothing\.py: has no function register"):
        add_reader(built_in(), path)
    path.with_suffix(".txt").touch()
    with pytest.raises(InvalidInput, match=r"^nothing\.txt: is no Python file"):
        add_reader(built_in(), path.with_suffix(".txt"))
