"""A contact sheet: many rooms on one picture, each with a sentence and what it is about."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from trainer.data.rooms.making import SCANS
from trainer.data.rooms.pictures import BACKGROUND, CLOUD_PX_PER_M, below_ceiling, cloud_from_above
from trainer.data.rooms.ply import read_ply
from xscene.errors import NotFound
from xscene.geometry.frames import Matrix

PANEL_PX = (400, 300)
GAP_PX, TEXT_PX, TEXT_CHARS, NUM_COLUMNS = 8, 34, 195, 2
MARK, MARK_PX = "red", 3
UPRIGHT = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def sheet(root: Path, count: int) -> tuple[Image.Image, list[str]]:
    """The sheet of so many scans of different kinds and splits, and their ids in the sheet's order."""
    chosen = chosen_scans(root, count)
    tiles = [_tile(scan, number) for number, scan in enumerate(chosen)]
    width, height = tiles[0].size
    num_rows = -(-len(tiles) // NUM_COLUMNS)
    whole = Image.new("RGB", (NUM_COLUMNS * width, num_rows * height), BACKGROUND)
    for at, tile in enumerate(tiles):
        whole.paste(tile, (at % NUM_COLUMNS * width, at // NUM_COLUMNS * height))
    return whole, [scan.name for scan in chosen]


def chosen_scans(root: Path, count: int) -> list[Path]:
    """Folders of scans, in turns from every split and kind of room."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(root.glob(f"{SCANS}/*/extras/scene.json")):
        scene = json.loads(path.read_text())
        groups.setdefault((scene["split"], scene["room"]), []).append(path.parent.parent)
    if not groups:
        raise NotFound(f"{root} holds no furnished rooms")
    deepest = max(map(len, groups.values()))
    turns = [group[at] for at in range(deepest) for _, group in sorted(groups.items()) if at < len(group)]
    return turns[:count]


def _tile(scan: Path, number: int) -> Image.Image:
    """A view, the cloud and a plan of a scan, the target of one sentence marked in each."""
    extras = scan / "extras"
    scene, objects, referrals, plans = (
        json.loads((extras / f"{name}.json").read_text())
        for name in ("scene", "objects", "referrals", "floorplans")
    )
    said, target = _sentence(objects, referrals, number)
    style = sorted(plans["pixels_from_aligned"])[number % len(plans["pixels_from_aligned"])]
    corners = _corners(target)
    panels = [
        _view(scan / "data", target),
        _cloud(scan, np.array(scene["aligned_from_raw"]), corners),
        _plan(extras / f"floorplan_{style}.png", np.array(plans["pixels_from_aligned"][style]), corners),
    ]
    width, height = PANEL_PX
    tile = Image.new("RGB", (3 * (width + GAP_PX), height + TEXT_PX + GAP_PX), BACKGROUND)
    for at, panel in enumerate(panels):
        panel.thumbnail(PANEL_PX)
        tile.paste(panel, (at * (width + GAP_PX), 0))
    head = f"{number + 1}  {scan.name}  {scene['room']}, {scene['split']}, {scene['kin']}, {scene['light']}"
    told = f"{said['target_id']} {target['label']}: {said['utterance']} [{said['relation']}]"
    pen = ImageDraw.Draw(tile)
    pen.text((2, height + 2), "\n".join((head, *textwrap.wrap(told, TEXT_CHARS))), fill="black")
    return tile


def _sentence(
    objects: Sequence[dict[str, Any]], referrals: Sequence[dict[str, Any]], number: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One of the sentences about what a view shows, and its object."""
    seen = [said for said in referrals if objects[said["target_id"]]["view_pixels"]] or list(referrals)
    said = seen[number % len(seen)]
    return said, objects[said["target_id"]]


def _view(data: Path, target: dict[str, Any]) -> Image.Image:
    """The view that shows most of the target, with its box."""
    pixels = target["view_pixels"]
    best = max(sorted(pixels), key=lambda name: pixels[name], default="0")
    image = Image.open(data / "color" / f"{best}.jpg").convert("RGB")
    ids = np.asarray(Image.open(data / "instance-filt" / f"{best}.png"))
    rows, columns = np.nonzero(ids == target["object_id"] + 1)
    if len(rows):
        box = (int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max()))
        ImageDraw.Draw(image).rectangle(box, outline=MARK, width=MARK_PX)
    return image


def _cloud(scan: Path, aligned_from_raw: Matrix, corners: Matrix) -> Image.Image:
    """The scan from above without its ceiling, with the target's outline."""
    mesh = read_ply(scan / f"{scan.name}_vh_clean_2.ply")
    points, colors, _ = below_ceiling(scan, mesh, aligned_from_raw)
    image = cloud_from_above(points, colors)
    west, north = points[:, 0].min(), points[:, 1].max()
    _outline(image, ((x - west, north - y) for x, y in corners), CLOUD_PX_PER_M)
    return image


def _plan(path: Path, pixels_from_aligned: Matrix, corners: Matrix) -> Image.Image:
    """A floorplan with the target's outline."""
    image = Image.open(path).convert("RGB")
    placed = corners @ pixels_from_aligned[:2, :2].T + pixels_from_aligned[:2, 2]
    _outline(image, ((x, y) for x, y in placed), 1.0)
    return image


def _outline(image: Image.Image, corners: Iterator[tuple[float, float]], scale: float) -> None:
    pixels = [(float(x * scale), float(y * scale)) for x, y in corners]
    ImageDraw.Draw(image).line([*pixels, pixels[0]], fill=MARK, width=MARK_PX)


def _corners(target: dict[str, Any]) -> Matrix:
    """The outline (4,2) of an object's box from above, in the aligned frame."""
    box = target["box_aligned"]
    local = np.array(UPRIGHT) / 2 * box["size"][:2]
    corners: Matrix = local @ np.array(box["rotation"])[:2, :2].T + box["centre"][:2]
    return corners
