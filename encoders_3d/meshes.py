"""Meshes to surfaces in metres with z up; the one module that imports trimesh."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import trimesh

from encoders_3d.glb import glb_parts
from encoders_3d.mesh_headers import Format, check_mesh
from encoders_3d.mesh_limits import MeshLimits, check_counts
from encoders_3d.surfaces import RGB, Paint, Part, Surface, areas_of
from xscene.errors import InvalidInput, LimitExceeded

POINTS_PER_VOXEL = 4
MIN_SURFACE_POINTS = 1024


def decode_mesh(field: str, data: bytes, limits: MeshLimits) -> Surface:
    """The surface of a GLB, PLY or OBJ file whose sizes were checked first."""
    kind = check_mesh(field, data, limits)
    with _decoding(field, kind):
        parts = glb_parts(data) if kind == "glb" else _parts(data, kind)
    num_faces = sum(len(part.triangles) for part in parts)
    if not num_faces:
        raise InvalidInput.at(field, "has no faces")
    # Corners past a face's third make a triangle each, which no header tells.
    check_counts(field, 0, num_faces, limits)
    for part in parts:
        uv = part.paint.uv
        if not (np.isfinite(part.triangles).all() and (uv is None or np.isfinite(uv).all())):
            raise InvalidInput.at(field, "holds numbers that are not finite")
    areas = np.concatenate([areas_of(part.triangles) for part in parts])
    if not np.isfinite(areas.sum()):
        raise InvalidInput.at(field, "is too large for its area to be a number")
    if not areas.sum() > 0:
        raise InvalidInput.at(field, f"has no area in any of its {num_faces} faces")
    return Surface(parts, areas)


def num_scene_points(field: str, surface: Surface, voxel_m: float, limits: MeshLimits) -> int:
    """Points that leave hardly a voxel of the surface out; too many are refused."""
    wanted = POINTS_PER_VOXEL * surface.area_m2 / voxel_m**2
    if wanted > limits.max_surface_points:
        unit = f"points for {surface.area_m2:.6g} m² in voxels of {voxel_m} m"
        raise LimitExceeded.of(field, value=int(wanted), limit=limits.max_surface_points, unit=unit)
    return max(int(wanted), MIN_SURFACE_POINTS)


@contextlib.contextmanager
def _decoding(field: str, kind: Format) -> Iterator[None]:
    """Whatever the library raises on a file is the caller's fault."""
    try:
        yield
    except Exception as error:
        # It raises nothing narrower.
        raise InvalidInput.at(field, f"{kind.upper()} that cannot be decoded: {error!s:.120}") from error


def _parts(data: bytes, kind: Format) -> list[Part]:
    """The meshes of a PLY or OBJ file, which have one place."""
    scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, process=False)
    meshes = [mesh for mesh in scene.geometry.values() if isinstance(mesh, trimesh.Trimesh)]
    return [_part(mesh) for mesh in meshes if len(mesh.faces)]


def _part(mesh: trimesh.Trimesh) -> Part:
    faces = np.asarray(mesh.faces)
    if faces.min() < 0:
        raise ValueError(f"face corner {faces.min()}, the first vertex is 0")
    return Part(np.asarray(mesh.vertices, np.float64)[faces], _paint(mesh))


def _paint(mesh: Any) -> Paint:
    """Colours as the file has them."""
    visual, faces = mesh.visual, np.asarray(mesh.faces)
    if visual.kind == "vertex":
        return Paint(corner_colors=np.asarray(visual.vertex_colors)[faces][..., :RGB])
    if visual.kind == "face":
        return Paint(corner_colors=np.repeat(np.asarray(visual.face_colors)[:, None, :RGB], 3, axis=1))
    return Paint()
