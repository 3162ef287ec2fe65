"""Files of a data set: meshes that others can read, digests that notice a change, recipes that come back."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.rooms import app
from tests.unit.rooms_captures import LENS, captured, turned
from tests.unit.rooms_furniture import box_library, write_archive
from trainer.data.rooms.captures import Clock, Recipe
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.drawings import Style, silhouette
from trainer.data.rooms.extras import rescan, write_extras, write_models
from trainer.data.rooms.families import Split
from trainer.data.rooms.library import build_library, open_library
from trainer.data.rooms.making import recipe_from_json, recipe_to_json
from trainer.data.rooms.package import Package, sha256_of, unpack_archives
from trainer.data.rooms.pictures import picture
from trainer.data.rooms.places import Changes, Place, first_room, next_room
from trainer.data.rooms.ply import PlyMesh, read_ply, write_ply
from trainer.data.rooms.production import MANIFEST, SCHEMA, Order, Report, check, make
from trainer.data.rooms.scannet import palette, write_lists, write_scan
from trainer.data.rooms.sentences import Speech
from xscene.errors import InvalidInput, LimitExceeded, NotFound, PreconditionFailed
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame, Points, align, apply, inverse


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return box_library(tmp_path_factory.mktemp("furniture") / "library")


@pytest.fixture(scope="module")
def captures(library):
    room = first_room(Place(seed=0, index=0), library, Furnishings())
    later = next_room(Place(seed=0, index=0), 1, room, library, Furnishings(), Changes())
    first = captured(library, 0, room, turned(30, (1, 2, 0.1)), turned(90, (0.5, 0, 0)))
    return first, captured(library, 1, later, turned(-70, (0, 1, 0)), turned(0, (1, 1, 0)))


@pytest.fixture(scope="module")
def folders(captures, tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    for capture in captures:
        folder = root / capture.scan_id
        folder.mkdir()
        write_scan(folder, capture, jpeg_quality=90)
        write_extras(folder / "extras", capture, captures[0] if capture.revision else None)
    return [root / capture.scan_id for capture in captures]


@pytest.mark.parametrize("labelled", [False, True])
def test_a_mesh_is_read_back_by_us_and_by_another_reader(tmp_path, labelled):
    rng = np.random.default_rng(0)
    mesh = PlyMesh(
        rng.normal(size=(7, 3)).astype(np.float32),
        rng.integers(0, 256, (7, 3), dtype=np.uint8),
        np.array([(0, 1, 2), (4, 5, 6)], dtype=np.int32),
        np.arange(7, dtype=np.uint16) if labelled else None,
    )
    path = tmp_path / "mesh.ply"
    write_ply(path, mesh)
    again = read_ply(path)
    other = plyfile.PlyData.read(path)
    names = ["x", "y", "z", "red", "green", "blue", "alpha", *(["label"] if labelled else [])]
    assert [item.name for item in other["vertex"].properties] == names
    for at, axis in enumerate("xyz"):
        np.testing.assert_array_equal(other["vertex"][axis], mesh.vertices[:, at])
    np.testing.assert_array_equal(np.stack(other["face"]["vertex_indices"]), mesh.faces)
    np.testing.assert_array_equal(again.vertices, mesh.vertices)
    np.testing.assert_array_equal(again.colors, mesh.colors)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    assert (again.labels is None) == (not labelled)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_mesh_that_was_cut_off_is_refused(tmp_path, cut):
    path = tmp_path / "mesh.ply"
    write_ply(path, PlyMesh(np.zeros((3, 3), "f4"), np.zeros((3, 3), "u1"), np.array([[0, 1, 2]], "i4")))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InvalidInput, match=r"^mesh\.ply: "):
        read_ply(path)


def test_segments_and_aggregation_give_each_vertex_its_object(captures, folders):
    for capture, folder in zip(captures, folders, strict=True):
        name = capture.scan_id
        segments = json.loads((folder / f"{name}_vh_clean_2.0.010000.segs.json").read_text())["segIndices"]
        aggregation = json.loads((folder / f"{name}.aggregation.json").read_text())
        assert aggregation == json.loads((folder / f"{name}_vh_clean.aggregation.json").read_text())
        for group in aggregation["segGroups"]:
            rows = np.isin(segments, group["segments"])
            np.testing.assert_array_equal(rows, capture.scan.objects == group["objectId"])
            assert group["label"] == capture.parts[group["objectId"]].label
        labels = read_ply(folder / f"{name}_vh_clean_2.labels.ply")
        nyu40 = [capture.parts[at].nyu40 for at in capture.scan.objects]
        np.testing.assert_array_equal(labels.labels, nyu40)
        np.testing.assert_array_equal(labels.colors, palette()[nyu40])


def test_the_alignment_takes_raw_vertices_to_the_aligned_frame(captures, folders):
    capture, folder = captures[0], folders[0]
    (line,) = (
        line for line in (folder / f"{folder.name}.txt").read_text().splitlines() if line.startswith("axisA")
    )
    matrix = np.array(line.split()[-16:], dtype=float).reshape(4, 4)
    raw = read_ply(folder / f"{folder.name}_vh_clean_2.ply").vertices
    aligned = align(Points(raw, Frame.RAW), matrix).xyz
    np.testing.assert_allclose(aligned, apply(capture.aligned_from_room, capture.scan.vertices), atol=1e-5)


def test_frames_are_exported_with_poses_in_the_raw_frame(captures, folders):
    capture, folder = captures[0], folders[0]
    for at, view in enumerate(capture.views):
        number = 20 * at
        pose = np.loadtxt(folder / f"data/pose/{number}.txt")
        np.testing.assert_allclose(pose, capture.raw_from_room @ view.pose, atol=1e-6)
        depth = np.asarray(Image.open(folder / f"data/depth/{number}.png"))
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, np.rint(view.depth * 1000))
        ids = np.asarray(Image.open(folder / f"data/instance-filt/{number}.png"))
        np.testing.assert_array_equal(ids, view.frame.ids)
        with Image.open(folder / f"data/color/{number}.jpg") as color:
            assert color.size == (LENS.width, LENS.height)
    np.testing.assert_allclose(np.loadtxt(folder / "intrinsics.txt")[:3, :3], LENS.matrix())
    np.testing.assert_allclose(
        np.loadtxt(folder / "data/intrinsic/intrinsic_depth.txt")[:3, :3], LENS.matrix()
    )


def test_objects_carry_the_pose_and_box_of_their_model(captures, folders):
    capture, folder = captures[0], folders[0]
    objects = json.loads((folder / "extras/objects.json").read_text())
    scene = json.loads((folder / "extras/scene.json").read_text())
    furniture = [entry for entry in objects if "key" in entry]
    assert len(furniture) == len(capture.room.pieces)
    for entry in furniture:
        box = entry["box_aligned"]
        box = OrientedBox(*(np.array(box[name]) for name in ("centre", "size", "rotation")), Frame.ALIGNED)
        middle = np.array(((0.0, 0.0, entry["size_m"][2] / 2),))
        in_raw = apply(np.array(entry["raw_from_canonical"]), middle)
        np.testing.assert_allclose(
            apply(np.array(scene["aligned_from_raw"]), in_raw)[0], box.centre, atol=1e-9
        )
        assert entry["num_vertices"] == 3
        for frame, count in entry["view_pixels"].items():
            ids = capture.views[int(frame) // 20].frame.ids
            assert count == np.count_nonzero(ids == entry["object_id"] + 1) > 0


def test_referrals_name_objects_of_the_scan(captures, folders):
    for capture, folder in zip(captures, folders, strict=True):
        referrals = json.loads((folder / "extras/referrals.json").read_text())
        assert len(referrals) == len(capture.referrals)
        for entry, said in zip(referrals, capture.referrals, strict=True):
            assert capture.parts[entry["target_id"]].piece.key == said.fact.target
            assert [capture.parts[at].piece.key for at in entry["anchor_ids"]] == list(said.fact.anchors)


def test_a_rescan_says_where_each_object_was(captures):
    first, later = captures
    changes = rescan(later, first)
    then = {at: part.piece for at, part in enumerate(first.parts) if part.piece}
    now = {at: part.piece for at, part in enumerate(later.parts) if part.piece}
    for entry in changes["objects"]:
        piece, old = now[entry["object_id"]], then[entry["reference_object_id"]]
        assert piece.key == old.key
        corners = apply(later.raw_from_room, piece.footprint.box(Frame.RAW).corners().xyz)
        were = apply(first.raw_from_room, old.footprint.box(Frame.RAW).corners().xyz)
        np.testing.assert_allclose(apply(np.array(entry["reference_from_scan"]), corners), were, atol=1e-9)
        if not entry["moved"]:
            np.testing.assert_allclose(
                entry["reference_from_scan"], changes["reference_from_scan"], atol=1e-9
            )
    assert {now[at].key for at in changes["added"]} == {p.key for p in now.values()} - {
        p.key for p in then.values()
    }
    floor = apply(inverse(first.raw_from_room) @ np.array(changes["reference_from_scan"]), np.zeros((1, 3)))
    np.testing.assert_allclose(floor, apply(inverse(later.raw_from_room), np.zeros((1, 3))), atol=1e-9)


def test_floorplans_show_furniture_where_it_stands(captures):
    capture = captures[0]
    drawings = capture.drawings
    assert len({drawing.image.tobytes() for drawing in drawings.values()}) == len(Style)
    solid = drawings[Style.SOLID]
    grey = np.asarray(solid.image).mean(axis=2)
    large = [
        p
        for p in capture.room.pieces
        if p.footprint.low == 0 and p.asset.family in ("bookshelf", "desk", "bed")
    ]
    assert large
    for piece in large:
        spot = np.array([(piece.footprint.x, piece.footprint.y, 0.0)])
        x, y, _ = apply(capture.aligned_from_room, spot)[0]
        column, row, _ = solid.pixels_from_aligned @ (x, y, 1.0)
        assert 150 < grey[int(row), int(column)] < 230


def test_the_silhouette_of_an_ell_keeps_its_cut():
    covered = np.zeros((4, 3), dtype=bool)
    covered[:, 0] = covered[0] = True
    corners = silhouette(covered)
    nxt = np.roll(corners, -1, axis=0)
    assert abs((corners[:, 0] * nxt[:, 1] - corners[:, 1] * nxt[:, 0]).sum()) / 2 == covered.sum()


def test_the_picture_of_a_room_shows_all_of_it(folders):
    image = picture(folders[1])
    assert image.width == 1600
    assert np.asarray(image).std() > 20
    with pytest.raises(NotFound, match="no room in"):
        picture(folders[1].parent)


def test_lists_name_each_scan_under_its_split(tmp_path):
    write_lists(
        tmp_path, [("scene0001_00", Split.TRAIN), ("scene0000_00", Split.TRAIN), ("scene0002_00", Split.TEST)]
    )
    assert (tmp_path / "scannetv2_train.txt").read_text() == "scene0000_00\nscene0001_00\n"
    assert (tmp_path / "scannetv2_test.txt").read_text() == "scene0002_00\n"
    assert (tmp_path / "scannetv2_val.txt").read_text() == ""
    lines = (tmp_path / "scannetv2-labels.combined.tsv").read_text().splitlines()
    table = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    assert {row["raw_category"]: row["nyu40id"] for row in table}["bar stool"] == "5"


def test_models_are_written_once_in_their_canonical_frame(tmp_path, library):
    asset = library.of("table", Split.TRAIN)[0]
    write_models(tmp_path / "cad", {asset.asset_id: asset}, library)
    (path,) = (tmp_path / "cad").iterdir()
    mesh = read_ply(path)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), asset.size_m, rtol=1e-5)
    assert mesh.vertices[:, 2].min() == 0
    before = path.stat().st_mtime_ns
    write_models(tmp_path / "cad", {asset.asset_id: asset}, library)
    assert path.stat().st_mtime_ns == before


def test_a_recipe_comes_back_from_json():
    recipe = replace(Recipe(seed=4, view_px=(64, 48)), speech=Speech(num_referrals=3))
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


@pytest.mark.parametrize(
    ("count", "workers", "error"), [(0, 1, LimitExceeded), (10_001, 1, LimitExceeded), (1, 0, InvalidInput)]
)
def test_an_order_that_cannot_be_met_is_refused(tmp_path, count, workers, error):
    with pytest.raises(error):
        Order(out=tmp_path, furniture=tmp_path, count=count, recipe=Recipe(), workers=workers)


def test_a_folder_with_rooms_of_another_recipe_is_refused(tmp_path, library):
    furniture = tmp_path / "library"
    box_library(furniture)
    there = {"schema": SCHEMA, "recipe": recipe_to_json(Recipe(seed=1)), "furniture": library.digest()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out/recipe.json").write_text(json.dumps(there))
    order = Order(out=tmp_path / "out", furniture=furniture, count=1, recipe=Recipe())
    with pytest.raises(InvalidInput, match=r"holds rooms of another recipe$"):
        make(order)


def test_missing_furniture_and_missing_manifests_say_what_to_run(tmp_path):
    with pytest.raises(NotFound, match="fetch-furniture"):
        open_library(tmp_path)
    with pytest.raises(InvalidInput, match=f"holds no {MANIFEST}"):
        check(tmp_path)


def test_a_package_of_another_digest_is_refused(tmp_path):
    file = tmp_path / "furniture.deb"
    file.write_bytes(b"something else")
    with pytest.raises(InvalidInput, match=r"^furniture\.deb: SHA-256 is .*, needs 0000$"):
        unpack_archives(tmp_path / "a", file=file, package=Package("furniture", "1", "0000", "usr"))
    assert list((tmp_path / "a").iterdir()) == []


def test_a_missing_program_is_named_with_what_to_do_without_it(tmp_path, monkeypatch):
    file = tmp_path / "furniture.deb"
    file.write_bytes(b"a package")
    package = Package("furniture", "1", sha256_of(file), "usr")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreconditionFailed, match=r"^dpkg is not installed: install it"):
        unpack_archives(tmp_path / "a", file=file, package=package)
    with pytest.raises(PreconditionFailed, match=r"^apt-get is not installed: .* with --package$"):
        unpack_archives(tmp_path / "a", package=package)


def test_archives_are_unpacked_from_a_package_by_a_relative_path(tmp_path, monkeypatch):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr").mkdir()
    fields = {
        "Package": "furniture",
        "Version": "1",
        "Architecture": "all",
        "Maintainer": "x <x@example.com>",
    }
    control = "".join(f"{key}: {value}\n" for key, value in {**fields, "Description": "furniture"}.items())
    (tree / "DEBIAN/control").write_text(control)
    write_archive(tree / "usr/a.sh3f", {})
    subprocess.run(["dpkg-deb", "--build", "tree", "a.deb"], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    package = Package("furniture", "1", sha256_of(Path("a.deb")), "usr")
    assert unpack_archives(Path("out"), file=Path("a.deb"), package=package) == [tmp_path / "out/a.sh3f"]
    assert [path.name for path in Path("out").iterdir()] == ["a.sh3f"]


def test_a_library_is_built_from_archives_with_its_attribution(tmp_path):
    archive = write_archive(
        tmp_path / "a.sh3f", {}, {"name": "Hospital bed"}, {"name": "Couch", "width": "190"}
    )
    steps = []
    built = build_library([archive], tmp_path / "library", progress=lambda *step: steps.append(step))
    assert [(asset.asset_id, asset.family, asset.split) for asset in built.assets] == [
        ("Test#model1", "chair", Split.TRAIN),
        ("Test#model3", "sofa", Split.TRAIN),
    ]
    assert steps == [(1, 2), (2, 2)]
    again = open_library(tmp_path / "library")
    assert again.assets == built.assets
    assert again.digest() == built.digest()
    assert all(sha256_of(tmp_path / f"library/meshes/{a.slug}.npz") == a.sha256 for a in again.assets)
    np.testing.assert_allclose(
        np.ptp(again.baked(again.assets[1]).shape.vertices, axis=0), (1.9, 0.6, 0.8), rtol=1e-5
    )
    text = (tmp_path / "library/ATTRIBUTION.md").read_text()
    assert "| Test#model3 | Couch | A. Author | Free for all |" in text


def test_shares_of_a_report_make_up_the_whole():
    report = Report(num_scans=4, total_s=10.0)
    report.seconds.update({"render views": 5.0, "load": 1.0, "write": 2.0})
    assert report.rooms_per_cpu_hour == 1440
    assert report.rendering_share == 0.6
    assert np.isclose(sum(share for *_, share in report.shares()), 1.0)


def test_a_clock_counts_what_was_done_inside():
    clock = Clock()
    with clock.step("sum"):
        sum(range(10**6))
    with clock.step("nothing"):
        pass
    assert clock.seconds["sum"] > clock.seconds["nothing"] >= 0


@pytest.mark.parametrize(
    "arguments", [["show", "{0}"], ["check", "{0}"], ["make", "--out", "{0}/o", "--furniture", "{0}"]]
)
def test_a_command_that_fails_ends_in_one_sentence(tmp_path, arguments):
    result = CliRunner().invoke(app, [argument.format(tmp_path) for argument in arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") or "\nerror: " in result.stderr
    assert "Traceback" not in result.stderr
