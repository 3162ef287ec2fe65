"""Furniture for tests: archives written on the spot, and a library of plain boxes of many families."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.rooms.families import FAMILIES, split_assets
from trainer.data.rooms.library import MESHES, Asset, Library, write_index, write_mesh
from trainer.data.rooms.shapes import Shape, cuboid, joined

# Family: width, depth and height of its first model, where it hangs, and how many models there are.
PLAIN: Mapping[str, tuple[tuple[float, float, float], float, int]] = {
    "chair": ((0.45, 0.5, 0.9), 0.0, 10),
    "office chair": ((0.6, 0.6, 1.0), 0.0, 2),
    "armchair": ((0.8, 0.85, 0.9), 0.0, 6),
    "sofa": ((1.9, 0.9, 0.85), 0.0, 8),
    "bed": ((1.4, 2.0, 0.7), 0.0, 6),
    "night stand": ((0.5, 0.45, 0.5), 0.0, 2),
    "wardrobe": ((1.2, 0.6, 2.0), 0.0, 3),
    "bookshelf": ((0.9, 0.35, 1.5), 0.0, 8),
    "dresser": ((1.2, 0.5, 0.8), 0.0, 2),
    "tv stand": ((1.3, 0.45, 0.5), 0.0, 2),
    "tv": ((0.8, 0.15, 0.5), 0.0, 2),
    "desk": ((1.3, 0.65, 0.74), 0.0, 8),
    "table": ((1.4, 0.85, 0.75), 0.0, 8),
    "coffee table": ((1.0, 0.6, 0.45), 0.0, 6),
    "bar stool": ((0.4, 0.4, 0.9), 0.0, 6),
    "plant": ((0.3, 0.3, 0.4), 0.0, 12),
    "vase": ((0.2, 0.2, 0.3), 0.0, 6),
    "table lamp": ((0.25, 0.25, 0.45), 0.0, 6),
    "ceiling lamp": ((0.4, 0.4, 0.5), 1.8, 6),
    "radiator": ((0.9, 0.15, 0.6), 0.0, 6),
    "cabinet": ((0.6, 0.6, 0.88), 0.0, 6),
    "upper cabinet": ((0.6, 0.38, 0.7), 1.45, 6),
    "kitchen sink": ((0.9, 0.6, 0.95), 0.0, 2),
    "stove": ((0.6, 0.6, 0.85), 0.0, 2),
    "refrigerator": ((0.7, 0.7, 1.8), 0.0, 2),
    "kitchen appliance": ((0.3, 0.3, 0.35), 0.0, 6),
    "box": ((0.5, 0.4, 0.35), 0.0, 6),
    "toy": ((0.25, 0.25, 0.3), 0.0, 6),
    "bowl": ((0.25, 0.25, 0.12), 0.0, 2),
    "toilet": ((0.4, 0.65, 0.75), 0.0, 2),
    "washbasin": ((0.6, 0.45, 0.9), 0.0, 6),
    "bathtub": ((1.7, 0.75, 0.6), 0.0, 2),
    "computer": ((0.35, 0.3, 0.3), 0.0, 2),
    "trash can": ((0.3, 0.3, 0.5), 0.0, 2),
    "washing machine": ((0.6, 0.6, 0.85), 0.0, 2),
    "laundry basket": ((0.45, 0.45, 0.6), 0.0, 2),
    "stool": ((0.35, 0.35, 0.45), 0.0, 2),
    "towel rack": ((0.6, 0.12, 0.5), 0.4, 2),
}
LARGE_PLANTS_FROM = 6


def box_library(folder: Path) -> Library:
    """A library in a folder, of boxes that grow from model to model; tables have legs and a top."""
    (folder / MESHES).mkdir(parents=True)
    assets = []
    for family, (size, elevation_m, count) in PLAIN.items():
        splits = split_assets(f"{family}#{at}" for at in range(count))
        for at in range(count):
            grown = tuple(round(side * (1 + 0.02 * at), 4) for side in size)
            if family == "plant" and at >= LARGE_PLANTS_FROM:
                grown = (0.5, 0.5, 1.0)
            assets.append(_asset(folder, f"{family}#{at}", family, grown, elevation_m, splits))
    write_index(folder, assets)
    return Library(folder, assets)


def _asset(folder: Path, asset_id, family, size, elevation_m, splits) -> Asset:
    slug = asset_id.replace(" ", "-").replace("#", "-").replace("'", "")
    return Asset(
        asset_id=asset_id,
        slug=slug,
        name=family,
        family=family,
        split=splits[asset_id],
        size_m=size,
        elevation_m=elevation_m,
        stackable=True,
        author="nobody",
        licence="CC0",
        sha256=write_mesh(folder / MESHES / f"{slug}.npz", furniture_shape(family, size), size),
    )


def furniture_shape(family: str, size: tuple[float, float, float]) -> Shape:
    """A box, or a board on four legs, in its canonical frame."""
    width, depth, height = size
    low, high = np.array((-width / 2, -depth / 2, 0.0)), np.array((width / 2, depth / 2, height))
    color = tuple(40 + 150 * (index % 7) // 6 for index in range(len(family), len(family) + 3))
    if "table" not in family.split() and family != "desk":
        return cuboid(low, high, color)
    legs = [
        cuboid((x - 0.03, y - 0.03, 0), (x + 0.03, y + 0.03, height - 0.04), color)
        for x in (low[0] + 0.03, high[0] - 0.03)
        for y in (low[1] + 0.03, high[1] - 0.03)
    ]
    return joined([cuboid((low[0], low[1], height - 0.04), high, color), *legs])


OBJ = """mtllib {name}.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 -4
v 2 0 -4
v 2 1 -4
v 0 1 -4
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl front
f 1/1 2/2 3/3 4/4
usemtl plain
f 6 5 8 7
f 5 1 4 8
f 2 6 7 3
f 4 3 7 8
f 5 6 2 1
"""
MTL = """newmtl front
Kd 1 1 1
map_Kd {name}.png
newmtl plain
Kd 0 0 1
"""
ENTRY = {
    "id": "Test#{name}",
    "name": "Chair",
    "category": "Living room",
    "model": "/test/{name}/{name}.obj",
    "width": "50.0",
    "depth": "60",
    "height": "80",
    "creator": "A. Author",
}


def write_archive(path: Path, *entries: Mapping[str, str], text: str | None = None) -> Path:
    """An archive of models: boxes with a front that is red on its left and green on its right, else blue."""
    lines = ["# a comment", "license=Free for all"]
    with zipfile.ZipFile(path, "w") as archive:
        for number, changes in enumerate(entries, start=1):
            name = changes.get("file", f"model{number}")
            for key, value in {**ENTRY, **changes}.items():
                if key != "file":
                    lines.append(f"{key}#{number}={value.format(name=name)}")
            archive.writestr(f"test/{name}/{name}.obj", OBJ.format(name=name))
            archive.writestr(f"test/{name}/{name}.mtl", MTL.format(name=name))
            archive.writestr(f"test/{name}/{name}.png", _picture())
        catalogue = text if text is not None else "\n".join(lines)
        archive.writestr("PluginFurnitureCatalog.properties", catalogue.encode("latin-1"))
    return path


def _picture() -> bytes:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 1] = 255, 255
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


assert set(PLAIN) <= set(FAMILIES)
