"""Meshes to points of their surface with colours; the one module that imports trimesh."""

# F faces, S points of a surface

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import trimesh
from numpy.typing import NDArray

from encoders_3d.mesh_headers import Format, check_mesh
from encoders_3d.mesh_limits import MeshLimits, check_counts
from xscene.errors import InvalidInput, LimitExceeded, NotFound, XSceneError
from xscene.geometry.frames import UpAxis, apply, z_up_rotation

SEED = 0
POINTS_PER_VOXEL = 4
MIN_SURFACE_POINTS = 1024
WHITE = 255
RGB = 3

Matrix = NDArray[np.float64]
Bytes = NDArray[np.uint8]
FileReader: TypeAlias = Callable[[str], bytes]


@dataclass(frozen=True, eq=False)
class Paint:
    """Where the colours of a part come from."""

    corner_colors: NDArray[Any] | None = None
    """(F,3,3): a colour for each corner of each face, 0 to 255."""
    uv: Matrix | None = None
    """(F,3,2): where each corner of each face is in the texture."""
    texels: Bytes | None = None
    """(height, width, 3): the texture."""
    factor: Bytes | None = None
    """(3,), one colour, or what a texture is multiplied by."""

    def at(self, faces_S: NDArray[np.int64], weights_S3: Matrix) -> Bytes | None:
        """Colours (S,3) at barycentric places on faces; None where there are none."""
        if self.corner_colors is not None:
            mixed = np.einsum("sc,scd->sd", weights_S3, self.corner_colors[faces_S].astype(np.float64))
            interpolated: Bytes = np.rint(mixed).astype(np.uint8)
            return interpolated
        if self.factor is None:
            return None
        if self.texels is None or self.uv is None:
            return np.broadcast_to(self.factor, (len(faces_S), RGB)).copy()
        uv_S2 = np.einsum("sc,scd->sd", weights_S3, self.uv[faces_S])
        found = _texels_at(self.texels, uv_S2)
        tinted: Bytes = np.rint(found * (self.factor / WHITE)).astype(np.uint8)
        return tinted


@dataclass(frozen=True, eq=False)
class Part:
    """Faces that are painted alike."""

    triangles: Matrix
    """(F,3,3): the corners of each face."""
    paint: Paint


@dataclass(frozen=True, eq=False)
class Surface:
    """The faces of one mesh, in metres with z up, and their areas."""

    parts: Sequence[Part]
    areas: Matrix

    @property
    def area_m2(self) -> float:
        """Of all faces."""
        return float(self.areas.sum())

    def sample(self, num_points: int, seed: int = SEED) -> tuple[NDArray[np.float32], Bytes | None]:
        """Points (S,3) spread evenly over the area, and their colours where every part has some."""
        random = np.random.default_rng(seed)
        bounds = np.cumsum(self.areas)
        # One draw in each of so many equal shares: no patch of a share's size stays empty.
        places = (np.arange(num_points) + random.random(num_points)) * (bounds[-1] / num_points)
        faces = np.minimum(np.searchsorted(bounds, places, side="right"), int(np.flatnonzero(self.areas)[-1]))
        root, along = np.sqrt(random.random(num_points)), random.random(num_points)
        weights_S3 = np.column_stack([1 - root, root * (1 - along), root * along])
        xyz, colors, first = [], [], 0
        for part in self.parts:
            last = first + len(part.triangles)
            begin, end = np.searchsorted(faces, [first, last])
            chosen, weights = faces[begin:end] - first, weights_S3[begin:end]
            xyz.append(np.einsum("sc,scd->sd", weights, part.triangles[chosen]).astype(np.float32))
            if len(chosen):
                colors.append(part.paint.at(chosen, weights))
            first = last
        known = [each for each in colors if each is not None]
        return np.concatenate(xyz), np.concatenate(known) if len(known) == len(colors) else None


