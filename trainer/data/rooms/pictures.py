"""One picture of a scan that a person can look at: views, depth, cloud, floorplans and sentences."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.data.rooms.ply import PlyMesh, read_ply
from trainer.data.rooms.scannet import FRAME_STEP, palette
from xscene.errors import NotFound
from xscene.geometry.frames import Matrix, apply

WIDTH_PX, TILE_PX, GAP_PX = 1600, 392, 8
CLOUD_PX_PER_M = 55.0
LINE_PX, LINE_CHARS = 15, 120
FAR_MM = 4500.0
NYU40_CEILING = 22
TILT_RAD = 0.9
BACKGROUND = "white"


def picture(scan: Path) -> Image.Image:
    """The picture of the scan in a folder."""
    if not (scan / "extras" / "scene.json").is_file():
        raise NotFound(f"no room in {scan}")
    scene = json.loads((scan / "extras" / "scene.json").read_text())
    mesh = read_ply(scan / f"{scan.name}_vh_clean_2.ply")
    aligned, colors, labels = below_ceiling(scan, mesh, np.array(scene["aligned_from_raw"]))
    clouds = [
        cloud_from_above(aligned, colors),
        cloud_from_above(aligned, palette()[labels]),
        cloud_from_above(aligned, colors, TILT_RAD),
    ]
    plans = [Image.open(path).convert("RGB") for path in sorted((scan / "extras").glob("floorplan_*.png"))]
    rows = [*_views(scan / "data"), _row([*clouds, *plans]), _text(_lines(scene, scan, mesh))]
    return _stack(rows)


def below_ceiling(
    scan: Path, mesh: PlyMesh, aligned_from_raw: Matrix
) -> tuple[Matrix, NDArray[np.uint8], NDArray[np.uint16]]:
    """Aligned vertices (V,3), colours (V,3) and NYU40 ids (V,) of a scan without its ceiling."""
    labelled = read_ply(scan / f"{scan.name}_vh_clean_2.labels.ply")
    assert labelled.labels is not None
    below = labelled.labels != NYU40_CEILING
    aligned = apply(aligned_from_raw, mesh.vertices[below])
    return aligned, mesh.colors[below], labelled.labels[below]


def _views(data: Path) -> list[Image.Image]:
    """Every view, then depth and instances of the first two."""
    numbers = sorted(int(path.stem) for path in (data / "color").glob("*.jpg"))
    tiles = [Image.open(data / "color" / f"{number}.jpg").convert("RGB") for number in numbers]
    for number in numbers[:2]:
        depth = np.asarray(Image.open(data / "depth" / f"{number}.png")).astype(np.float64)
        tiles.append(Image.fromarray((255 * np.clip(depth / FAR_MM, 0, 1)).astype(np.uint8)).convert("RGB"))
    ids = np.asarray(Image.open(data / "instance-filt" / f"{FRAME_STEP}.png"))
    tiles.append(Image.fromarray(palette()[ids % len(palette())]))
    return [_row(tiles[at : at + 5], num_columns=5) for at in range(0, len(tiles), 5)]


def _row(tiles: Sequence[Image.Image], num_columns: int = 0) -> Image.Image:
    """Tiles side by side, all of one width."""
    width = (WIDTH_PX - GAP_PX) // (num_columns or len(tiles)) - GAP_PX
    scaled = [tile.resize((width, max(1, tile.height * width // tile.width))) for tile in tiles]
    row = Image.new("RGB", (WIDTH_PX, max(tile.height for tile in scaled) + GAP_PX), BACKGROUND)
    for at, tile in enumerate(scaled):
        row.paste(tile, (GAP_PX + at * (width + GAP_PX), GAP_PX))
    return row


def cloud_from_above(points: Matrix, colors: NDArray[np.uint8], tilt_rad: float = 0.0) -> Image.Image:
    """Points from above, tilted towards the viewer; the highest of each pixel is drawn."""
    c, s = np.cos(tilt_rad), np.sin(tilt_rad)
    x, up, near = points[:, 0], c * points[:, 1] + s * points[:, 2], c * points[:, 2] - s * points[:, 1]
    columns = ((x - x.min()) * CLOUD_PX_PER_M).astype(np.int64)
    rows = ((up.max() - up) * CLOUD_PX_PER_M).astype(np.int64)
    image = np.full((int(rows.max()) + 1, int(columns.max()) + 1, 3), 255, dtype=np.uint8)
    order = np.argsort(near, kind="stable")
    image[rows[order], columns[order]] = colors[order]
    return Image.fromarray(image)


def _lines(scene: dict[str, object], scan: Path, mesh: PlyMesh) -> list[str]:
    objects = json.loads((scan / "extras" / "objects.json").read_text())
    referrals = json.loads((scan / "extras" / "referrals.json").read_text())
    furniture = [entry for entry in objects if "key" in entry]
    unseen = [entry["label"] for entry in furniture if not entry["view_pixels"]]
    missed = [entry["label"] for entry in furniture if not entry["num_vertices"]]
    names = ", ".join(f"{entry['object_id']} {entry['label']}" for entry in furniture)
    lines = [
        f"{scene['scan_id']}: {scene['room']}, {scene['split']}, {scene['kin']}, light {scene['light']}",
        f"partial {scene['partial']}, {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces",
        f"{len(furniture)} objects: {names}",
        f"in no view: {', '.join(unseen) or 'none'}; not in the scan: {', '.join(missed) or 'none'}",
    ]
    lines += _changes(scan)
    return lines + [
        f"{said['target_id']:3d}  {said['utterance']}  [{said['relation']}]" for said in referrals
    ]


def _changes(scan: Path) -> list[str]:
    path = scan / "extras" / "rescan.json"
    if not path.is_file():
        return []
    rescan = json.loads(path.read_text())
    moved = [entry["object_id"] for entry in rescan["objects"] if entry["moved"]]
    return [
        f"since {rescan['reference']}: moved {moved}, added {rescan['added']}, removed {rescan['removed']}"
    ]


def _text(lines: Sequence[str]) -> Image.Image:
    """Lines in two columns."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, LINE_CHARS) or [""]]
    half = -(-len(wrapped) // 2)
    image = Image.new("RGB", (WIDTH_PX, half * LINE_PX + 2 * GAP_PX), BACKGROUND)
    pen = ImageDraw.Draw(image)
    for at, line in enumerate(wrapped):
        place = (GAP_PX + at // half * WIDTH_PX // 2, GAP_PX + at % half * LINE_PX)
        pen.text(place, line, fill="black")
    return image


def _stack(rows: Sequence[Image.Image]) -> Image.Image:
    image = Image.new("RGB", (WIDTH_PX, sum(row.height for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        image.paste(row, (0, top))
        top += row.height
    return image
