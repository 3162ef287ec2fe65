"""Samples of prepared scenes: keys, presence, augmentation, mixing; the same for any number of workers."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.fixtures_scans import CABINET, CUBE, CUBE_TEXT, MadeDataset, made_folder
from trainer.data.datasets import augmentation as steps
from trainer.data.datasets.augmentation import Augmentation
from trainer.data.datasets.collation import collate
from trainer.data.datasets.dataset import SceneDataset, loader
from trainer.data.datasets.samples import KEYS, SampleSettings
from trainer.data.datasets.sampling import Draw, Mixture, MixtureSampler
from trainer.data.preparation.scenes import prepare_scan
from trainer.data.preparation.settings import Settings
from xscene.errors import InvalidInput, PreparedInvalid
from xscene.prepared.dataset import (
    SCENES,
    DatasetRecord,
    SceneEntry,
    open_dataset,
    record_features,
    write_dataset,
)
from xscene.prepared.features import write_features
from xscene.prepared.records import Split
from xscene.prepared.scene import open_scene
from xscene.prepared.schema import dump
from xscene.types.vocabulary import Modality

SETTINGS = Settings(
    min_votes=10, border_px=0, voxel_m=0.1, crop_px=32, num_surface_points=100, num_cad_points=32
)
STILL = Augmentation(
    scale_low=1, scale_high=1, yaw=False, object_yaw=False, tilt_sigma=0, shift_m=0, noise_sigma_m=0,
    drop_low=0, drop_high=0, colors_missing=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Two prepared data sets, of three scenes and of two."""
    return [prepared(tmp_path_factory.mktemp(name), count) for name, count in (("a", 3), ("b", 2))]


def prepared(folder: Path, count: int, how: Settings = SETTINGS) -> Path:
    dataset = MadeDataset(made_folder(folder / "raw", count))
    scenes = {}
    for entry in dataset.entries():
        prepare_scan(dataset.open(entry), "made", folder / SCENES, how)
        scenes[entry.scan_id] = SceneEntry.of(open_scene(folder / SCENES / entry.scan_id))
    write_dataset(folder, DatasetRecord(name=f"made{count}", complete=True, settings={}, scenes=scenes))
    return folder


def settings(**options) -> SampleSettings:
    return SampleSettings(num_object_points=32, **options)


