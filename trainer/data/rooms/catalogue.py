"""Furniture archives (.sh3f): a zip of models and a catalogue that says what each of them is."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Matrix

CATALOGUE = "PluginFurnitureCatalog.properties"
MAX_CATALOGUE_BYTES = 4 << 20
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
# Key and value are parted by the first equals sign, colon or blank that no backslash protects.
ENTRY = re.compile(r"((?:\\.|[^\\=:\s])+)(?:\s*[=:]\s*|\s+|$)(.*)", re.DOTALL)
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of an archive as its catalogue describes it."""

    asset_id: str
    name: str
    category: str
    width_m: float
    depth_m: float
    height_m: float
    elevation_m: float
    drop_on_top_m: float | None
    """Height at which things may stand on it; None where the catalogue is silent, below 0 where none may."""
    rotation: Matrix
    """(3,3), applied to the file's coordinates, which have y up and the front towards z."""
    archive: str
    path: str
    author: str
    licence: str

    @property
    def size_m(self) -> tuple[float, float, float]:
        """Width, depth and height."""
        return self.width_m, self.depth_m, self.height_m

    @property
    def slug(self) -> str:
        """The id as a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.asset_id.lower()).strip("-")


def read_catalogue(archive: Path, *, max_bytes: int = MAX_CATALOGUE_BYTES) -> list[Model]:
    """The models of an archive, in the order of their numbers."""
    with _opened(archive) as file:
        try:
            entry = file.getinfo(CATALOGUE)
        except KeyError:
            raise InvalidInput.at(archive.name, f"holds no {CATALOGUE}") from None
        if entry.file_size > max_bytes:
            raise LimitExceeded.of(
                f"{archive.name}/{CATALOGUE}", value=entry.file_size, limit=max_bytes, unit="bytes"
            )
        properties = parse_properties(file.read(entry).decode("latin-1"))
        present = set(file.namelist())
    licence = properties.get("license", "not stated")
    numbers = sorted(int(key[3:]) for key in properties if re.fullmatch(r"id#\d+", key))
    models = [_model(archive.name, number, properties, licence) for number in numbers]
    for model in models:
        if model.path not in present:
            raise InvalidInput.at(f"{archive.name}: {model.asset_id}", f"{model.path} is not in the archive")
    return models


def extract(archive: Path, model: Model, folder: Path) -> Path:
    """Unpack the files beside a model, its materials and textures; returns the model's file."""
    parent = model.path.rpartition("/")[0] + "/"
    with _opened(archive) as file:
        for entry in file.infolist():
            if entry.filename.startswith(parent) and not entry.is_dir():
                # `extract` strips drive letters, leading slashes and dots, so nothing lands elsewhere.
                file.extract(entry, folder)
    return folder / model.path


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values of a Java properties file."""
    entries = (ENTRY.match(line) for line in _logical_lines(text))
    return {_unescaped(entry[1]): _unescaped(entry[2]) for entry in entries if entry}


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, those that end in an odd number of backslashes joined to the next."""
    pending = ""
    for line in map(str.lstrip, text.splitlines()):
        if not pending and (not line or line[0] in "#!"):
            continue
        pending += line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending = pending[:-1]
            continue
        yield pending
        pending = ""
    if pending:
        yield pending


def _unescaped(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else ESCAPES.get(code, code)

    return ESCAPE.sub(plain, text)


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile:
        raise InvalidInput.at(archive.name, "is no zip archive") from None


def _model(archive: str, number: int, properties: dict[str, str], licence: str) -> Model:
    where = f"{archive}: entry {number}"

    def text(key: str, default: str | None = None) -> str:
        value = properties.get(f"{key}#{number}", default)
        if value is None:
            raise InvalidInput.at(where, f"has no {key}")
        return value

    def metres(key: str, default: str | None = None) -> float:
        return _number(text(key, default), f"{where}: {key}") / 100

    for key in ("width", "depth", "height"):
        if metres(key) <= 0:
            raise InvalidInput.at(f"{where}: {key}", f"{text(key)}, needs more than 0")
    drop = text("dropOnTopElevation", "")
    return Model(
        asset_id=text("id"),
        name=text("name"),
        category=text("category"),
        width_m=metres("width"),
        depth_m=metres("depth"),
        height_m=metres("height"),
        elevation_m=metres("elevation", "0"),
        drop_on_top_m=metres("dropOnTopElevation") if drop else None,
        rotation=_rotation(text("modelRotation", ""), where),
        archive=archive,
        path=text("model").lstrip("/"),
        author=text("creator", "not stated"),
        licence=licence,
    )


def _rotation(text: str, where: str) -> Matrix:
    if not text:
        return np.eye(3)
    numbers = [_number(part, f"{where}: modelRotation") for part in text.split()]
    if len(numbers) != 9:
        raise InvalidInput.at(f"{where}: modelRotation", f"{len(numbers)} numbers, needs 9")
    return np.array(numbers).reshape(3, 3)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidInput.at(where, f"{text!r} is no number") from None
    if not np.isfinite(value):
        raise InvalidInput.at(where, f"{text}, needs a finite number")
    return value
