"""CAD models: points on their surface with their colours, spread out, in the models' own frames.

Shapes: F faces, K points.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders_3d.mesh_limits import MeshLimits
from encoders_3d.meshes import decode_mesh
from encoders_3d.surfaces import Surface
from trainer.data.preparation.settings import Settings
from trainer.data.readers.files import picture_size, read_bytes
from xscene import pictures
from xscene.errors import InvalidInput
from xscene.geometry.selection import farthest_point_sample

MODEL_LIMITS = MeshLimits(
    max_meshes=1,
    max_mesh_bytes=256 << 20,
    max_vertices=4_000_000,
    max_faces=8_000_000,
    max_texture_pixels=64 << 20,
    max_surface_points=1_000_000,
    max_mesh_parts=1 << 16,
    max_header_bytes=16 << 20,
    textures=pictures.Limits(
        max_image_bytes=256 << 20,
        max_image_pixels=64 << 20,
        min_image_side=1,
        max_jpeg_scans=64,
        max_image_parts=4096,
    ),
)
MATERIALS = ".mtl"


def read_model(path: Path, limits: MeshLimits = MODEL_LIMITS) -> Surface:
    """The surface of a GLB, PLY or OBJ file, with materials and textures that lie beside an OBJ."""

    def beside(name: str) -> bytes:
        file = Path(os.path.normpath(path.parent / name.replace("\\", "/")))
        # Some data sets keep textures in a folder beside that of the model.
        if not file.is_relative_to(path.parent.parent):
            raise InvalidInput.at(path.name, f"{name[:80]!r} lies elsewhere than the model")
        data = read_bytes(file, max_bytes=limits.max_mesh_bytes)
        if file.suffix.lower() != MATERIALS:
            picture_size(data, file.name, max_pixels=limits.max_texture_pixels)
        return data

    return decode_mesh(path.name, read_bytes(path, max_bytes=limits.max_mesh_bytes), limits, beside)


@dataclass(frozen=True, eq=False)
class ModelPoints:
    """Points (K,3) that stand for a model, and their colours (K,3) where it has some."""

    xyz: NDArray[np.float32]
    colors: NDArray[np.uint8] | None


def surface_points(surface: Surface, model_id: str, settings: Settings) -> ModelPoints:
    """The points that stand for a model; the same for a model in every scene."""
    xyz, colors = surface.sample(settings.num_surface_points, settings.stream("cad", model_id))
    kept = farthest_point_sample(xyz, settings.num_cad_points, start=0)
    return ModelPoints(xyz[kept].astype(np.float32), None if colors is None else colors[kept])
