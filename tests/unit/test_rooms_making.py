"""Small rooms by the real renderer: what is there and whole is kept, and nothing damaged passes for whole."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil

import pytest
from typer.testing import CliRunner

from deploy.rooms import app
from tests.unit.rooms_furniture import box_library
from trainer.data.rooms.captures import Recipe
from trainer.data.rooms.extras import CAD
from trainer.data.rooms.production import MANIFEST, RECIPE, Order, check, make
from trainer.data.rooms.rendering import Renderer
from trainer.data.workers import LOCK_FILE
from xscene.errors import InvalidInput, Overloaded, PreconditionFailed

SMALL = Recipe(rescan_share=0, num_views=2, num_scan_views=4, view_px=(64, 48), scan_px=(32, 24))
SCAN = "scans/scene0000_00"


@pytest.fixture(scope="module")
def furniture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("furniture") / "library"
    box_library(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, furniture):
    """A data set of one scan, made to its end."""
    try:
        with Renderer():
            pass
    except PreconditionFailed:
        pytest.skip("no EGL")
    out = tmp_path_factory.mktemp("made") / "out"
    order = Order(out=out, furniture=furniture, count=1, recipe=SMALL)
    assert make(order).num_scans == 1
    return order


@pytest.fixture
def order(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made.out, tmp_path / "out")
    return dataclasses.replace(made, out=tmp_path / "out")


def damage(path, data):
    path.unlink() if data is None else path.write_bytes(data)


def contents(order):
    return {path: path.read_bytes() for path in order.out.rglob("*") if path.is_file()}


def test_a_damaged_model_is_named_and_written_anew(order):
    path = next((order.out / CAD).iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert check(order.out) == [f"{CAD}/{path.name}"]
    make(order)
    assert path.read_bytes() == whole
    assert check(order.out) == []


def test_two_runs_do_not_write_to_one_place(order):
    with (order.out / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Overloaded, match="another run has been writing to"):
            make(dataclasses.replace(order, lock_timeout_s=0.2))


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("extras/objects.json", None),
        ("extras/referrals.json", b"[]"),
        ("extras/digests.json", None),
        ("extras/digests.json", b"{}"),
    ],
)
def test_a_damaged_scan_is_named_and_made_anew(order, file, data):
    whole = contents(order)
    damage(order.out / SCAN / file, data)
    assert check(order.out) == [f"{SCAN}/{file}"]
    assert make(order).num_scans == 1
    assert contents(order) == whole
    assert make(order).num_scans == 0


def test_a_check_says_what_to_do_about_what_differs(order):
    damage(order.out / SCAN / "extras/referrals.json", None)
    result = CliRunner().invoke(app, ["check", str(order.out)])
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    assert said[0] == f"differs: {SCAN}/extras/referrals.json"
    assert said[1] == "rooms make with the same options makes anew what differs"


def test_a_damaged_manifest_is_refused_by_name_and_written_anew(order):
    path = order.out / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(InvalidInput, match=f"^{MANIFEST}: is no JSON"):
        check(order.out)
    make(order)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("file", [RECIPE, MANIFEST])
def test_a_file_is_on_disk_before_it_has_its_name(order, monkeypatch, file):
    (order.out / file).unlink()

    def cut(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(KeyboardInterrupt):
        make(order)
    assert not (order.out / file).exists()
    assert list(order.out.glob(f"*{file}*")) == []
