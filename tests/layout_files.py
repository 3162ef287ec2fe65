"""Files that fixtures of data sets are made of: PLY, pictures, depth, JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TYPES = {"f4": "float", "u1": "uchar", "u2": "ushort", "i4": "int", "i2": "short"}
Columns = Mapping[str, NDArray[Any]]


def ply(vertex: Columns, faces: NDArray[Any], face: Columns, *, ascii_text: bool = False) -> bytes:
    """A PLY file; columns keep their types."""
    lines = ["ply", f"format {'ascii' if ascii_text else 'binary_little_endian'} 1.0"]
    lines += [f"element vertex {len(next(iter(vertex.values())))}"]
    lines += [f"property {TYPES[column.dtype.str[1:]]} {name}" for name, column in vertex.items()]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    lines += [f"property {TYPES[column.dtype.str[1:]]} {name}" for name, column in face.items()]
    corners = {f"corner{at}": faces[:, at].astype("<i4") for at in range(3)}
    counts = np.full(len(faces), 3, dtype=np.uint8)
    rows = [table(vertex), table({"count": counts, **corners, **face})]
    header = "\n".join([*lines, "end_header", ""]).encode()
    if not ascii_text:
        return header + b"".join(one.tobytes() for one in rows)
    return header + "".join(" ".join(map(str, row)) + "\n" for one in rows for row in one.tolist()).encode()


def table(columns: Columns) -> NDArray[Any]:
    fields = [(name, column.dtype.newbyteorder("<")) for name, column in columns.items()]
    rows = np.empty(len(next(iter(columns.values()))), dtype=fields)
    for name, column in columns.items():
        rows[name] = column
    return rows


def xyz(points: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Columns of coordinates."""
    return {axis: points[:, at].astype("f4") for at, axis in enumerate("xyz")}


def rgb(colors: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Columns of colours."""
    return {name: colors[:, at].astype("u1") for at, name in enumerate(("red", "green", "blue"))}


def picture(width: int, height: int, kind: str, color: tuple[int, int, int] = (90, 120, 150)) -> bytes:
    """A picture of one colour."""
    return encoded(Image.new("RGB", (width, height), color), kind)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def png16(values: NDArray[Any]) -> bytes:
    """A PNG of 16 bits and one channel."""
    return encoded(Image.fromarray(values.astype(np.uint16)), "PNG")


def pgm16(values: NDArray[Any], most: int = 65535) -> bytes:
    """A PGM of 16 bits, the most significant byte first."""
    height, width = values.shape
    return f"P5\n{width} {height}\n{most}\n".encode() + values.astype(">u2").tobytes()


def millimetres(depth: NDArray[Any]) -> NDArray[Any]:
    """Depth in metres as whole millimetres."""
    return np.rint(depth * 1000).astype(np.uint16)


def matrix_text(matrix: NDArray[Any]) -> str:
    """A matrix row after row."""
    return "\n".join(" ".join(f"{number:.9f}" for number in row) for row in matrix) + "\n"


def column_major(matrix: NDArray[Any]) -> list[float]:
    """A matrix column after column."""
    return [float(number) for number in np.asarray(matrix, dtype=np.float64).T.reshape(-1)]


def shifted(x: float, y: float, z: float) -> NDArray[np.float64]:
    """A shift (4,4)."""
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def turned(degrees: float) -> NDArray[np.float64]:
    """A turn about z (4,4)."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
    return matrix


def write(path: Path, data: bytes | str | list[Any] | dict[str, Any]) -> Path:
    """A file and the folders above it; what is neither bytes nor text is written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def label_table() -> str:
    """ScanNet's table of labels, of a few labels."""
    rows = [(1, "wall", "wall", 1), (3, "floor", "floor", 2), (7, "cabinet", "cabinet", 3)]
    rows += [(11, "tv", "tv", 25), (12, "wall cabinet", "cabinet", 3), (13, "washing machine", "washer", 39)]
    lines = ["\t".join(map(str, row)) for row in rows]
    return "\n".join(["id\traw_category\tcategory\tnyu40id", *lines, ""])
