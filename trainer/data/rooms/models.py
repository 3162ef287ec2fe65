"""Furniture models as meshes in their canonical frame: metres, z up, front towards -y, standing on z = 0."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms.catalogue import Model, extract
from trainer.data.rooms.shapes import Shape, Soup, merged, refined
from xscene.errors import ExtraMissing, InvalidInput

TEXEL_M = 0.025
# Leaves cut out of a texture need finer triangles.
LEAF_SHARE = 0.5
MIN_ALPHA = 80
MIN_OPACITY = 0.04
MAX_FACES = 9000
# Vertices of a model closer than this are one.
WELD_M = 2e-4
MIN_EXTENT_M = 1e-6
MAX_TEXTURE_PX = 512


@dataclass(frozen=True, kw_only=True)
class BakeLimits:
    """How fine a mesh becomes; more faces look better and render slower."""

    max_faces: int = MAX_FACES
    texel_m: float = TEXEL_M
    """Textured faces are cut until no edge is longer, and take the texture's colour at their corners."""


@dataclass(frozen=True, eq=False)
class _Part:
    soup: Soup
    colors: NDArray[np.uint8]


def bake(archive: Path, model: Model, limits: BakeLimits) -> Shape:
    """A model of an archive as one coloured mesh of the size that its catalogue gives."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(_geometries(extract(archive, model, Path(folder))))
        extent = np.ptp(np.concatenate([_placed(*item) for item in found]), axis=0).max() if found else 0.0
        # Files are in units of their own; the catalogue's size says how long one is.
        texel = limits.texel_m * max(float(extent), MIN_EXTENT_M) / max(model.size_m)
        parts = [_part(*item, texel, limits.max_faces) for item in found]
    kept = [part for part in parts if part is not None and len(part.soup.corners)]
    if not kept:
        raise InvalidInput.at(model.asset_id, "has no visible surface")
    soup = Soup(
        np.concatenate([part.soup.corners for part in kept]),
        np.concatenate([part.soup.normals for part in kept]),
        np.concatenate([part.soup.uv for part in kept]),
    )
    colors = np.concatenate([part.colors for part in kept])
    return _reduced(_canonical(soup, model), colors, limits.max_faces)


def _geometries(path: Path) -> Iterator[tuple[Any, NDArray[np.float64]]]:
    """Each mesh of a file with the matrix (4,4) that places it."""
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise ExtraMissing.named("reading furniture models", "rooms") from error
    with _quiet("trimesh"):
        scene = trimesh.load_scene(path, process=False)
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        if len(scene.geometry[name].faces):
            yield scene.geometry[name], np.asarray(matrix)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back a logger's warnings: a texture that a file names and lacks leaves the plain colour."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _placed(mesh: Any, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    moved: NDArray[np.float64] = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _part(mesh: Any, matrix: NDArray[np.float64], texel: float, max_faces: int) -> _Part | None:
    """One mesh as triangles with the colours of its material; None where the material cannot be seen."""
    material = getattr(mesh.visual, "material", None)
    faces = np.asarray(mesh.faces)
    image = getattr(material, "image", None)
    uv = getattr(mesh.visual, "uv", None)
    corners = _placed(mesh, matrix)
    normals = np.asarray(mesh.vertex_normals, dtype=np.float64) @ matrix[:3, :3].T
    textured = image is not None and uv is not None and len(uv) == len(corners)
    flat = np.zeros((len(corners), 2))
    soup = Soup(corners[faces], normals[faces], np.asarray(uv if textured else flat, dtype=np.float64)[faces])
    if not textured:
        color = np.asarray(getattr(material, "main_color", (180, 180, 180, 255)), dtype=np.uint8)
        if color[3] < MIN_OPACITY * 255:
            return None
        return _Part(soup, np.broadcast_to(color[:3], soup.corners.shape).copy())
    return _painted(soup, image, texel, 4 * max_faces)


def _painted(soup: Soup, image: Any, texel: float, max_triangles: int) -> _Part:
    """Triangles fine enough to carry a texture in their corners, without those where it is transparent."""
    image = image.convert("RGBA")
    image.thumbnail((MAX_TEXTURE_PX, MAX_TEXTURE_PX))
    texels = np.asarray(image)
    has_holes = bool((texels[..., 3] < MIN_ALPHA).any())
    soup = refined(soup, texel * LEAF_SHARE if has_holes else texel, max_triangles=max_triangles)
    colors = _sampled(texels, soup.uv)
    if has_holes:
        seen = _sampled(texels, soup.uv.mean(axis=1, keepdims=True))[:, 0, 3] >= MIN_ALPHA
        soup, colors = soup.take(seen), colors[seen]
    return _Part(soup, colors[..., :3])


def _sampled(texels: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = texels.shape[:2]
    finite = np.nan_to_num(uv)
    columns = np.clip((finite[..., 0] % 1.0 * width).astype(np.int64), 0, width - 1)
    rows = np.clip(((1.0 - finite[..., 1]) % 1.0 * height).astype(np.int64), 0, height - 1)
    found: NDArray[np.uint8] = texels[rows, columns]
    return found


def _canonical(soup: Soup, model: Model) -> Soup:
    """Triangles turned and scaled to the canonical frame and the catalogue's size."""
    corners = soup.corners @ model.rotation.T
    normals = soup.normals @ model.rotation.T
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    extent = np.maximum(high - low, MIN_EXTENT_M)
    scale = np.array([model.width_m, model.height_m, model.depth_m]) / extent
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    corners = (corners - origin) * scale
    normals = normals / scale
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return Soup(corners @ z_up.T, normals @ z_up.T, soup.uv)


def _reduced(soup: Soup, colors: NDArray[np.uint8], max_faces: int) -> Shape:
    """The mesh in cells that grow until it has no more faces than the limit."""
    shape = merged(soup, colors, WELD_M)
    cell_m = 0.004
    while len(shape.faces) > max_faces:
        shape = merged(soup, colors, cell_m)
        cell_m *= 1.3
    return shape
