"""OBJ meshes, with colours from their vertices or from the textures of their material library.

Shapes: V vertices, F triangles, C corners of triangles.
"""

from __future__ import annotations

import io
import itertools
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.readers.files import file_bytes, picture_size, read_bytes, read_lines, shown
from trainer.data.readers.limits import ScanLimits
from xscene.errors import InvalidInput, LimitExceeded

NO_UV, NO_MATERIAL = -1, -1
LINES_PER_BLOCK = 1 << 16
# Fewer lines of a kind are read faster one by one.
MIN_ALIKE = 32
# By the numbers of a corner.
FACES = {n: re.compile(rb"f(?: \d+" + rb"/\d+" * (n - 1) + rb"){3,}") for n in (1, 2, 3)}
DIGITS = b"0123456789"
SPACED = bytes.maketrans(b"f/", b"  ")


@dataclass(frozen=True, eq=False)
class ObjMesh:
    """Vertices (V,3), triangles (F,3), and colours (V,3) where the file or a texture has them."""

    points: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.uint8] | None


def read_obj(path: Path, limits: ScanLimits) -> ObjMesh:
    """An OBJ file and the textures that lie beside it; a texture that is not there means no colours."""
    lines = _Lines(path.name, limits)
    file_bytes(path, max_bytes=limits.ply.max_bytes)
    with path.open("rb") as file:
        lines.take_all(file)
    points = np.array(lines.positions, dtype=np.float32).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise InvalidInput.at(path.name, "has vertices that are not finite")
    corners = np.array(lines.corners, dtype=np.int64).reshape(-1, 3)
    for column, count, what in ((0, len(points), "vertices"), (1, len(lines.uvs) // 2, "texture points")):
        if len(corners) and not -column <= corners[:, column].min() <= corners[:, column].max() < count:
            raise InvalidInput.at(path.name, f"its faces name {what} of which there are {count}")
    faces = corners[:, 0].reshape(-1, 3).astype(np.int32)
    colors = _vertex_colors(lines, len(points))
    if colors is None:
        colors = _texture_colors(lines, corners, len(points), path.parent)
    return ObjMesh(points, faces, colors)


class _Lines:
    """What the lines of an OBJ file say, gathered."""

    def __init__(self, name: str, limits: ScanLimits) -> None:
        self.name, self.limits = name, limits
        self.positions, self.colors, self.uvs = array("d"), array("d"), array("d")
        self.corners = array("q")
        """Vertex, texture point and material of each corner of each triangle."""
        self.libraries: list[str] = []
        self.materials: dict[str, int] = {}
        self._material = NO_MATERIAL

    def take_all(self, file: Iterable[bytes]) -> None:
        """Every line: many of one form at once, the others one by one."""
        number = 1
        lines = (line.strip() for line in file)
        while block := list(itertools.islice(lines, LINES_PER_BLOCK)):
            for kind, run in itertools.groupby(block, key=lambda line: line.partition(b" ")[0]):
                alike = list(run)
                if len(alike) < MIN_ALIKE or not self._take_alike(kind, alike):
                    for at, line in enumerate(alike, start=number):
                        self._take(line.split(), at)
                number += len(alike)

    def _take_alike(self, kind: bytes, lines: Sequence[bytes]) -> bool:
        """Lines of one kind at once; says whether it could, and took nothing where it could not."""
        if kind == b"f":
            corners = _corners(lines)
            if corners is None or len(self.corners) // 9 + len(corners) // 3 > self.limits.ply.max_faces:
                return False
            material = np.full((len(corners), 1), self._material)
            self.corners.frombytes(np.hstack([corners, material]).tobytes())
            return True
        table = _table(lines, kind) if kind in (b"v", b"vt") else None
        if table is None or table.shape[1] < (2 if kind == b"vt" else 3):
            return False
        if kind == b"vt":
            self.uvs.frombytes(table[:, :2].tobytes())
            return True
        if len(self.positions) // 3 + len(table) > self.limits.ply.max_vertices:
            return False
        self.positions.frombytes(table[:, :3].tobytes())
        self.colors.frombytes(table[:, 3 : 6 if table.shape[1] >= 6 else 3].tobytes())
        return True

    def _take(self, words: Sequence[bytes], number: int) -> None:
        """One line; what is neither shape nor colour is passed over."""
        kind = words[0] if words else b""
        try:
            if kind == b"v":
                self._vertex([float(word) for word in words[1:]])
            elif kind == b"vt":
                self.uvs.extend((float(words[1]), float(words[2])))
            elif kind == b"f":
                self._face(words[1:])
            elif kind == b"mtllib":
                self.libraries.append(b" ".join(words[1:]).decode())
            elif kind == b"usemtl":
                name = b" ".join(words[1:]).decode()
                self._material = self.materials.setdefault(name, len(self.materials))
        except (ValueError, IndexError, OverflowError) as error:
            line = b" ".join(words).decode(errors="replace")
            raise InvalidInput.at(f"{self.name}, line {number}", f"cannot be read: {shown(line)}") from error

    def _vertex(self, numbers: list[float]) -> None:
        if len(numbers) < 3:
            raise ValueError("a vertex needs 3 numbers")
        self.positions.extend(numbers[:3])
        if len(numbers) >= 6:
            self.colors.extend(numbers[3:6])
        if (count := len(self.positions) // 3) > self.limits.ply.max_vertices:
            limit = self.limits.ply.max_vertices
            raise LimitExceeded.of(f"{self.name}: vertices", value=count, limit=limit, unit="rows")

    def _face(self, words: Sequence[bytes]) -> None:
        if len(words) < 3:
            raise ValueError("a face needs 3 corners")
        corners = [self._corner(word) for word in words]
        for second, third in itertools.pairwise(corners[1:]):
            for corner in (corners[0], second, third):
                self.corners.extend((*corner, self._material))
        if (count := len(self.corners) // 9) > self.limits.ply.max_faces:
            limit = self.limits.ply.max_faces
            raise LimitExceeded.of(f"{self.name}: faces", value=count, limit=limit, unit="triangles")

    def _corner(self, word: bytes) -> tuple[int, int]:
        vertex, _, rest = word.partition(b"/")
        uv = rest.partition(b"/")[0]
        return (
            _index(int(vertex), len(self.positions) // 3),
            _index(int(uv), len(self.uvs) // 2) if uv else NO_UV,
        )


def _table(lines: Sequence[bytes], kind: bytes) -> NDArray[np.float64] | None:
    """Numbers (lines, words) behind the first word; None where lines differ in length or hold other words."""
    try:
        # With a number for the first word, as lines that hold nothing would be passed over.
        numbered = [line.replace(kind, b"0", 1) for line in lines]
        return np.loadtxt(numbered, comments=None, ndmin=2, encoding="latin1")[:, 1:]
    except ValueError:
        return None


def _corners(lines: Sequence[bytes]) -> NDArray[np.int64] | None:
    """Vertex and texture point (C,2) of corners of triangles; None for faces of different forms.

    Without their digits lines of one form are the same. Between two separators stands one number at
    most, so as many numbers as places leave none of them empty.
    """
    text, first = b"\n".join(lines), lines[0]
    words = first.split()[1:]
    width = words[0].count(b"/") + 1 if words else 0
    if width not in FACES or not FACES[width].fullmatch(first):
        return None
    if text.translate(None, DIGITS) != b"\n".join([first.translate(None, DIGITS)] * len(lines)):
        return None
    numbers = np.fromstring(text.translate(SPACED), dtype=np.int64, sep=" ")
    if numbers.size != len(lines) * len(words) * width or not numbers.all():
        return None
    rows = np.full((len(lines), len(words), 2), NO_UV)
    rows[:, :, : min(width, 2)] = numbers.reshape(len(lines), len(words), width)[:, :, :2] - 1
    fan = [corner for second in range(1, len(words) - 1) for corner in (0, second, second + 1)]
    found: NDArray[np.int64] = rows[:, fan].reshape(-1, 2)
    return found


def _index(number: int, count: int) -> int:
    """A row from a number that counts from 1, or back from the last where it is negative."""
    row = number - 1 if number > 0 else count + number
    if number == 0 or row < 0:
        raise ValueError(f"{number} names nothing")
    return row


def _vertex_colors(lines: _Lines, count: int) -> NDArray[np.uint8] | None:
    if not lines.colors:
        return None
    colors = np.array(lines.colors).reshape(-1, 3)
    if len(colors) != count:
        raise InvalidInput.at(lines.name, f"{len(colors)} of {count} vertices have colours")
    if not ((colors >= 0) & (colors <= 1)).all():
        raise InvalidInput.at(lines.name, "has colours that are not between 0 and 1")
    rounded: NDArray[np.uint8] = np.rint(colors * 255).astype(np.uint8)
    return rounded


def _texture_colors(
    lines: _Lines, corners: NDArray[np.int64], count: int, beside: Path
) -> NDArray[np.uint8] | None:
    """The texel at the first corner of each vertex; a vertex without texture gets the mean colour."""
    textures = _textures(lines, beside)
    colors = np.zeros((count, 3), dtype=np.uint8)
    painted = np.zeros(count, dtype=np.bool_)
    uvs = np.array(lines.uvs).reshape(-1, 2)
    vertices, first = np.unique(corners[:, 0], return_index=True)
    uv, material = corners[first, 1], corners[first, 2]
    for number, path in textures.items():
        mine = (material == number) & (uv != NO_UV)
        if mine.any():
            colors[vertices[mine]] = _texels(path, uvs[uv[mine]], lines)
            painted[vertices[mine]] = True
    if not painted.any():
        return None
    colors[~painted] = np.rint(colors[painted].mean(axis=0))
    return colors


def _textures(lines: _Lines, beside: Path) -> dict[int, Path]:
    """Picture of each material that has one and that is there."""
    found: dict[int, Path] = {}
    for library in lines.libraries:
        if not (path := _neighbour(library, beside, lines.name)).exists():
            continue
        material = NO_MATERIAL
        for line in read_lines(path, max_bytes=lines.limits.max_text_bytes):
            key, _, value = line.partition(" ")
            if key == "newmtl":
                material = lines.materials.get(value.strip(), NO_MATERIAL)
            elif key == "map_Kd" and material != NO_MATERIAL:
                picture = _neighbour(value.split()[-1] if value.split() else "", beside, path.name)
                if picture.exists():
                    found[material] = picture
    return found


def _neighbour(name: str, beside: Path, where: str) -> Path:
    """A file in the same folder."""
    plain = name.strip().removeprefix("./")
    if not plain or plain in (".", "..") or set(plain) & set("/\\\0"):
        raise InvalidInput.at(where, f"{shown(name)} is no file beside it")
    return beside / plain


def _texels(path: Path, uvs: NDArray[np.float64], lines: _Lines) -> NDArray[np.uint8]:
    """Colours (C,3) at texture points (C,2), whose v counts from the bottom; the picture repeats."""
    if not np.isfinite(uvs).all():
        raise InvalidInput.at(lines.name, "has texture points that are not finite")
    data = read_bytes(path, max_bytes=lines.limits.max_picture_bytes)
    width, height = picture_size(data, path.name, max_pixels=lines.limits.max_picture_pixels)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput.at(path.name, f"cannot be decoded: {error}") from error
    # The far edge is the picture's own, not the beginning of the next.
    uvs = np.where((uvs < 0) | (uvs > 1), uvs % 1.0, uvs)
    columns = np.clip(np.floor(uvs[:, 0] * width), 0, width - 1).astype(np.int64)
    rows = np.clip(np.floor((1 - uvs[:, 1]) * height), 0, height - 1).astype(np.int64)
    return pixels[rows, columns]
