"""PLY files: binary of either byte order and ascii, any properties, faces as triangles.

What the header promises is held against the limits and the size of the file before anything is
allocated for it.

Shapes: V vertices, F triangles, R rows of an element.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import file_bytes, shown
from trainer.data.readers.ply_rows import Element, Property, Rows, ascii_rows, binary_rows
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Floats

TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
CORNERS = ("vertex_indices", "vertex_index")
VERTEX, FACE = "vertex", "face"
COLOR = ("red", "green", "blue")
HEADER_END = re.compile(rb"(?:^|\n)end_header[ \t]*\r?\n")


@dataclass(frozen=True, kw_only=True)
class PlyLimits:
    """How much a PLY file may hold."""

    max_bytes: int = 2 << 30
    max_header_bytes: int = 64 << 10
    max_vertices: int = 20_000_000
    max_faces: int = 40_000_000
    """Triangles, after polygons were cut."""


PLY_LIMITS = PlyLimits()


@dataclass(frozen=True, eq=False)
class PlyFile:
    """Properties of each vertex (V,) and each triangle (F,) by name, and the triangles themselves."""

    name: str
    vertex: Mapping[str, NDArray[Any]]
    faces: NDArray[np.int32] | None
    """Triangles (F,3); None where the file has no faces."""
    face: Mapping[str, NDArray[Any]]
    """A polygon's properties stand at each triangle that it was cut into."""

    def property(self, name: str) -> NDArray[Any]:
        """A property of each vertex (V,) that must be there."""
        if name not in self.vertex:
            raise InvalidInput.at(self.name, f"its vertices have no {name}")
        return self.vertex[name]

    def positions(self) -> Floats:
        """Coordinates (V,3), all finite."""
        xyz = np.stack([self.property(axis) for axis in "xyz"], axis=1)
        if not np.issubdtype(xyz.dtype, np.floating):
            xyz = xyz.astype(np.float64)
        if not (finite := np.isfinite(xyz).all(axis=1)).all():
            raise InvalidInput.at(self.name, f"vertex {int(finite.argmin())} is not finite")
        return xyz

    def colors(self) -> NDArray[np.uint8] | None:
        """Red, green and blue (V,3) of 0 to 255; None where the vertices have none."""
        if not set(COLOR) & self.vertex.keys():
            return None
        found = np.stack([self.property(channel) for channel in COLOR], axis=1)
        if found.dtype != np.uint8:
            raise InvalidInput.at(self.name, f"its colours are {found.dtype}, needs uchar")
        return found


@dataclass(frozen=True)
class _Header:
    order: str
    elements: tuple[Element, ...]
    num_bytes: int


def read_ply(path: Path, *, limits: PlyLimits = PLY_LIMITS) -> PlyFile:
    """A PLY file whole."""
    size = file_bytes(path, max_bytes=limits.max_bytes)
    with path.open("rb") as file:
        return _read(file, size, path.name, limits)


def ply_of(data: bytes, name: str, *, limits: PlyLimits = PLY_LIMITS) -> PlyFile:
    """The PLY file of this name that some bytes are."""
    return _read(io.BytesIO(data), len(data), name, limits)


def _read(file: IO[bytes], size: int, name: str, limits: PlyLimits) -> PlyFile:
    header = _header(file, name, limits)
    _check_counts(header, size, name, limits)
    file.seek(header.num_bytes)
    if header.order:
        rows = binary_rows(file.read(), header.elements, header.order, name)
    else:
        rows = ascii_rows(file, header.elements, name)
    by_name = {element.name: found for element, found in zip(header.elements, rows, strict=True)}
    vertex = by_name[VERTEX]
    if vertex.lists:
        raise InvalidInput.at(name, f"its vertices have the list {next(iter(vertex.lists))}")
    num_vertices = next(element.count for element in header.elements if element.name == VERTEX)
    faces, face = _triangles(by_name.get(FACE), num_vertices, name, limits)
    return PlyFile(name, vertex.scalars, faces, face)