def equal(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second


def test_every_key_gives_what_it_says(folders):
    dataset = SceneDataset(folders, KEYS, settings=settings())
    scene = dataset.sources[0].scene("room00")
    sample = dataset[Draw(0, 0, 0, 0)]
    cloud, record = scene.cloud(), scene.record
    assert (sample["scene_id"], sample["place_id"], sample["dataset"]) == ("room00", "place0", "made3")
    np.testing.assert_array_equal(sample["scene.points"], cloud.points.xyz)
    np.testing.assert_array_equal(sample["scene.colors"], cloud.colors)
    np.testing.assert_array_equal(sample["scene.object_ids"], cloud.object_ids)
    assert sample["scene.views"] == scene.views()
    assert sample["scene.floorplans"] == scene.floorplans()
    assert sample["scene.referrals"] == [each.text for each in record.referrals]
    assert sample["scene.referrals.object"].tolist() == [CABINET] * 3
    assert sample["object.labels"] == ["floor", "wall", "cabinet"]
    assert sample["object.crops"] == scene.crops()
    owners = [each.object_id for each in record.sightings for _ in range(3)]
    assert sample["object.crops.object"].tolist() == owners
    np.testing.assert_array_equal(sample["object.cad"][0], scene.cad(0).xyz)
    locations = [(*each.mean, *each.size) for each in record.objects]
    np.testing.assert_allclose(sample["object.locations"], locations, atol=1e-6)
    for row, each in enumerate(record.objects):
        own = {tuple(point) for point in cloud.points.xyz[cloud.object_ids == each.object_id].tolist()}
        assert {tuple(point) for point in sample["object.points"][row].tolist()} <= own
        assert len({tuple(point) for point in sample["object.points"][row].tolist()}) == min(32, len(own))


def test_presence_masks_are_those_of_the_scene_and_of_each_object(folders):
    sample = SceneDataset(folders, ())[Draw(0, 0, 0, 0)]
    assert all(sample[f"present.scene.{modality}"] for modality in ("text", "image", "mesh"))
    assert sample["present.object.text"].tolist() == [False, False, True]
    assert sample["present.object.point_cloud"].tolist() == [True, True, True]
    assert not any(key.startswith("scene.") for key in sample)


def test_an_object_has_text_where_the_sample_has_a_sentence_about_it(tmp_path):
    folder = prepared(tmp_path, 1)
    path = folder / SCENES / "room00"
    scene = open_scene(path)
    about = [dataclasses.replace(scene.record.referrals[0], target_id=at) for at in (0, 1)]
    has_text = [(Modality.TEXT, *each.present) for each in scene.record.objects[:2]]
    objects = [
        dataclasses.replace(each, present=present)
        for each, present in zip(scene.record.objects, has_text, strict=False)
    ]
    record = dataclasses.replace(
        scene.record,
        objects=(*objects, scene.record.objects[CABINET]),
        referrals=(*about, *scene.record.referrals),
    )
    (path / "scene.json").write_bytes(dump(record))
    entry = {"room00": SceneEntry.of(open_scene(path))}
    write_dataset(folder, dataclasses.replace(open_dataset(folder).record, scenes=entry))
    dataset = SceneDataset([folder], ("scene.referrals",), settings=settings(max_referrals=1))
    seen = set()
    for at in range(40):
        sample = dataset[Draw(0, at, 0, 0)]
        (owner,) = sample["scene.referrals.object"].tolist()
        assert sample["present.object.text"].nonzero()[0].tolist() == [owner]
        seen.add(owner)
    assert seen == {0, 1, CABINET}
    none = SceneDataset([folder], (), settings=settings(missing={Modality.TEXT: 1.0}))
    assert not none[Draw(0, 0, 0, 0)]["present.object.text"].any()


def test_ragged_batches_have_ends(folders):
    dataset = SceneDataset(folders, KEYS, settings=settings(max_objects=2))
    samples = [dataset[Draw(0, at, 0, at)] for at in range(3)]
    batch = collate(samples)
    start = 0
    for sample, end in zip(samples, batch["scene.points.ends"].tolist(), strict=True):
        np.testing.assert_array_equal(batch["scene.points"][start:end], sample["scene.points"])
        start = end
    assert batch["object.points"].shape == (6, 32, 3)
    assert batch["object.ids.ends"].tolist() == [2, 4, 6]
    assert batch["present.scene.image"].tolist() == [True] * 3
    assert batch["scene_id"] == ["room00", "room01", "room02"]
    assert len(batch["object.crops"]) == batch["object.crops.ends"][-1] == len(batch["object.crops.object"])


def test_pictures_are_decoded_where_a_side_is_given(folders):
    dataset = SceneDataset(folders, ("scene.views", "object.crops"), settings=settings(picture_px=16))
    batch = collate([dataset[Draw(0, 0, 0, 0)], dataset[Draw(0, 1, 1, 1)]])
    assert batch["scene.views"].shape == (4, 16, 16, 3)
    assert batch["object.crops"].dtype == torch.uint8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers_and_differ_by_epoch(folders, num_workers):
    how = settings(augmentation=Augmentation(), missing={Modality.IMAGE: 0.5}, max_objects=2)
    dataset = SceneDataset(folders, KEYS, settings=how, seed=5)
    sampler = dataset.mixed([1, 1], length=6)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(loader(dataset, batch_size=2, sampler=sampler, num_workers=num_workers)))
        for batch, draws in zip(epochs[-1], np.array_split(list(sampler), 3), strict=True):
            expected = collate([dataset[Draw(*map(int, draw))] for draw in draws])
            assert batch.keys() == expected.keys()
            assert all(equal(batch[key], expected[key]) for key in batch)
    assert any(not equal(one["scene.points"], two["scene.points"]) for one, two in zip(*epochs, strict=True))


def test_a_data_set_goes_into_another_process_and_keeps_its_word(folders):
    dataset = SceneDataset(folders, KEYS, settings=settings(augmentation=Augmentation()))
    copy = pickle.loads(pickle.dumps(dataset))
    one, two = dataset[Draw(3, 1, 0, 2)], copy[Draw(3, 1, 0, 2)]
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_a_tampered_scene_is_noticed_when_it_is_first_read(tmp_path):
    folder = prepared(tmp_path, 1)
    dataset = SceneDataset([folder], ("scene.points",))
    path = folder / SCENES / "room00/arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(PreparedInvalid, match=r"scene room00: arrays.safetensors: tampered"):
        dataset[Draw(0, 0, 0, 0)]


