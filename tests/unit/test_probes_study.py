"""The study of rooms, whole, on the sample pack and the real network; its page and its record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.bench import rooms as pages
from deploy.bench.app import app
from tests.contract.tree import ROOT
from tests.image_backbones import BACKBONES_DIR, encoded, mobilenet_directory, picture
from trainer.data.probes.census import Overlaps, Seen
from trainer.data.probes.gallery import Member
from trainer.data.probes.neighbours import FrozenNetwork, Look, categories, instances, looks, models, rooms
from trainer.data.probes.study import Settings, study
from trainer.data.probes.trials import Bootstrap
from xscene.errors import ModelMismatch, NotFound, PreconditionFailed
from xscene.prepared.dataset import open_dataset

SAMPLE = ROOT / "deploy" / "demo" / "sample"
DRAWS = Bootstrap(num_draws=50)
SETTINGS = Settings(seen=Seen(min_pixels=1, min_vertices=1), bootstrap=DRAWS)


def write_extras(root: Path) -> Path:
    """What the rooms of the sample pack say about themselves; each place of test is a three of its own."""
    (root / "scans").mkdir(parents=True)
    (root / "recipe.json").write_text(json.dumps({"recipe": {"seed": 5}, "furniture": "f" * 64}))
    dataset = open_dataset(SAMPLE)
    for scan_id in dataset.scene_ids():
        record = dataset.scene(scan_id).record
        objects = []
        for at, each in enumerate(record.objects):
            entry = {
                "object_id": at,
                "label": each.label,
                "num_vertices": each.num_vertices,
                "view_pixels": {},
            }
            if each.asset_id is not None:
                entry |= {"asset_id": each.asset_id, "cad": {"asset_id": each.asset_id}}
            entry["view_pixels"] = {
                sighting.view_id: sighting.votes
                for sighting in record.sightings
                if sighting.object_id == each.object_id
            }
            objects.append(entry)
        extras = root / "scans" / scan_id / "extras"
        extras.mkdir(parents=True)
        scene = {
            "place_id": record.place_id,
            "kin": "first",
            "set": int(record.place_id[5:]),
            "room": record.label,
            "split": record.split,
            "partial": False,
        }
        (extras / "scene.json").write_text(json.dumps(scene))
        (extras / "objects.json").write_text(json.dumps(objects))
        (extras / "referrals.json").write_text(json.dumps([{"target_id": 8} for _ in record.referrals]))
    return root


@pytest.fixture(scope="module")
def network():
    return FrozenNetwork(mobilenet_directory(), batch_pictures=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_extras(tmp_path_factory.mktemp("rooms") / "data")


@pytest.fixture(scope="module")
def written(data, tmp_path_factory):
    """Page and record as the command writes them."""
    out = tmp_path_factory.mktemp("page")
    arguments = ["rooms", str(data), "--prepared", str(SAMPLE), "--out", str(out), "--draws", "50"]
    arguments += ["--backbones-dir", str(BACKBONES_DIR), "--min-pixels", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return (out / pages.PAGE_FILE).read_text(), json.loads((out / pages.RECORD_FILE).read_text())


def member(scan="a_00", place="a", three=0):
    return Member(scan_id=scan, place_id=place, look_alikes=three, furniture=place)


def look(object_id, label, asset, scan=None):
    return Look(scan=scan or member(), object_id=object_id, label=label, asset_id=asset, best=b"", other=b"")


def unit(*rows):
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_features_do_not_depend_on_the_batch_and_know_a_picture_again(network):
    pictures = [encoded(picture(seed)) for seed in range(5)]
    whole = network.features(pictures)
    assert whole.shape == (5, 1280)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1.0, rtol=1e-5)
    alone = np.concatenate([network.features([each]) for each in pictures])
    np.testing.assert_allclose(whole, alone, atol=1e-4)
    assert (whole @ whole.T).argmax(axis=1).tolist() == list(range(5))
    assert network.features([]).shape == (0, 1280)


def test_other_weights_are_refused(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ModelMismatch, match="the published one has"):
        FrozenNetwork(tmp_path)


def test_a_category_is_that_of_the_nearest_and_the_majority_that_of_the_gallery():
    queries = [look(0, "chair", "q"), look(1, "chair", "r"), look(2, "bed", "s")]
    gallery = [look(at, name, "g") for at, name in enumerate(("bed", "bed", "chair", "sofa"))]
    features = unit((1, 0), (0, 1), (0.1, 1))
    of_gallery = unit((0, 1), (0, -1), (1, 0.1), (-1, 0))
    named = categories(queries, gallery, features, of_gallery, DRAWS)
    assert named.outcome.first.value == pytest.approx(2 / 3)
    assert named.outcome.first.chance == pytest.approx((1 / 4 + 1 / 4 + 2 / 4) / 3)
    assert (named.gallery_pieces, named.categories) == (4, 2)
    assert named.majority == pytest.approx(1 / 3)
    assert named.mean_over_categories == pytest.approx((1 / 2 + 1) / 2)


def test_an_instance_is_one_of_a_scan_and_a_model_is_sought_in_other_threes():
    here, there = member(), member("b_00", "b", 1)
    pieces = [look(4, "chair", "x", here), look(5, "chair", "x", here), look(4, "chair", "x", there)]
    best, other = unit((1, 0), (0, 1), (1, 1)), unit((0, 1), (1, 0), (1, 1))
    # The two chairs of the first scan are mistaken for each other.
    assert instances(pieces, best, other, DRAWS).first.value == pytest.approx(1 / 3)
    same = models(pieces, best, DRAWS)
    assert (same.num_queries, same.gallery, same.first.value) == (3, 2, 1.0)


def test_rooms_are_found_by_views_that_look_alike():
    members = [member(), member("a_01"), member("b_00", "b", 1)]
    views = [unit((1, 0), (1, 0.1)), unit((1, 0.2), (1, 0.3)), unit((0, 1), (0.1, 1))]
    found = rooms(views, members, DRAWS)
    assert {name: each.wanted.first.value for name, each in found.items()} == dict.fromkeys(found, 1.0)
    assert found["rescan, view to views"].wanted.num_queries == 4
    assert found["rescan, mean view to mean views"].wanted.gallery == 2


def test_looks_are_of_furniture_in_its_best_views():
    scene = open_dataset(SAMPLE).scene("scene0024_00")
    found = {each.object_id: each for each in looks(scene, member())}
    assert set(found) == {
        each.object_id
        for each in scene.record.objects
        if each.asset_id is not None and each.object_id in scene.sightings_of
    }
    for object_id, rows in scene.sightings_of.items():
        if object_id in found:
            assert found[object_id].best == scene.crops([rows[0]])[0]
            assert (found[object_id].other is None) == (len(rows) == 1)


def test_a_study_measures_test_against_train(written):
    found = written[1]["study"]
    assert {split: each["scans"] for split, each in found["counts"].items()} == {
        "train": 5,
        "val": 3,
        "test": 4,
    }
    assert found["gallery"] == {"scans": 4, "places": 2, "threes": 2}
    assert found["overlaps"]["places"] == []
    scene = found["shortcuts"]["scene"]["mean colour: views to cloud"]["wanted"]
    assert (scene["num_queries"], scene["first"]["chance"]) == (4, pytest.approx(1 / 4))
    rescan = found["shortcuts"]["rescan"]["footprint IoU: floorplan to floorplan"]["wanted"]
    assert (rescan["num_queries"], rescan["gallery"]) == (4, 3)
    near = found["neighbours"]
    assert near["rooms"]["same scan, view to views"]["wanted"]["num_queries"] == 40
    named = near["categories"]["outcome"]["first"]
    assert named["value"] > named["chance"]


def test_the_page_has_chance_beside_every_figure_and_full_tables(written):
    text, record = written
    assert "--count 8 --seed 5" in text
    assert "share" in text
    assert record["settings"]["seen"] == {"min_pixels": 1, "min_vertices": 50}
    assert record["settings"]["bootstrap"]["num_draws"] == 50
    table_lines = [line for line in text.splitlines() if line.startswith("| ")]
    figures = [
        line
        for line in table_lines
        if any(line.startswith(f"| {name} ") for name in record["study"]["neighbours"]["rooms"])
    ]
    assert len(figures) == 3
    assert {line.count("..") for line in figures} == {4}
    assert {line.count(" | ") for line in table_lines} == {3, 4, 7}


def test_shared_furniture_is_told_in_bold():
    shared = Overlaps(assets=("sofa",), models=(), places=(), look_alike_sets=(1, 2))
    words = pages.overlap_words(shared)
    assert words.startswith(
        "**Splits share what they must not**: 1 assets, such as sofa; 2 threes, such as 1."
    )
    nothing = Overlaps(assets=(), models=(), places=(), look_alike_sets=())
    assert pages.overlap_words(nothing) == "No two splits share assets, CAD models, places or threes.\n"


def test_rooms_and_scenes_that_differ_are_refused(data, network, tmp_path):
    other = write_extras(tmp_path / "data")
    scan = other / "scans" / "scene0025_01"
    scan.rename(other / "scans" / "scene0026_01")
    with pytest.raises(PreconditionFailed, match="split test: rooms and prepared scenes differ in 2 scans"):
        study(other, SAMPLE, network, SETTINGS)


def test_a_folder_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(NotFound, match=r"holds no recipe\.json"):
        pages.origin(tmp_path)
