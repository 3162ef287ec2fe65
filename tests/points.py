"""Bundles, requests and files of meshes for tests of the points encoder."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

from deploy.bundles import PRESETS, Preset, PresetName, _objects, _points, init_bundle
from encoders_3d.mesh_limits import MeshLimits
from encoders_3d.model import PointsFactory, PointsModel, Setup
from encoders_3d.prepare import CloudLimits, ObjectLimits
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.torch_engine import TorchEngine
from xscene import pictures

SMALL = PRESETS[PresetName.SMALL]
CPU = torch.device("cpu")
SECTIONS = {"points": _points, "objects": _objects}
CLOUDS = CloudLimits(max_clouds=4, max_points=20_000, max_voxels=5000, max_extent_voxels=1000)
OBJECTS = ObjectLimits(max_objects=4, max_points=20_000, min_object_points=32)
MESHES = MeshLimits(
    max_meshes=4,
    max_mesh_bytes=1 << 20,
    max_vertices=3000,
    max_faces=3000,
    max_texture_pixels=1 << 16,
    max_surface_points=100_000,
    max_mesh_parts=1 << 14,
    max_header_bytes=4 << 20,
    textures=pictures.Limits(
        max_image_bytes=1 << 20,
        max_image_pixels=1 << 16,
        min_image_side=1,
        max_jpeg_scans=16,
        max_image_parts=64,
    ),
)


def setup(engine: Engine | None = None, device: torch.device = CPU) -> Setup:
    return Setup(
        engine=engine or TorchEngine(),
        device=device,
        clouds=CLOUDS,
        objects=OBJECTS,
        meshes=MESHES,
        max_batch_voxels=50_000,
        max_batch_objects=4,
    )


def write_points_bundle(directory: Path, *sections: str, seed: int = 0, preset: Preset = SMALL) -> Path:
    """An untrained bundle of these sections, else of both."""
    wanted = {name: SECTIONS[name] for name in sections or SECTIONS}
    return init_bundle(preset, directory, name=directory.name, seed=seed, initialisers=wanted).directory


def without_presence(preset: Preset = SMALL) -> Preset:
    """The preset whose network of clouds has colours alone; its other sizes are not looked at."""
    return replace(preset, name=PresetName.CROSSOVER.value)


def load(directory: Path, name: str, engine: Engine | None = None) -> PointsModel:
    model = PointsFactory(setup(engine)).load(name, directory)
    assert isinstance(model, PointsModel)
    return model


def run(model: PointsModel, inputs: dict[str, np.ndarray], *outputs: str) -> dict[str, np.ndarray]:
    """One request through all phases, alone."""
    wanted = frozenset(outputs or [spec.name for spec in model.outputs])
    job = model.prepare(inputs, wanted)
    return dict(model.finish(job, model.forward(job.items)))


def room(num_points: int, seed: int = 0, size_m: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Points of floor and walls with a smooth colour."""
    random = np.random.default_rng(seed)
    xyz = random.uniform(0, size_m, (num_points, 3))
    xyz[np.arange(num_points), random.integers(0, 3, num_points)] = 0.0
    colors = (xyz / size_m * 255).astype(np.uint8)
    return xyz.astype(np.float32), colors


def blob(num_points: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(num_points, 3)) * (0.3, 0.5, 1.0) + (5, -2, 1)).astype(np.float32)


def exported(mesh: trimesh.Trimesh | trimesh.Scene, kind: str) -> bytes:
    data = mesh.export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


def box(size: tuple[float, float, float] = (1.0, 2.0, 0.5), **named: object) -> trimesh.Trimesh:
    return trimesh.creation.box(size, **named)


def painted_box() -> trimesh.Trimesh:
    """Red where x is high, blue where it is low."""
    mesh = box()
    high = mesh.vertices[:, 0] > 0
    mesh.visual.vertex_colors = np.where(high[:, None], (255, 0, 0, 255), (0, 0, 255, 255)).astype(np.uint8)
    return mesh


def textured_square(pixels: np.ndarray) -> trimesh.Trimesh:
    """A square metre in the plane z = 0 whose texture lies over it, its first row at the far end."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    material = PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    visual = trimesh.visual.TextureVisuals(uv=corners[:, :2], material=material)
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


def glb(tree: dict[str, object] | bytes, binary: bytes = b"") -> bytes:
    """A GLB of this JSON and this binary chunk."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        binary += b"\0" * (-len(binary) % 4)
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def tree_of(data: bytes) -> tuple[dict[str, object], bytes]:
    """The JSON and the binary chunk of a GLB."""
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[20 + size + 8 :]


def png(width: int, height: int) -> bytes:
    """A picture of one colour, which packs into next to nothing."""
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
COMPONENT_TYPES = {
    "int8": 5120,
    "uint8": 5121,
    "int16": 5122,
    "uint16": 5123,
    "uint32": 5125,
    "float32": 5126,
}


def glb_of(*arrays: np.ndarray, picture: bytes = b"", **tree: object) -> bytes:
    """A GLB of a triangle; further arrays become accessors 1, 2, and so on, a picture the last view."""
    blobs = [each.tobytes() for each in (TRIANGLE, *arrays)] + [picture]
    starts = [sum(len(each) for each in blobs[:number]) for number in range(len(blobs))]
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(each)}
        for start, each in zip(starts, blobs, strict=True)
    ]
    accessors = [
        {
            "bufferView": number,
            "componentType": COMPONENT_TYPES[each.dtype.name],
            "normalized": each.dtype.kind != "f",
            "count": len(each),
            "type": "SCALAR" if each.ndim == 1 else f"VEC{each.shape[1]}",
        }
        for number, each in enumerate((TRIANGLE, *arrays))
    ]
    whole = {
        "buffers": [{"byteLength": sum(map(len, blobs))}],
        "bufferViews": views,
        "accessors": accessors,
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    }
    return glb(whole | tree, b"".join(blobs))


def one_mesh(**primitive: object) -> list[object]:
    """A mesh of one primitive."""
    attributes = {"POSITION": 0, **primitive.pop("attributes", {})}
    return [{"primitives": [{"attributes": attributes, **primitive}]}]
