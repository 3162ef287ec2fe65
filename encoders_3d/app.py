"""The points encoder as a process: settings, start and stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from encoders_3d.mesh_limits import MeshLimits
from encoders_3d.model import PointsFactory, Setup
from encoders_3d.prepare import CloudLimits, ObjectLimits
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.engines import select_engine
from encoders_3d.sparse.native_library import DEFAULT_CACHE_DIR
from xscene import pictures
from xscene.errors import SettingsInvalid, XSceneError
from xscene.nn.devices import AUTO, torch_device
from xscene.services import SERVICES
from xscene.serving import server
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.settings import setting

NAME = "points"
# Engines that can compute on CUDA; the others keep an automatic choice of device on the CPU.
ON_CUDA = ("auto", "torch")


@dataclass(frozen=True, kw_only=True)
class Settings(EncoderSettings):
    """Points encoder: clouds, meshes and objects to embeddings of scenes and objects."""

    port: int = setting(SERVICES[NAME].port, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    device: str = setting(AUTO, "cpu, cuda or cuda:1; auto takes cuda where there is one.")
    engine: str = setting(AUTO, "Sparse convolution by torch, native or minkowski; auto: native, else torch.")
    native_dir: Path | None = setting(
        None,
        "Directory of the native engine; without it, the one that `encoders_3d.sparse build` fills.",
    )
    max_clouds: int = setting(64, "Clouds of one request.", low=1)
    max_points: int = setting(4 << 20, "Points of one request, or voxels by what its clouds cost.", low=1)
    max_voxels: int = setting(1 << 20, "Voxels of one cloud; those far apart count for more.", low=1)
    max_extent_voxels: int = setting(
        1 << 14, "Voxels that one cloud may span along an axis.", low=1, high=1 << 16
    )
    max_objects: int = setting(256, "Objects of one request.", low=1)
    min_object_points: int = setting(32, "Points that an object needs.", low=2)
    max_meshes: int = setting(16, "Meshes of one request.", low=1)
    max_mesh_bytes: int = setting(32 << 20, "Bytes of one mesh.", low=1)
    max_vertices: int = setting(2 << 20, "Vertices of one mesh, instances counted.", low=3)
    max_faces: int = setting(2 << 20, "Faces of one mesh, instances counted.", low=1)
    max_mesh_parts: int = setting(1 << 14, "Nodes, placed primitives or pictures of one GLB.", low=1)
    max_mesh_header_bytes: int = setting(
        4 << 20, "Bytes of the JSON of one GLB, or of the header of one PLY.", low=1024
    )
    max_texture_pixels: int = setting(16 << 20, "Pixels of the textures of one mesh.", low=1)
    max_texture_parts: int = setting(
        1024, "Segments in front of a JPEG's pixels, or chunks of a PNG besides its pixels.", low=16
    )
    max_jpeg_scans: int = setting(64, "Scans of a progressive JPEG.", low=1)
    max_surface_points: int = setting(2 << 20, "Points that the surface of one mesh may need.", low=1024)
    max_batch_voxels: int = setting(200_000, "Voxels that are computed together.", low=1)
    max_batch_objects: int = setting(8, "Objects that are computed together.", low=1)


def make(given: Settings) -> EncoderService:
    """The service with these settings."""
    return EncoderService(NAME, given, make_factory(given))


def make_factory(given: Settings) -> PointsFactory:
    """What loads the models of the service with these settings."""
    torch.set_num_threads(given.num_threads)
    offered = ("cpu", "cuda") if given.engine in ON_CUDA else ("cpu",)
    device = torch_device(given.device, offered=offered)
    setup = Setup(
        engine=_engine(given, device),
        device=device,
        clouds=CloudLimits(
            max_clouds=given.max_clouds,
            max_points=given.max_points,
            max_voxels=given.max_voxels,
            max_extent_voxels=given.max_extent_voxels,
        ),
        objects=ObjectLimits(
            max_objects=given.max_objects,
            max_points=given.max_points,
            min_object_points=given.min_object_points,
        ),
        meshes=_mesh_limits(given),
        max_batch_voxels=given.max_batch_voxels,
        max_batch_objects=given.max_batch_objects,
    )
    return PointsFactory(setup)


def _mesh_limits(given: Settings) -> MeshLimits:
    return MeshLimits(
        max_meshes=given.max_meshes,
        max_mesh_bytes=given.max_mesh_bytes,
        max_vertices=given.max_vertices,
        max_faces=given.max_faces,
        max_texture_pixels=given.max_texture_pixels,
        max_surface_points=given.max_surface_points,
        max_mesh_parts=given.max_mesh_parts,
        max_header_bytes=given.max_mesh_header_bytes,
        textures=pictures.Limits(
            max_image_bytes=given.max_mesh_bytes,
            max_image_pixels=given.max_texture_pixels,
            min_image_side=1,
            max_jpeg_scans=given.max_jpeg_scans,
            max_image_parts=given.max_texture_parts,
        ),
    )


def _engine(given: Settings, device: torch.device) -> Engine:
    """The engine; what it does not offer, or is not installed, is refused by name."""
    try:
        return select_engine(given.engine, device=device, cache_dir=given.native_dir or DEFAULT_CACHE_DIR)
    except XSceneError as error:
        raise SettingsInvalid(f"engine: {error.message}") from error


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve with the settings of the process; its exit code."""
    return server.run(NAME, Settings, make, argv, environ)