def _header(file: IO[bytes], name: str, limits: PlyLimits) -> _Header:
    head = file.read(limits.max_header_bytes)
    end = HEADER_END.search(head)
    if not re.match(rb"ply[ \t]*\r?\n", head):
        raise InvalidInput.at(name, "is no PLY file")
    if end is None:
        raise InvalidInput.at(name, f"its header has no end in {limits.max_header_bytes} bytes")
    lines = head[: end.start()].decode("ascii", errors="replace").splitlines()[1:]
    words = [line.split() for line in lines]
    words = [line for line in words if line and line[0] not in ("comment", "obj_info")]
    if not words or words[0][0] != "format" or len(words[0]) != 3 or words[0][1] not in ORDERS:
        raise InvalidInput.at(name, f"its header does not begin with a format of {', '.join(ORDERS)}")
    elements = _elements(words[1:], name)
    if VERTEX not in {element.name for element in elements}:
        raise InvalidInput.at(name, "has no vertices")
    return _Header(ORDERS[words[0][1]], elements, end.end())


def _elements(lines: Sequence[Sequence[str]], name: str) -> tuple[Element, ...]:
    found: list[Element] = []
    for words in lines:
        if words[0] == "element" and len(words) == 3 and words[2].isdecimal() and len(words[2]) < 19:
            if words[1] in {element.name for element in found}:
                raise InvalidInput.at(name, f"has element {words[1]} twice")
            found.append(Element(words[1], int(words[2]), ()))
        elif words[0] == "property" and found:
            found[-1] = found[-1].having(_property(words, name), name)
        else:
            raise InvalidInput.at(name, f"its header holds {shown(' '.join(words))}")
    return tuple(found)


def _property(words: Sequence[str], name: str) -> Property:
    if len(words) == 3 and words[1] in TYPES:
        return Property(words[2], TYPES[words[1]])
    if len(words) == 5 and words[1] == "list" and words[3] in TYPES:
        length = TYPES.get(words[2], "")
        if length[:1] in ("i", "u"):
            return Property(words[4], TYPES[words[3]], length)
    raise InvalidInput.at(name, f"its header holds {shown(' '.join(words))}")


def _check_counts(header: _Header, size: int, name: str, limits: PlyLimits) -> None:
    most = {VERTEX: limits.max_vertices, FACE: limits.max_faces}
    left = size - header.num_bytes
    for element in header.elements:
        limit = most.get(element.name)
        if limit is not None and element.count > limit:
            raise LimitExceeded.of(f"{name}: {element.name}", value=element.count, limit=limit, unit="rows")
        if element.count and not element.properties:
            raise InvalidInput.at(name, f"element {element.name} has no properties")
        needs = element.count * element.min_row_bytes(ascii_text=not header.order)
        # The last line of a text needs no end.
        if needs > left + (not header.order):
            raise InvalidInput.at(
                name, f"{element.count} rows of {element.name} need {needs} bytes or more, {left} are left"
            )
        left -= needs


def _triangles(
    rows: Rows | None, num_vertices: int, name: str, limits: PlyLimits
) -> tuple[NDArray[np.int32] | None, dict[str, NDArray[Any]]]:
    """Triangles, and what the file says of each; a polygon is cut into a fan from its first corner."""
    if rows is None:
        return None, {}
    corners = next((rows.lists[key] for key in CORNERS if key in rows.lists), None)
    if corners is None:
        raise InvalidInput.at(name, f"its faces have no list {' or '.join(CORNERS)}")
    lengths, values = corners.lengths, corners.values
    if values.dtype.kind == "f":
        raise InvalidInput.at(name, "its faces name vertices by fractions")
    if len(lengths) and lengths.min() < 3:
        raise InvalidInput.at(
            name, f"face {int(lengths.argmin())} has {lengths.min()} corners, needs 3 or more"
        )
    if len(values) and not 0 <= values.min() <= values.max() < num_vertices:
        raise InvalidInput.at(
            name, f"its faces name vertices {values.min()} to {values.max()} of {num_vertices}"
        )
    num_triangles = lengths.astype(np.int64) - 2
    if (total := int(num_triangles.sum())) > limits.max_faces:
        raise LimitExceeded.of(f"{name}: {FACE}", value=total, limit=limits.max_faces, unit="triangles")
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    first = np.repeat(starts, num_triangles)
    step = np.arange(total) - np.repeat(np.cumsum(num_triangles) - num_triangles, num_triangles)
    faces = np.stack([values[first], values[first + step + 1], values[first + step + 2]], axis=1)
    face = {key: np.repeat(column, num_triangles) for key, column in rows.scalars.items()}
    return faces.astype(np.int32, copy=False), face
