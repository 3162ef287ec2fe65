"""Small rooms by the real renderer: what is there and whole is kept, and nothing damaged passes for whole."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from tests.unit.rooms_furniture import box_library
from trainer.data.rooms.captures import Recipe
from trainer.data.rooms.extras import CAD
from trainer.data.rooms.production import Order, check, make
from trainer.data.rooms.rendering import Renderer
from xscene.errors import PreconditionFailed

SMALL = Recipe(rescan_share=0, num_views=2, num_scan_views=4, view_px=(64, 48), scan_px=(32, 24))


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


def test_a_damaged_model_is_named_and_written_anew(order):
    path = next((order.out / CAD).iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert check(order.out) == [f"{CAD}/{path.name}"]
    make(order)
    assert path.read_bytes() == whole
    assert check(order.out) == []
