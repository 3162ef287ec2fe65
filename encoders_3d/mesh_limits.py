"""Sizes past which meshes are refused."""

from __future__ import annotations

from dataclasses import dataclass

from xscene import pictures
from xscene.errors import LimitExceeded
from xscene.ply import header


@dataclass(frozen=True, kw_only=True)
class MeshLimits:
    """Most of everything that a mesh may have; the first is of a request."""

    max_meshes: int
    max_mesh_bytes: int
    max_vertices: int
    max_faces: int
    max_texture_pixels: int
    max_surface_points: int
    max_mesh_parts: int
    """Nodes, placed primitives and pictures, each."""
    max_header_bytes: int
    """Of the JSON of GLB, or of the header of PLY."""
    textures: pictures.Limits
    """Of each picture."""

    @property
    def ply(self) -> header.Limits:
        """Those that the header of a PLY file is held against."""
        return header.Limits(
            max_header_bytes=self.max_header_bytes,
            max_vertices=self.max_vertices,
            max_faces=self.max_faces,
        )


def check_counts(field: str, num_vertices: int, num_faces: int, limits: MeshLimits) -> None:
    """Refuse what has too many vertices or faces."""
    for value, limit, unit in (
        (num_vertices, limits.max_vertices, "vertices"),
        (num_faces, limits.max_faces, "faces"),
    ):
        if value > limit:
            raise LimitExceeded.of(field, value=value, limit=limit, unit=unit)