def test_stored_features_lie_beside_what_they_are_of(tmp_path):
    folder = prepared(tmp_path, 2)
    stored = open_dataset(folder)
    scene = stored.scene("room00")
    rows = len(scene.record.sightings) * 3
    tensors = {
        "crops.cls": np.arange(rows, dtype=np.float16)[:, None] * np.ones(4, np.float16),
        "objects.cls": np.array([[10.0], [20], [30]], dtype=np.float32),
    }
    digest = write_features(folder, scene, "tiny", "ab", tensors)
    record_features(stored, "tiny", "ab", {"room00": digest})
    keys = ("feature.tiny/crops.cls", "feature.tiny/objects.cls", "object.crops")
    dataset = SceneDataset([folder], keys, settings=settings(max_objects=2, max_crop_views=1))
    sample = dataset[Draw(0, 0, 0, 0)]
    whole = scene.crops()
    picked = [int(row) for row in sample["feature.tiny/crops.cls"][:, 0]]
    assert [whole[row] for row in picked] == sample["object.crops"]
    np.testing.assert_array_equal(sample["feature.tiny/objects.cls"][:, 0], 10 * sample["object.ids"] + 10)
    batch = collate([sample, dataset[Draw(0, 1, 0, 1)]])
    assert batch["feature.tiny/crops.cls.ends"].tolist() == [6, 6]
    assert batch["feature.tiny/crops.cls.object.ends"].tolist() == [6, 6]
    for key in ("feature.big/crops.cls", "feature.tiny", "feature.tiny/walls.cls", "scene.sound"):
        with pytest.raises(InvalidInput, match="keys"):
            SceneDataset([folder], (key,))


def test_data_sets_with_differently_many_points_of_models_mix_by_the_first_of_them(folders, tmp_path):
    coarse = prepared(tmp_path, 1, dataclasses.replace(SETTINGS, num_cad_points=16))
    how = settings(num_cad_points=16)
    mixed = SceneDataset([folders[0], coarse], ("object.cad",), settings=how)
    batch = collate([mixed[Draw(0, 0, 0, 0)], mixed[Draw(0, 1, 1, 0)]])
    assert batch["object.cad"].shape == (2, 16, 3)
    np.testing.assert_array_equal(batch["object.cad"][0], mixed.sources[0].scene("room00").cad(0).xyz[:16])
    wanting = SceneDataset([coarse], ("object.cad",), settings=settings(num_cad_points=17))
    with pytest.raises(InvalidInput, match="num_cad_points: 17, room00 has 16"):
        wanting[Draw(0, 0, 0, 0)]


def test_splits_are_kept_apart(tmp_path):
    folder = prepared(tmp_path, 4)
    train, val = (SceneDataset([folder], (), split=split) for split in (Split.TRAIN, Split.VAL))
    assert (len(train), len(val)) == (3, 1)
    assert [sample["scene_id"] for sample in val] == ["room03"]
    assert [batch["scene_id"] for batch in loader(train, batch_size=2)] == [["room00", "room01"], ["room02"]]


def test_withheld_modalities_are_absent_in_mask_and_content_but_never_all(folders):
    rates = dict.fromkeys(("text", "image", "floorplan", "point_cloud", "mesh"), 0.5)
    missing = {Modality(name): rate for name, rate in rates.items()}
    dataset = SceneDataset(folders, KEYS, settings=settings(missing=missing))
    counts: Counter[str] = Counter()
    num_draws = 200
    for at in range(num_draws):
        sample = dataset[Draw(0, at, 0, at % 3)]
        there = [name for name in rates if sample[f"present.scene.{name}"]]
        assert there
        counts.update(there)
        for name, key in (
            ("image", "scene.views"),
            ("text", "scene.referrals"),
            ("floorplan", "scene.floorplans"),
        ):
            assert bool(sample[key]) == (name in there)
        assert bool(len(sample["scene.points"])) == ("point_cloud" in there)
    assert all(0.38 < counts[name] / num_draws < 0.65 for name in rates), counts
    all_gone = SceneDataset(folders, (), settings=settings(missing=dict.fromkeys(missing, 1.0)))
    assert sum(all_gone[Draw(0, 0, 0, 0)][f"present.scene.{name}"] for name in rates) == 1


def test_still_augmentation_changes_nothing(folders):
    plain, still = (
        SceneDataset(folders, KEYS, settings=settings(augmentation=how))[Draw(0, 0, 0, 0)]
        for how in (None, STILL)
    )
    np.testing.assert_allclose(still["scene.points"], plain["scene.points"], atol=1e-6)
    for key in ("object.points", "object.locations", "object.cad", "scene.colors"):
        np.testing.assert_array_equal(still[key], plain[key])