def decode_mesh(field: str, data: bytes, limits: MeshLimits, read: FileReader | None = None) -> Surface:
    """The surface of a GLB, PLY or OBJ file whose sizes were checked first.

    An OBJ may name materials and textures only where `read` gives them; NotFound from it means that
    one is not there, and anything else that it raises is raised here.
    """
    kind = check_mesh(field, data, limits, may_name_files=read is not None)
    files = _Files(read)
    with _decoding(field, kind):
        meshes = _placed_meshes(data, kind, files)
    if files.fault is not None:
        raise files.fault
    num_faces = sum(len(mesh.faces) for mesh, _ in meshes)
    if not num_faces:
        raise InvalidInput.at(field, "has no faces")
    # Corners past a face's third make a triangle each, which no header tells.
    check_counts(field, 0, num_faces, limits)
    with _decoding(field, kind):
        parts = [_part(mesh, matrix) for mesh, matrix in meshes]
    for part in parts:
        uv = part.paint.uv
        if not (np.isfinite(part.triangles).all() and (uv is None or np.isfinite(uv).all())):
            raise InvalidInput.at(field, "holds numbers that are not finite")
    areas = np.concatenate([_areas(part.triangles) for part in parts])
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
    except Exception as error:
        # It raises nothing narrower.
        raise InvalidInput.at(field, f"{kind.upper()} that cannot be decoded: {error!s:.120}") from error


def _placed_meshes(data: bytes, kind: Format, files: _Files) -> list[tuple[Any, Matrix]]:
    """Every mesh that is shown and its place; glTF has y up, the others are taken as they are."""
    scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, process=False, resolver=files)
    turn = z_up_rotation(UpAxis.Y if kind == "glb" else UpAxis.Z)
    found = []
    for node in scene.graph.nodes_geometry:
        placed, name = scene.graph[node]
        mesh: Any = scene.geometry[name]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            found.append((mesh, turn @ np.asarray(placed, np.float64)))
    return found


def _part(mesh: Any, matrix: Matrix) -> Part:
    vertices = apply(matrix, np.asarray(mesh.vertices, np.float64))
    return Part(vertices[np.asarray(mesh.faces)], _paint(mesh))


def _paint(mesh: Any) -> Paint:
    """Colours as the file has them; nothing converts between linear and sRGB."""
    visual, faces = mesh.visual, np.asarray(mesh.faces)
    if visual.kind == "vertex":
        return Paint(corner_colors=np.asarray(visual.vertex_colors)[faces][..., :RGB])
    if visual.kind == "face":
        return Paint(corner_colors=np.repeat(np.asarray(visual.face_colors)[:, None, :RGB], 3, axis=1))
    material = getattr(visual, "material", None)
    if visual.kind != "texture" or material is None:
        return Paint()
    if isinstance(material, trimesh.visual.material.SimpleMaterial):
        given, image = material.kwargs.get("kd"), material.image
        # Where the file says nothing, the library makes up a grey and a picture of it.
        image = None if image is None or "file_path" not in image.info else image
        if given is None and image is None:
            return Paint()
    else:
        given, image = material.baseColorFactor, material.baseColorTexture
    factor = np.full(RGB, WHITE, np.uint8) if given is None else np.asarray(material.main_color)[:RGB]
    if image is None or visual.uv is None:
        return Paint(factor=factor)
    uv = np.asarray(visual.uv, np.float64)[faces]
    return Paint(uv=uv, texels=np.asarray(image.convert("RGB")), factor=factor)


def _texels_at(texels: Bytes, uv_S2: Matrix) -> Bytes:
    """The texel at each place; the picture repeats, and its last row lies at v 0."""
    height, width = texels.shape[:2]
    columns = np.minimum((uv_S2[:, 0] % 1.0 * width).astype(np.int64), width - 1)
    rows = np.minimum(((1.0 - uv_S2[:, 1]) % 1.0 * height).astype(np.int64), height - 1)
    found: Bytes = texels[rows, columns]
    return found


def _areas(triangles_F33: Matrix) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        edges = triangles_F33[:, 1:] - triangles_F33[:, :1]
        normals = np.cross(edges[:, 0], edges[:, 1])
        areas: Matrix = np.sqrt(np.square(normals).sum(axis=1)) / 2
    return areas
