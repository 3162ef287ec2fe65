"""CAD models: points on their surface, drawn by area and spread out, in the models' own frames.

Shapes: V vertices, F faces, K points.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.data.preparation.settings import Settings
from trainer.data.readers.ply import read_ply
from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix
from xscene.geometry.selection import farthest_point_sample


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices (V,3) in metres and triangles (F,3)."""

    vertices: Matrix
    faces: NDArray[np.int32]


MeshReader: TypeAlias = Callable[[Path], Mesh]


def read_ply_model(path: Path) -> Mesh:
    """Vertices and triangles of a PLY file."""
    file = read_ply(path)
    faces = np.zeros((0, 3), dtype=np.int32) if file.faces is None else file.faces
    return Mesh(file.positions().astype(np.float64), faces)


def read_obj_model(path: Path) -> Mesh:
    """Vertices and faces of a Wavefront file; faces of more than three corners are cut into fans."""
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        kind, _, rest = line.strip().partition(" ")
        try:
            if kind == "v":
                vertices.append([float(word) for word in rest.split()[:3]])
            elif kind == "f":
                corners = [_corner(word, len(vertices)) for word in rest.split()]
                faces += [(corners[0], *pair) for pair in itertools.pairwise(corners[1:])]
        except ValueError as error:
            raise InvalidInput.at(path.name, f"line {number}: {error}") from error
    try:
        return Mesh(np.array(vertices, dtype=np.float64).reshape(-1, 3), np.array(faces, dtype=np.int32))
    except ValueError as error:
        raise InvalidInput.at(path.name, "has vertices of fewer than three numbers") from error


def _corner(word: str, num_vertices: int) -> int:
    """A vertex counted from 0; the file counts from 1, or back from the last."""
    at = int(word.partition("/")[0])
    return at - 1 if at > 0 else num_vertices + at


READERS: Mapping[str, MeshReader] = {".ply": read_ply_model, ".obj": read_obj_model}


def read_model(path: Path) -> Mesh:
    """The mesh of a file, by what its name ends in."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput.at(path.name, f"a model needs to be one of {', '.join(READERS)}")
    if not path.is_file():
        raise InvalidInput.at(path.name, "there is no such file")
    mesh = reader(path)
    _require_mesh(mesh, path.name)
    return mesh


def _require_mesh(mesh: Mesh, where: str) -> None:
    if not len(mesh.faces):
        raise InvalidInput.at(where, "has no faces, so it has no surface")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        raise InvalidInput.at(where, f"faces name vertices {low} to {high} of {len(mesh.vertices)}")
    if not np.isfinite(mesh.vertices).all():
        raise InvalidInput.at(where, "has vertices that are not finite")


def areas(mesh: Mesh) -> Matrix:
    """Area (F,) of each face."""
    first, second, third = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    found: Matrix = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    return found


def sample_surface(mesh: Mesh, count: int, generator: np.random.Generator) -> Matrix:
    """Points (K,3) anywhere on the surface, each part of it as likely as any other of its area."""
    area = areas(mesh)
    if not area.sum() > 0:
        raise InvalidInput.at("mesh", "its faces have no area")
    ends = np.cumsum(area)
    face = np.searchsorted(ends, generator.random(count) * ends[-1], side="right").clip(0, len(area) - 1)
    # The square root spreads points evenly over a triangle instead of towards its first corner.
    along = np.sqrt(generator.random((count, 1)))
    across = generator.random((count, 1))
    first, second, third = (mesh.vertices[mesh.faces[face, corner]] for corner in range(3))
    points: Matrix = (1 - along) * first + along * ((1 - across) * second + across * third)
    return points


def surface_points(mesh: Mesh, model_id: str, settings: Settings) -> NDArray[np.float32]:
    """The points (K,3) that stand for a model; the same for a model in every scene."""
    drawn = sample_surface(mesh, settings.num_surface_points, settings.generator("cad", model_id))
    kept = farthest_point_sample(drawn, settings.num_cad_points, start=0)
    return drawn[kept].astype(np.float32)
