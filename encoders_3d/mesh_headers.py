"""What a mesh file says of its size, checked before anything of it is decoded."""

from __future__ import annotations

import io
import re
from typing import Literal, TypeAlias

from encoders_3d.glb_header import check_glb
from encoders_3d.mesh_limits import MeshLimits, check_counts
from xscene.errors import InvalidInput, LimitExceeded

Format: TypeAlias = Literal["glb", "ply", "obj"]
_PLY_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_PLY_FORMATS = ("ascii 1.0", "binary_little_endian 1.0", "binary_big_endian 1.0")
_PLY_END = re.compile(rb"\nend_header\r?\n")
# A value and what parts it from the next.
_ASCII_BYTES = 2
# As many as a number of 64 bits may have.
_MAX_COUNT_DIGITS = 20
# The first vertex is 1; corners below it count from the end.
_BELOW_ONE = re.compile(rb"[ \t][-0]")
# Other kinds of files that people send, by how they begin.
_KNOWN = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"solid": "STL", b"Kaydara": "FBX"}


def check_mesh(field: str, data: bytes, limits: MeshLimits, *, may_name_files: bool = False) -> Format:
    """The format of a mesh whose header keeps every limit; an OBJ may name others only where that is told."""
    if not data:
        raise InvalidInput.at(field, "is empty")
    if len(data) > limits.max_mesh_bytes:
        raise LimitExceeded.of(field, value=len(data), limit=limits.max_mesh_bytes, unit="bytes")
    if data[:4] == b"glTF":
        check_glb(field, data, limits)
        return "glb"
    if re.match(rb"ply\r?\n", data):
        _check_ply(field, data, limits)
        return "ply"
    if b"\0" not in data and re.search(rb"^v[ \t]", data, re.MULTILINE):
        _check_obj(field, data, limits, may_name_files)
        return "obj"
    found = next((name for magic, name in _KNOWN.items() if data.startswith(magic)), "unknown")
    raise InvalidInput.at(field, f"is none of GLB, PLY, OBJ, but {found}")


def _check_ply(field: str, data: bytes, limits: MeshLimits) -> None:
    """Every element's count fits the bytes that are there."""
    end = _PLY_END.search(data, 0, limits.max_header_bytes)
    if end is None:
        raise InvalidInput.at(field, f"PLY without end_header in its first {limits.max_header_bytes} bytes")
    try:
        lines = data[: end.start()].decode("ascii").splitlines()[1:]
    except UnicodeDecodeError:
        raise InvalidInput.at(field, "PLY header is not ASCII") from None
    elements, ascii_format = _ply_elements(field, lines)
    counts = {name: count for name, count, _ in elements}
    if len(counts) != len(elements):
        raise InvalidInput.at(field, "PLY names an element twice")
    check_counts(field, counts.get("vertex", 0), counts.get("face", 0), limits)
    needed = sum(count * _row_bytes(field, rows, ascii_format) for _, count, rows in elements)
    if needed > len(data) - end.end():
        there = f"has {len(data) - end.end()} bytes behind its header"
        raise InvalidInput.at(field, f"PLY {there}, its elements need {needed}")


def _ply_elements(field: str, lines: list[str]) -> tuple[list[tuple[str, int, list[str]]], bool]:
    """Name, count and properties of each element, and whether its values are text."""
    elements: list[tuple[str, int, list[str]]] = []
    found_format = ""
    for line in lines:
        words = line.split()
        match words:
            case ["format", *rest]:
                found_format = " ".join(rest)
            case ["element", name, count] if count.isdecimal() and len(count) <= _MAX_COUNT_DIGITS:
                elements.append((name, int(count), []))
            case ["property", *rest] if elements and rest:
                elements[-1][2].append(" ".join(rest))
            case ["comment", "TextureFile", *_]:
                raise InvalidInput.at(field, "PLY names a texture file, which is not part of it")
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise InvalidInput.at(field, f"PLY header line {line[:80]!r} is not understood")
    if found_format not in _PLY_FORMATS:
        raise InvalidInput.at(field, f"PLY format {found_format[:80]!r} is none of {', '.join(_PLY_FORMATS)}")
    return elements, found_format.startswith("ascii")


def _row_bytes(field: str, properties: list[str], ascii_format: bool) -> int:
    """The least bytes of one row; an empty list is its count alone."""
    total = 0
    for text in properties:
        words = text.split()
        kind = words[1] if words[0] == "list" and len(words) == 4 else words[0]
        if kind not in _PLY_BYTES or (words[0] != "list" and len(words) != 2):
            raise InvalidInput.at(field, f"PLY property {text[:80]!r} is not understood")
        total += _ASCII_BYTES if ascii_format else _PLY_BYTES[kind]
    return max(total, 1)


def _check_obj(field: str, data: bytes, limits: MeshLimits, may_name_files: bool) -> None:
    """Lines are counted; corners past a face's third make a triangle each."""
    num_vertices = num_faces = 0
    for line in io.BytesIO(data):
        head = line[:7]
        if head.startswith((b"v ", b"v\t")):
            num_vertices += 1
        elif head.startswith((b"f ", b"f\t")):
            num_faces += max(len(line.split()) - 3, 1)
            if _BELOW_ONE.search(line):
                raise InvalidInput.at(field, "OBJ face with a corner below 1, the first vertex")
        elif head.startswith((b"mtllib", b"usemtl")) and not may_name_files:
            raise InvalidInput.at(field, "OBJ names materials of another file; send GLB, or vertex colours")
        if line.endswith((b"\\\n", b"\\\r\n")):
            raise InvalidInput.at(field, "OBJ line that goes on in the next one, which is not offered")
        check_counts(field, num_vertices, num_faces, limits)
