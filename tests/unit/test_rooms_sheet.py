"""The contact sheet: which rooms are on it, and that its marks lie on what the sentence is about."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.rooms import app
from tests.unit.rooms_captures import captured, turned
from tests.unit.rooms_furniture import box_library
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.extras import write_extras
from trainer.data.rooms.places import Place, first_room
from trainer.data.rooms.scannet import write_scan
from trainer.data.rooms.sheet import GAP_PX, PANEL_PX, TEXT_PX, chosen_scans, sheet
from xscene.errors import NotFound

TILE_PX = (3 * (PANEL_PX[0] + GAP_PX), PANEL_PX[1] + TEXT_PX + GAP_PX)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three scans of one room, two of which say that they are of other kinds and splits."""
    folder = tmp_path_factory.mktemp("rooms")
    library = box_library(folder / "library")
    room = first_room(Place(seed=0, index=0), library, Furnishings())
    for at, (kind, split) in enumerate((("office", "train"), ("office", "train"), ("kitchen", "test"))):
        capture = captured(library, at, room, turned(30 * at, (at, 2, 0.1)), turned(90, (0.5, 0, 0)))
        scan = folder / "scans" / capture.scan_id
        scan.mkdir(parents=True)
        write_scan(scan, capture, jpeg_quality=90)
        write_extras(scan / "extras", capture, None)
        path = scan / "extras" / "scene.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"room": kind, "split": split}))
    return folder


def reds(image: Image.Image) -> np.ndarray:
    """Columns and rows (N,2) of pure red, which nothing else on a plan is."""
    rows, columns = np.nonzero((np.asarray(image) == (255, 0, 0)).all(axis=2))
    return np.stack([columns, rows], axis=1)


def test_scans_come_in_turns_from_every_kind_and_split(root):
    names = [scan.name for scan in chosen_scans(root, 24)]
    assert names == ["scene0000_02", "scene0000_00", "scene0000_01"]
    assert [scan.name for scan in chosen_scans(root, 2)] == names[:2]


def test_the_mark_on_a_plan_lies_where_the_target_stands(root):
    image, names = sheet(root, 2)
    assert image.size == (2 * TILE_PX[0], TILE_PX[1])
    for at, name in enumerate(names):
        extras = root / "scans" / name / "extras"
        left = at * TILE_PX[0] + 2 * (PANEL_PX[0] + GAP_PX)
        marks = reds(image.crop((left, 0, left + PANEL_PX[0], PANEL_PX[1])))
        style = ("line", "solid")[at % 2]
        with Image.open(extras / f"floorplan_{style}.png") as plan:
            scale = min(1.0, *(panel / side for panel, side in zip(PANEL_PX, plan.size, strict=True)))
        matrix = np.array(json.loads((extras / "floorplans.json").read_text())["pixels_from_aligned"][style])
        objects = json.loads((extras / "objects.json").read_text())
        referrals = json.loads((extras / "referrals.json").read_text())
        seen = [said for said in referrals if objects[said["target_id"]]["view_pixels"]] or referrals
        centre = objects[seen[at % len(seen)]["target_id"]]["box_aligned"]["centre"]
        wanted = (matrix @ (centre[0], centre[1], 1.0))[:2] * scale
        assert len(marks) > 20
        np.testing.assert_allclose((marks.min(axis=0) + marks.max(axis=0)) / 2, wanted, atol=2.5)


def test_the_command_writes_a_sheet_and_refuses_a_folder_without_rooms(root, tmp_path):
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, ["sheet", str(root), "--out", str(out), "--count", "3"])
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert image.size == (2 * TILE_PX[0], 2 * TILE_PX[1])
    with pytest.raises(NotFound, match="holds no furnished rooms"):
        sheet(tmp_path, 3)