def test_yaw_turns_points_objects_and_locations_together(folders):
    how = Augmentation(**{**vars(STILL), "yaw": True})
    plain, turned = (
        SceneDataset(folders, KEYS, settings=settings(augmentation=each))[Draw(0, 4, 0, 0)]
        for each in (STILL, how)
    )
    a, b = plain["scene.points"][7, :2], turned["scene.points"][7, :2]
    angle = math.atan2(b[1], b[0]) - math.atan2(a[1], a[0])
    turn = steps.rotation_z(angle)
    assert abs(math.sin(angle)) > 1e-3
    np.testing.assert_allclose(turned["scene.points"], plain["scene.points"] @ turn.T, atol=1e-5)
    np.testing.assert_allclose(turned["object.points"], plain["object.points"] @ turn.T, atol=1e-5)
    means = plain["object.locations"][:, :3] @ turn.T
    np.testing.assert_allclose(turned["object.locations"][:, :3], means, atol=1e-5)
    for row, object_id in enumerate(turned["object.ids"]):
        own = turned["scene.points"][turned["scene.object_ids"] == object_id]
        size = own.max(axis=0) - own.min(axis=0)
        np.testing.assert_allclose(turned["object.locations"][row, 3:], size, atol=1e-5)


def test_missing_colours_are_masked_as_often_as_told(folders):
    how = Augmentation(**{**vars(STILL), "colors_missing": 0.3})
    dataset = SceneDataset(folders, ("scene.colors", "object.colors"), settings=settings(augmentation=how))
    samples = [dataset[Draw(0, at, 0, 0)] for at in range(200)]
    gone = [sample for sample in samples if not sample["present.scene.colors"]]
    assert 0.2 < len(gone) / len(samples) < 0.4
    assert all(not sample["scene.colors"].any() and not sample["object.colors"].any() for sample in gone)
    assert all(not sample["present.object.colors"].any() for sample in gone)


def test_colours_of_models_come_where_they_are_and_are_withheld_with_the_others(tmp_path):
    raw = made_folder(tmp_path / "raw", 1)
    (raw / CUBE).write_text(re.sub(r"(?m)^(v .*)$", r"\1 1 0 0.2", CUBE_TEXT))
    dataset = MadeDataset(raw)
    (entry,) = dataset.entries()
    prepare_scan(dataset.open(entry), "made", tmp_path / SCENES, SETTINGS)
    listed = {"room00": SceneEntry.of(open_scene(tmp_path / SCENES / "room00"))}
    write_dataset(tmp_path, DatasetRecord(name="made", complete=True, settings={}, scenes=listed))
    keys = ("object.cad", "object.cad_colors")
    seen = SceneDataset([tmp_path], keys, settings=settings(num_cad_points=8))[Draw(0, 0, 0, 0)]
    assert seen["object.cad_colors"].shape == seen["object.cad"].shape == (1, 8, 3)
    assert np.unique(seen["object.cad_colors"].reshape(-1, 3), axis=0).tolist() == [[255, 0, 51]]
    assert seen["present.cad.colors"].tolist() == [True]
    how = Augmentation(**{**vars(STILL), "colors_missing": 1.0})
    gone = SceneDataset([tmp_path], keys, settings=settings(augmentation=how))[Draw(0, 0, 0, 0)]
    assert (gone["present.cad.colors"].tolist(), gone["object.cad_colors"].any()) == ([False], False)


def many(step, count: int = 4000) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.array([step(generator) for _ in range(count)])


def test_each_step_has_the_spread_that_it_says():
    ones = np.ones((1, 3), dtype=np.float32)
    scale = many(lambda g: steps.scaled(ones, g, 0.8, 1.25)[0])
    assert 0.8 <= scale.min() < 0.81
    assert 1.24 < scale.max() <= 1.25
    assert np.ptp(scale, axis=1).max() == 0
    shift = many(lambda g: steps.shifted(ones, g, 0.1)[0]) - 1
    assert -0.1001 < shift.min() < -0.098
    assert np.ptp(shift, axis=1).max() == 0
    noise = many(lambda g: steps.noisy(ones, g, 0.03, 0.05)[0]) - 1
    assert abs(noise).max() == pytest.approx(0.05, abs=1e-6)
    assert 0.025 < noise.std() < 0.03
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    turns = many(steps.yaw_rotation)
    angle = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    assert np.histogram(angle, 8, (-math.pi, math.pi))[0].min() > 400
    left = many(lambda g: len(steps.kept_rows(1000, g, 0.05, 0.14)))
    assert (left.min(), left.max()) == (860, 950)
    assert 0.27 < many(lambda g: steps.without_colors(g, 0.3)).mean() < 0.33


