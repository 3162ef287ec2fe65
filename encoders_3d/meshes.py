"""Meshes to surfaces in metres with z up; the one module that imports trimesh."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import trimesh

from encoders_3d.glb import glb_parts
from encoders_3d.mesh_headers import Format, check_mesh
from encoders_3d.mesh_limits import MeshLimits, check_counts
from encoders_3d.ply import ply_parts
from encoders_3d.surfaces import RGB, WHITE, Paint, Part, Surface, areas_of, color_bytes
from xscene.errors import InvalidInput, LimitExceeded, NotFound, XSceneError

POINTS_PER_VOXEL = 4
MIN_SURFACE_POINTS = 1024

FileReader: TypeAlias = Callable[[str], bytes]


def decode_mesh(field: str, data: bytes, limits: MeshLimits, read: FileReader | None = None) -> Surface:
    """The surface of a GLB, PLY or OBJ file whose sizes were checked first.

    An OBJ may name materials and textures only where `read` gives them; NotFound from it means that
    one is not there, and anything else that it raises is raised here.
    """
    kind = check_mesh(field, data, limits, may_name_files=read is not None)
    files = _Files(read)
    with _decoding(field, kind):
        match kind:
            case "glb":
                parts = glb_parts(data)
            case "ply":
                parts = ply_parts(field, data, limits)
            case "obj":
                parts = _obj_parts(data, files)
    if files.fault is not None:
        raise files.fault
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


class _Files(trimesh.resolvers.Resolver):
    """Files that a mesh names; the library passes over what goes wrong with them, so it is kept here."""

    def __init__(self, read: FileReader | None) -> None:
        self._read = read
        self.fault: XSceneError | None = None

    def get(self, key: str) -> bytes:
        """The bytes of a file."""
        if self._read is None:
            raise FileNotFoundError(key)
        try:
            return self._read(key)
        except NotFound:
            raise FileNotFoundError(key) from None
        except XSceneError as error:
            self.fault = self.fault or error
            raise

    def keys(self) -> tuple[str, ...]:
        """Nothing is known of names that were not asked for."""
        return ()

    def write(self, name: str, data: object) -> None:
        """Nothing is written."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> _Files:
        """There are no folders."""
        return self


@contextlib.contextmanager
def _decoding(field: str, kind: Format) -> Iterator[None]:
    """Whatever the library raises on a file is the caller's fault."""
    try:
        yield
    except LimitExceeded:
        raise
    except Exception as error:
        # It raises nothing narrower.
        raise InvalidInput.at(field, f"{kind.upper()} that cannot be decoded: {error!s:.120}") from error


def _obj_parts(data: bytes, files: _Files) -> list[Part]:
    """The meshes of an OBJ file, which have one place."""
    found = trimesh.exchange.obj.load_obj(io.BytesIO(data), resolver=files).get("geometry", {})
    return [_part(mesh) for mesh in found.values() if len(mesh["faces"])]


def _part(given: dict[str, Any]) -> Part:
    if given.get("vertex_colors") is not None:
        given = {**given, "vertex_colors": color_bytes(given["vertex_colors"])}
    if given["vertices"].shape[1] != 3:
        raise ValueError(f"vertices of {given['vertices'].shape[1]} numbers, needed: 3")
    mesh = trimesh.Trimesh(**given, process=False)
    faces = np.asarray(mesh.faces)
    if faces.min() < 0:
        raise ValueError(f"face corner {faces.min()}, the first vertex is 0")
    return Part(np.asarray(mesh.vertices, np.float64)[faces], _paint(mesh))


def _paint(mesh: Any) -> Paint:
    """Colours as the file has them."""
    visual, faces = mesh.visual, np.asarray(mesh.faces)
    if visual.kind == "vertex":
        return Paint(corner_colors=np.asarray(visual.vertex_colors)[faces][..., :RGB])
    material = getattr(visual, "material", None)
    if visual.kind != "texture" or not isinstance(material, trimesh.visual.material.SimpleMaterial):
        return Paint()
    given, image = material.kwargs.get("kd"), material.image
    # Where the file says nothing, the library makes up a grey and a picture of it.
    image = None if image is None or "file_path" not in image.info else image
    if given is None and image is None:
        return Paint()
    factor = np.full(RGB, WHITE, np.uint8) if given is None else np.asarray(material.main_color)[:RGB]
    if image is None or visual.uv is None:
        return Paint(factor=factor)
    uv = np.asarray(visual.uv, np.float64)[faces]
    return Paint(uv=uv, texels=np.asarray(image.convert("RGB")), factor=factor)
