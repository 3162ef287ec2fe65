"""The furniture library: models as meshes on disk, with family, split, size, author and licence."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms import package
from trainer.data.rooms.catalogue import Model, read_catalogue
from trainer.data.rooms.families import FAMILIES, Family, Split, family_of, split_assets
from trainer.data.rooms.models import BakeLimits, bake
from trainer.data.rooms.shapes import Shape, top_heights
from xscene.errors import InvalidInput, NotFound

SCHEMA = "furniture/1"
INDEX, ATTRIBUTION, MESHES = "library.json", "ATTRIBUTION.md", "meshes"
TOP_CELL_M = 0.02
SHAPES_IN_MEMORY = 512


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One piece of furniture of the library."""

    asset_id: str
    slug: str
    name: str
    family: str
    split: Split
    size_m: tuple[float, float, float]
    elevation_m: float
    stackable: bool
    """Whether things may stand on it."""
    author: str
    licence: str
    sha256: str
    """Digest of its mesh."""

    @property
    def kind(self) -> Family:
        """Its family."""
        return FAMILIES[self.family]


@dataclass(frozen=True, eq=False)
class Baked:
    """A mesh in its canonical frame, and the height of its top over each cell of its footprint."""

    shape: Shape
    tops: NDArray[np.float32]


class Library:
    """Furniture on disk; meshes are read when asked for, and the last ones are kept."""

    def __init__(self, folder: Path, assets: Sequence[Asset]) -> None:
        self._folder = folder
        self.assets = tuple(assets)
        self._by_id = {asset.asset_id: asset for asset in assets}
        self.baked: Callable[[Asset], Baked] = lru_cache(maxsize=SHAPES_IN_MEMORY)(self._read)

    def __getitem__(self, asset_id: str) -> Asset:
        """The asset of this id."""
        if asset_id not in self._by_id:
            raise NotFound(f"asset {asset_id}: not in the library")
        return self._by_id[asset_id]

    def of(self, family: str, split: Split) -> list[Asset]:
        """Assets of a family for rooms of a split, in the order of their ids."""
        return [asset for asset in self.assets if asset.family == family and asset.split == split]

    def digest(self) -> str:
        """Digest of the index, and with it of every mesh."""
        return package.sha256_of(self._folder / INDEX)

    def _read(self, asset: Asset) -> Baked:
        data = (self._folder / MESHES / f"{asset.slug}.npz").read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = ("vertices", "normals", "colors", "surfaces", "faces")
            return Baked(Shape(*(file[name] for name in names)), file["tops"])


def open_library(folder: Path) -> Library:
    """The library in a folder."""
    path = folder / INDEX
    if not path.is_file():
        raise NotFound(f"no furniture in {folder}: run python -m deploy rooms fetch-furniture")
    index = json.loads(path.read_text())
    if index.get("schema") != SCHEMA:
        raise InvalidInput.at(INDEX, f"schema {index.get('schema')!r}, needs {SCHEMA!r}; fetch it anew")
    return Library(folder, [_asset(entry) for entry in index["assets"]])


def _asset(entry: dict[str, Any]) -> Asset:
    return Asset(**entry | {"split": Split(entry["split"]), "size_m": tuple(entry["size_m"])})


def build_library(
    archives: Iterable[Path],
    folder: Path,
    *,
    limits: BakeLimits | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Library:
    """Bake every model that has a family; the index is written last, so a library is whole or absent."""
    (folder / INDEX).unlink(missing_ok=True)
    meshes = folder / MESHES
    shutil.rmtree(meshes, ignore_errors=True)
    meshes.mkdir(parents=True)
    chosen = [
        (archive, model, family)
        for archive in sorted(archives)
        for model in read_catalogue(archive)
        if (family := family_of(model))
    ]
    if not chosen:
        raise InvalidInput.at("archives", "hold no model of a known family")
    chosen.sort(key=lambda item: item[1].asset_id)
    jobs = [
        (archive, model, limits or BakeLimits(), meshes / f"{model.slug}.npz") for archive, model, _ in chosen
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_bake_to, *job): job[1].asset_id for job in jobs}
        digests = {}
        for done in as_completed(running):
            digests[running[done]] = done.result()
            progress(len(digests), len(jobs))
    assets = _indexed([(model, family) for _, model, family in chosen], digests)
    write_index(folder, assets)
    return Library(folder, assets)


def _bake_to(archive: Path, model: Model, limits: BakeLimits, target: Path) -> str:
    """Write one mesh; returns its digest."""
    return write_mesh(target, bake(archive, model, limits), model.size_m)


def write_mesh(target: Path, shape: Shape, size_m: tuple[float, float, float]) -> str:
    """Write a mesh with the heights of its top; returns the file's digest."""
    np.savez(
        target,
        vertices=shape.vertices,
        normals=shape.normals,
        colors=shape.colors,
        surfaces=shape.surfaces,
        faces=shape.faces,
        tops=top_heights(shape, size_m, TOP_CELL_M),
    )
    return package.sha256_of(target)


def _indexed(chosen: Sequence[tuple[Model, Family]], digests: dict[str, str]) -> list[Asset]:
    splits: dict[str, Split] = {}
    for name in FAMILIES:
        splits |= split_assets(model.asset_id for model, family in chosen if family.name == name)
    return [
        Asset(
            asset_id=model.asset_id,
            slug=model.slug,
            name=model.name,
            family=family.name,
            split=splits[model.asset_id],
            size_m=model.size_m,
            elevation_m=model.elevation_m,
            stackable=model.drop_on_top_m is None or model.drop_on_top_m >= 0,
            author=model.author,
            licence=model.licence,
            sha256=digests[model.asset_id],
        )
        for model, family in chosen
    ]


def write_index(folder: Path, assets: Sequence[Asset]) -> None:
    """Write who made what under which licence, then the index."""
    lines = [
        "# Furniture: authors and licences",
        "",
        "Models from the Debian package sweethome3d-furniture (Sweet Home 3D), turned, scaled, coloured and",
        "simplified. Each model is under the licence that its catalogue states.",
        "",
        "| model | name | author | licence |",
        "|---|---|---|---|",
    ]
    lines += [f"| {a.asset_id} | {a.name} | {a.author} | {a.licence} |" for a in assets]
    (folder / ATTRIBUTION).write_text("\n".join(lines) + "\n")
    index = {"schema": SCHEMA, "assets": [asdict(asset) for asset in assets]}
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps(index, indent=1) + "\n")
    partial.replace(folder / INDEX)
