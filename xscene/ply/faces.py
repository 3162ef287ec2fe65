"""Faces of any corners as triangles, counted before any is made."""

# R faces of the file, F triangles

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import LimitExceeded
from xscene.ply.header import Limits
from xscene.ply.rows import Rows

CORNERS = ("vertex_indices", "vertex_index")


def triangles_of(
    field: str, faces: Rows, corners: str, num_vertices: int, limits: Limits
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The vertices (F,3) of triangles, and the face (F,) of each; a face is a fan from its first corner."""
    num_triangles_R = np.maximum(faces.list_lengths[corners] - 2, 0)
    if (total := int(num_triangles_R.sum())) > limits.max_faces:
        raise LimitExceeded.of(field, value=total, limit=limits.max_faces, unit="faces")
    kind = faces.kind(corners)
    if kind[0] == "f":
        raise ValueError(f"corners of faces are {np.dtype(kind)}, needed: whole numbers")
    face_F = np.repeat(np.arange(len(faces)), num_triangles_R)
    places_F = faces.places(corners)[face_F]
    triangles_F3 = np.empty((total, 3), kind)
    triangles_F3[:, 0] = faces.source.take(kind, places_F)
    size = faces.source.size(kind)
    places_F += size * (np.arange(total) - (np.cumsum(num_triangles_R) - num_triangles_R)[face_F])
    for corner in (1, 2):
        places_F += size
        triangles_F3[:, corner] = faces.source.take(kind, places_F)
    lowest, highest = (int(triangles_F3.min()), int(triangles_F3.max())) if total else (0, -1)
    if lowest < 0:
        raise ValueError(f"face corner {lowest}, the first vertex is 0")
    if highest >= num_vertices:
        raise ValueError(f"face corner {highest}, there are {num_vertices} vertices")
    return triangles_F3, face_F
