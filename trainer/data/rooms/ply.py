"""Binary PLY files of triangle meshes with coloured vertices, written and read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput

POSITION = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
COLOR = [("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
LABEL = [("label", "<u2")]
FACE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])
NAMES = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}
MAX_HEADER_BYTES = 4096


@dataclass(frozen=True, eq=False)
class PlyMesh:
    """Vertices (V,3), colours (V,3), faces (F,3), and labels (V,) where the file has them."""

    vertices: NDArray[np.float32]
    colors: NDArray[np.uint8]
    faces: NDArray[np.int32]
    labels: NDArray[np.uint16] | None = None


def write_ply(path: Path, mesh: PlyMesh) -> None:
    """Write a mesh as ScanNet does."""
    path.write_bytes(ply_bytes(mesh))


def ply_bytes(mesh: PlyMesh) -> bytes:
    """A mesh as ScanNet stores it: little-endian, opaque colours, labels last."""
    fields = [*POSITION, *COLOR, *(LABEL if mesh.labels is not None else [])]
    rows = np.empty(len(mesh.vertices), dtype=fields)
    for at, (name, _) in enumerate(POSITION):
        rows[name] = mesh.vertices[:, at]
    for at, (name, _) in enumerate(COLOR[:3]):
        rows[name] = mesh.colors[:, at]
    rows["alpha"] = 255
    if mesh.labels is not None:
        rows["label"] = mesh.labels
    faces = np.empty(len(mesh.faces), dtype=FACE)
    faces["count"], faces["vertices"] = 3, mesh.faces
    header = _header(fields, len(rows), len(faces))
    return header.encode() + rows.tobytes() + faces.tobytes()


def _header(fields: list[tuple[str, str]], num_vertices: int, num_faces: int) -> str:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {num_vertices}"]
    lines += [f"property {NAMES[kind]} {name}" for name, kind in fields]
    lines += [f"element face {num_faces}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines)


def read_ply(path: Path) -> PlyMesh:
    """Read a mesh that `write_ply` wrote."""
    data = path.read_bytes()
    end = data.find(b"end_header\n", 0, MAX_HEADER_BYTES)
    lines = data[: max(end, 0)].decode("ascii", errors="replace").splitlines()
    counts = [int(line.split()[2]) for line in lines if line.startswith("element ")]
    fields = [*POSITION, *COLOR, *(LABEL if "property ushort label" in lines else [])]
    if len(counts) != 2 or lines != _header(fields, *counts).splitlines()[:-1]:
        raise InvalidInput.at(path.name, "is no mesh of this project's layout")
    row = np.dtype(fields)
    start = end + len(b"end_header\n")
    if len(data) != start + counts[0] * row.itemsize + counts[1] * FACE.itemsize:
        raise InvalidInput.at(path.name, f"{len(data)} bytes do not fit its {counts[0]} vertices")
    rows = np.frombuffer(data, dtype=row, count=counts[0], offset=start)
    faces = np.frombuffer(data, dtype=FACE, count=counts[1], offset=start + counts[0] * row.itemsize)
    return PlyMesh(
        np.stack([rows[name] for name in "xyz"], axis=1),
        np.stack([rows[name] for name in ("red", "green", "blue")], axis=1),
        faces["vertices"].copy(),
        rows["label"].copy() if "label" in (row.names or ()) else None,
    )
