"""The surface of a PLY file: its faces cut into triangles, counted before any is made."""

# R faces of the file, V vertices, F triangles

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encoders_3d.mesh_limits import MeshLimits, check_counts
from encoders_3d.ply_header import FACE, VERTEX, ply_header
from encoders_3d.ply_rows import Rows, rows_of
from encoders_3d.surfaces import Bytes, Paint, Part, color_bytes

CORNERS = ("vertex_indices", "vertex_index")
COLOR = ("red", "green", "blue")


def ply_parts(field: str, data: bytes, limits: MeshLimits) -> list[Part]:
    """The triangles of a file; a face of more corners is a fan from its first."""
    rows = rows_of(data, ply_header(field, data, limits))
    if VERTEX not in rows or FACE not in rows or not len(rows[FACE]):
        return []
    vertices, faces = rows[VERTEX], rows[FACE]
    corners = next((name for name in (*CORNERS, *faces.list_lengths) if name in faces.list_lengths), None)
    if corners is None:
        raise ValueError("its faces have no list of corners")
    num_triangles_R = np.maximum(faces.list_lengths[corners] - 2, 0)
    check_counts(field, 0, int(num_triangles_R.sum()), limits)
    face_F = np.repeat(np.arange(len(faces)), num_triangles_R)
    if not len(face_F):
        return []
    triangles_F3 = _fans(faces, corners, num_triangles_R, face_F)
    lowest, highest = int(triangles_F3.min()), int(triangles_F3.max())
    if lowest < 0:
        raise ValueError(f"face corner {lowest}, the first vertex is 0")
    if highest >= len(vertices):
        raise ValueError(f"face corner {highest}, there are {len(vertices)} vertices")
    xyz_V3 = np.column_stack([vertices.column(axis).astype(np.float64) for axis in "xyz"])
    return [Part(xyz_V3[triangles_F3], _paint(vertices, faces, triangles_F3, face_F))]


def _fans(
    faces: Rows, corners: str, num_triangles_R: NDArray[np.int64], face_F: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The vertices (F,3) of each triangle."""
    kind = faces.kind(corners)
    if kind[0] == "f":
        raise ValueError(f"corners of faces are {np.dtype(kind)}, needed: whole numbers")
    first_F = faces.places(corners)[face_F]
    step_F = np.arange(len(face_F)) - (np.cumsum(num_triangles_R) - num_triangles_R)[face_F]
    size = faces.source.size(kind)
    places = (first_F, first_F + size * (step_F + 1), first_F + size * (step_F + 2))
    return np.column_stack([faces.source.take(kind, each).astype(np.int64) for each in places])


def _paint(vertices: Rows, faces: Rows, triangles_F3: NDArray[np.int64], face_F: NDArray[np.int64]) -> Paint:
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
