"""A crash between any two file operations leaves whole scenes and whole lists, or none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.prepared_values import made, made_dataset
from xscene import files
from xscene.errors import PreparedInvalid
from xscene.prepared.dataset import SCENES, open_dataset, record_features
from xscene.prepared.features import write_features
from xscene.prepared.scene import open_scene, write_scene


class PowerCut(BaseException):
    """Ends all at once: nothing is cleaned up behind it."""


OPERATIONS = (
    (Path, "mkdir"),
    (Path, "open"),
    (Path, "replace"),
    (Path, "unlink"),
    (os, "fsync"),
    (shutil, "rmtree"),
)


@contextlib.contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[list[str]]:
    """The first file operations are done, the next one cuts the power, and no later one happens."""
    done: list[str] = []

    def counted(owner, name):
        real = getattr(owner, name)

        def operation(*arguments, **options):
            if len(done) >= after:
                raise PowerCut
            done.append(name)
            return real(*arguments, **options)

        return operation

    with monkeypatch.context() as patch:
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, counted(owner, name))
        with contextlib.suppress(PowerCut):
            yield done


def cuts(monkeypatch: pytest.MonkeyPatch, write) -> Iterator[int]:
    """Every place at which power may fail, until the writing comes to its end."""
    for after in range(100):
        ended = False
        with power_cut(monkeypatch, after):
            write(after)
            ended = True
        yield after
        if ended:
            assert after >= 5, "the operations were not counted"
            return
    raise AssertionError("the writing never came to its end")


def test_a_new_scene_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    outcomes = set()
    record, content = made()

    def write(after):
        write_scene(tmp_path / str(after) / "room00", record, content)

    for after in cuts(monkeypatch, write):
        target = tmp_path / str(after) / "room00"
        whole = target.exists()
        if whole:
            assert open_scene(target).crops() == content.crops
        outcomes.add(whole)
        # The next run clears what was left aside and writes the scene.
        if target.parent.exists():
            files.sweep(target.parent)
            assert {path.name for path in target.parent.iterdir()} == ({"room00"} if whole else set())
        write_scene(target, record, content)
        assert open_scene(target).crops() == content.crops
    assert outcomes == {True, False}


def test_a_scene_written_anew_is_the_old_one_the_new_one_or_absent_and_never_half(tmp_path, monkeypatch):
    seen = set()
    old, new = made(seed=1), made(seed=2)

    def target(after):
        return tmp_path / str(after) / "room00"

    def write(after):
        write_scene(target(after), *new)

    for after in range(100):
        write_scene(target(after), *old)
        ended = False
        with power_cut(monkeypatch, after):
            write(after)
            ended = True
        try:
            crops = open_scene(target(after)).crops()
        except PreparedInvalid as error:
            assert "there is no such directory" in error.message  # noqa: PT017
            seen.add("absent")
        else:
            assert crops in (old[1].crops, new[1].crops)
            seen.add("old" if crops == old[1].crops else "new")
        if ended:
            break
    assert seen == {"old", "absent", "new"}


def test_a_list_of_scenes_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    made_dataset(tmp_path)
    dataset = open_dataset(tmp_path)
    digest = write_features(tmp_path, dataset.scene("room00"), "tiny", "ab", {"views.cls": _ones(dataset)})
    seen = set()
    for after in cuts(monkeypatch, lambda _: record_features(dataset, "tiny", "ab", {"room00": digest})):
        found = open_dataset(tmp_path)
        assert found.scene_ids() == ("room00", "room01")
        seen.add(bool(found.record.backbones))
        assert (after == 0) <= (not found.record.backbones)
    assert seen == {True, False}
    assert (tmp_path / SCENES / "room00").is_dir()


def _ones(dataset):
    import numpy as np

    return np.ones((len(dataset.scene("room00").record.views), 3), np.float32)


def test_what_other_writers_have_aside_is_left_alone(tmp_path):
    other = tmp_path / f".room00.b.{'0' * files.NONCE_LENGTH}.tmp"
    other.mkdir()
    write_scene(tmp_path / "room00", *made())
    assert other.is_dir()
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["room00"]
