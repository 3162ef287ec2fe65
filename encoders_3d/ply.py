"""The surface of a PLY file: the triangles of its faces, and their colours."""

# R faces of the file, V vertices, F triangles

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders_3d.mesh_limits import MeshLimits
from encoders_3d.surfaces import Bytes, Paint, Part, color_bytes
from xscene.ply.faces import CORNERS, triangles_of
from xscene.ply.header import FACE, VERTEX, ply_header
from xscene.ply.rows import Rows, rows_of

COLOR = ("red", "green", "blue")


def ply_parts(field: str, data: bytes, limits: MeshLimits) -> list[Part]:
    """The triangles of a file; a face of more corners is a fan from its first."""
    rows = rows_of(data, ply_header(field, data, limits.ply))
    if VERTEX not in rows or FACE not in rows or not len(rows[FACE]):
        return []
    vertices, faces = rows[VERTEX], rows[FACE]
    corners = next((name for name in (*CORNERS, *faces.list_lengths) if name in faces.list_lengths), None)
    if corners is None:
        raise ValueError("its faces have no list of corners")
    triangles_F3, face_F = triangles_of(field, faces, corners, len(vertices), limits.ply)
    if not len(face_F):
        return []
    xyz_V3 = np.column_stack([vertices.column(axis).astype(np.float64) for axis in "xyz"])
    return [Part(xyz_V3[triangles_F3], _paint(vertices, faces, triangles_F3, face_F))]


def _paint(vertices: Rows, faces: Rows, triangles_F3: NDArray[Any], face_F: NDArray[np.int64]) -> Paint:
    """Colours of vertices, else of faces, as the file has them."""
    if (colors_V3 := _colors(vertices)) is not None:
        return Paint(corner_colors=colors_V3[triangles_F3])
    if (colors_R3 := _colors(faces)) is not None:
        return Paint(corner_colors=np.repeat(colors_R3[face_F][:, None], 3, axis=1))
    return Paint()


def _colors(rows: Rows) -> Bytes | None:
    """The colour of each row; bytes, or floats from 0 to 1."""
    if not set(COLOR) <= set(rows.offsets):
        return None
    kinds = {rows.kind(name) for name in COLOR}
    values = np.column_stack([rows.column(name) for name in COLOR])
    if kinds == {"u1"}:
        return values
    if kinds <= {"f4", "f8"}:
        return color_bytes(values.astype(np.float64))
    found = " and ".join(sorted(np.dtype(kind).name for kind in kinds))
    raise ValueError(f"colours are {found}, needed: uchar, or floats from 0 to 1")