def test_tilt_is_three_clipped_rotations_one_after_the_other():
    def slowly(x, y, z, point):
        point = np.array((point[0], math.cos(x) * point[1] - math.sin(x) * point[2],
                          math.sin(x) * point[1] + math.cos(x) * point[2]))  # fmt: skip
        point = np.array((math.cos(y) * point[0] + math.sin(y) * point[2], point[1],
                          -math.sin(y) * point[0] + math.cos(y) * point[2]))  # fmt: skip
        return np.array((math.cos(z) * point[0] - math.sin(z) * point[1],
                         math.sin(z) * point[0] + math.cos(z) * point[1], point[2]))  # fmt: skip

    for seed in range(20):
        angles = np.clip(np.random.default_rng(seed).normal(0, 1, 3) * 0.5, -0.18, 0.18)
        turn = steps.tilt_rotation(np.random.default_rng(seed), 0.5, 0.18)
        for point in np.eye(3):
            np.testing.assert_allclose(turn @ point, slowly(*angles, point), atol=1e-12)


@given(count=st.integers(1, 50), low=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_dropping_keeps_some_points_each_once_and_in_order(count, low, seed):
    rows = steps.kept_rows(count, np.random.default_rng(seed), low, 0.99)
    assert len(rows) >= 1
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows[0] >= 0
    assert rows[-1] < count


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    data=st.data(),
    length=st.integers(1, 60),
    seed=st.integers(0, 5),
)
def test_an_epoch_has_its_exact_length_and_shares(sizes, data, length, seed):
    weights = data.draw(st.lists(st.floats(0.01, 10), min_size=len(sizes), max_size=len(sizes)).map(tuple))
    sampler = MixtureSampler(Mixture(tuple(sizes), weights), length=length, seed=seed)
    draws = list(sampler)
    assert len(draws) == len(sampler) == length
    assert draws == list(sampler)
    assert [draw.position for draw in draws] == list(range(length))
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        rows = Counter(draw.row for draw in draws if draw.source == source)
        assert abs(sum(rows.values()) - length * weight / sum(weights)) < 1 + 1e-6
        if rows:
            # All scenes once before any of them again.
            seen = [rows[row] for row in range(size)]
            assert max(seen) - min(seen) <= 1


def test_weights_that_cannot_be_are_refused():
    for sizes, weights, words in (
        ((2,), (1.0, 1.0), "2 given, needs 1"),
        ((2, 0), (1.0, 1.0), r"weights\[1\]: 1.0, but the data set has no scenes"),
        ((2,), (0.0,), "are all 0"),
        ((2,), (-1.0,), r"weights\[0\]: -1.0, needs"),
    ):
        with pytest.raises(InvalidInput, match=words):
            Mixture(sizes, weights)


def test_amounts_that_cannot_be_are_refused():
    with pytest.raises(InvalidInput, match=r"scale_low: 2, needs 0.001 to 1"):
        Augmentation(scale_low=2, scale_high=1)
    with pytest.raises(InvalidInput, match=r"drop_high: 1, needs 0.05 to 0.99"):
        Augmentation(drop_high=1)
    with pytest.raises(InvalidInput, match=r"max_views: 0, needs at least 1"):
        settings(max_views=0)
    with pytest.raises(InvalidInput, match=r"missing.fused"):
        settings(missing={Modality.FUSED: 0.5})


def test_numbers_give_the_samples_in_order_as_those_of_any_sequence_do(folders):
    dataset = SceneDataset(folders, ["scene.points"], settings=settings(augmentation=Augmentation()), seed=3)
    listed = list(dataset)
    for at, sample in enumerate(listed):
        for number in (at, at - len(listed), np.int64(at)):
            np.testing.assert_array_equal(dataset[number]["scene.points"], sample["scene.points"])
    for number, error in ((5, IndexError), (-6, IndexError), (slice(2), TypeError)):
        with pytest.raises(error):
            dataset[number]
    shuffled = DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=collate)
    seen = [pair for batch in shuffled for pair in zip(batch["dataset"], batch["scene_id"], strict=True)]
    assert sorted(seen) == sorted((each["dataset"], each["scene_id"]) for each in listed)
