"""Writing bundles: all or nothing, and never over another one."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from tests.unit.tiny_bundle import WRITTEN_AT, content, with_section, with_tensor
from xscene.errors import AlreadyExists, BundleInvalid, InvalidInput
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import write_bundle


@pytest.fixture
def directory(tmp_path) -> Path:
    write_bundle(content(), tmp_path / "tiny")
    return tmp_path / "tiny"


def test_writing_the_same_again_keeps_what_is_there(directory):
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    again = write_bundle(content(created_at=datetime(2030, 1, 1, tzinfo=UTC)), directory)
    assert again.manifest.created_at == WRITTEN_AT.isoformat()
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before
    assert [path.name for path in directory.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        (content(notes="another"), "notes"),
        (with_tensor("fusion", "w", torch.zeros(2)), "model_id, sections"),
    ],
)
def test_another_bundle_is_never_overwritten(directory, changed, fields):
    before = (directory / "manifest.json").read_bytes()
    with pytest.raises(AlreadyExists, match=f"bundle tiny is there and differs in {fields}"):
        write_bundle(changed, directory)
    assert (directory / "manifest.json").read_bytes() == before
    assert [path.name for path in directory.parent.iterdir()] == ["tiny"]


def test_what_is_no_bundle_is_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"file")
    for name in ("photos", "file"):
        with pytest.raises(AlreadyExists, match=f"{name} is there and is no valid bundle"):
            write_bundle(content(), tmp_path / name)
    assert (tmp_path / "photos" / "cat.png").read_bytes() == b"cat"
    assert (tmp_path / "file").read_bytes() == b"file"


def test_an_empty_directory_may_be_filled(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert write_bundle(content(), tmp_path / "tiny") == open_bundle(tmp_path / "tiny")


def test_a_failed_rename_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("power cut")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        write_bundle(content(), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    synced = []

    def fail_later(descriptor):
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(OSError, match="no space left"):
        write_bundle(content(), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("other", "outcome"), [(content(), "kept"), (content(notes="other"), "refused")])
def test_of_two_writers_at_once_the_first_wins(tmp_path, monkeypatch, other, outcome):
    replace = Path.replace

    def late(staging, target):
        monkeypatch.undo()
        write_bundle(other, target)
        return replace(staging, target)

    monkeypatch.setattr(Path, "replace", late)
    if outcome == "kept":
        write_bundle(content(), tmp_path / "tiny")
    else:
        with pytest.raises(AlreadyExists, match="differs in notes"):
            write_bundle(content(), tmp_path / "tiny")
    assert open_bundle(tmp_path / "tiny").manifest.notes == other.notes
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_every_file_and_both_directories_are_on_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def sync(descriptor):
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def rename(staging, target):
        events.append("rename")
        return replace(staging, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    write_bundle(content(), tmp_path / "tiny")
    files = {"image.safetensors", "fusion.safetensors", "calibration.safetensors", "manifest.json"}
    assert set(events[:4]) == files
    assert events[4].startswith(".tiny.")
    assert events[5:] == ["rename", tmp_path.name]


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (content(name="Two Words"), "bundle Two Words: name: is 'Two Words', needed"),
        (content(width=1), "bundle tiny: width: is '1', needed: at least 2"),
        (content(metrics={"loss": float("nan")}), "bundle tiny: metrics: cannot be JSON: Out of range"),
        (content(metrics={"loss": torch.ones(1)}), "bundle tiny: metrics: cannot be JSON: .*Tensor"),
        (
            with_section("image", config={"dir": Path()}),
            "bundle tiny: section image: settings: cannot be JSON",
        ),
        (content(parents=("xyz",)), "bundle tiny: parents: is 'xyz'"),
        (content(sections={}), "bundle tiny: sections: none besides calibration"),
        (with_section("fusion", tensors={}), "bundle tiny: section fusion: .* holds no tensor"),
        (
            with_tensor("fusion", "w", torch.tensor([torch.nan])),
            "bundle tiny: section fusion: tensor w: holds",
        ),
    ],
)
def test_a_bundle_that_could_not_be_read_is_not_written(tmp_path, whole, message):
    with pytest.raises(BundleInvalid, match=message):
        write_bundle(whole, tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_section_that_no_bundle_has_is_not_written(tmp_path):
    section = content().sections["fusion"]
    with pytest.raises(InvalidInput, match=r"sections: unknown \.\./audio; known are text, image"):
        write_bundle(content(sections={"../audio": section}), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []
