"""The sample that comes with the repository is whole, small, and has what demo and tests need of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from trainer.data.preparation.pictures import decoded
from xscene.prepared.dataset import PreparedDataset, open_dataset

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy/demo/sample"
MAX_BYTES = 12 << 20


@pytest.fixture(scope="module")
def sample() -> PreparedDataset:
    return open_dataset(SAMPLE)


def test_every_file_of_the_sample_is_as_it_was_written_and_all_are_small(sample):
    sample.verify()
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * 12
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_the_sample_has_rescans_all_splits_all_modalities_and_its_authors(sample):
    records = [sample.scene(name).record for name in sample.scene_ids()]
    places = Counter(record.place_id for record in records)
    assert len(places) == 8
    assert sum(count == 2 for count in places.values()) == 4
    assert {record.split for record in records} == {"train", "val", "test"}
    assert len({record.label for record in records}) >= 4
    assert all(len(record.present) == 5 for record in records)
    assert all(len(record.objects) >= 8 for record in records)
    for record in records:
        assert (record.rescan is None) == record.is_reference
        if record.rescan:
            assert record.rescan.reference_scene_id in sample.record.scenes
    assert "CC-BY" in sample.attribution() or "Creative Commons" in sample.attribution()


def test_pictures_of_the_sample_are_jpeg_and_fit_their_intrinsics(sample):
    for name in sample.scene_ids():
        scene = sample.scene(name)
        for view, encoded in zip(scene.record.views, scene.views(), strict=True):
            image = decoded(encoded, view.view_id, 1 << 20)
            assert image.size == (view.intrinsics.width, view.intrinsics.height)
        assert all(crop.startswith(b"\xff\xd8") for crop in scene.crops())
