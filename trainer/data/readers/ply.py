"""PLY files of data sets: every property of vertices and faces, faces as triangles.

Shapes: V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import read_bytes, shown
from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats
from xscene.ply.faces import CORNERS, triangles_of
from xscene.ply.header import FACE, VERTEX, Limits, ply_header
from xscene.ply.rows import Rows, rows_of

COLOR = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class PlyLimits(Limits):
    """How much a PLY file may hold."""

    max_bytes: int = 2 << 30
    max_header_bytes: int = 64 << 10
    max_vertices: int = 20_000_000
    max_faces: int = 40_000_000


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


def read_ply(path: Path, *, limits: PlyLimits = PLY_LIMITS) -> PlyFile:
    """A PLY file whole."""
    return ply_of(read_bytes(path, max_bytes=limits.max_bytes), path.name, limits=limits)


def ply_of(data: bytes, name: str, *, limits: PlyLimits = PLY_LIMITS) -> PlyFile:
    """The PLY file of this name that some bytes are."""
    header = ply_header(name, data, limits)
    vertex = next((element for element in header.elements if element.name == VERTEX), None)
    if vertex is None:
        raise InvalidInput.at(name, "has no vertices")
    if listed := next((each.name for each in vertex.properties if each.length_kind), ""):
        raise InvalidInput.at(name, f"its vertices have the list {shown(listed)}")
    try:
        return _read(name, rows_of(data, header), limits)
    except ValueError as error:
        raise InvalidInput.at(name, str(error)) from error


def _read(name: str, rows: Mapping[str, Rows], limits: PlyLimits) -> PlyFile:
    vertex = rows[VERTEX]
    columns = {key: vertex.column(key) for key in vertex.offsets}
    if FACE not in rows:
        return PlyFile(name, columns, None, {})
    faces = rows[FACE]
    corners = next((key for key in CORNERS if key in faces.list_lengths), None)
    if corners is None:
        raise ValueError(f"its faces have no list {' or '.join(CORNERS)}")
    lengths = faces.list_lengths[corners]
    if len(lengths) and lengths.min() < 3:
        raise ValueError(f"face {int(lengths.argmin())} has {lengths.min()} corners, needs 3 or more")
    triangles, face = triangles_of(name, faces, corners, len(vertex), limits)
    scalars = (key for key in faces.offsets if key not in faces.list_lengths)
    return PlyFile(
        name,
        columns,
        triangles.astype(np.int32, copy=False),
        {key: faces.column(key)[face] for key in scalars},
    )
