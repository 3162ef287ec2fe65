"""What a mesh file says of its size, checked before anything of it is decoded."""

from __future__ import annotations

import io
import re
from typing import Literal, TypeAlias

from encoders_3d.glb_header import check_glb
from encoders_3d.mesh_limits import MeshLimits, check_counts
from xscene.errors import InvalidInput, LimitExceeded
from xscene.ply.header import ply_header

Format: TypeAlias = Literal["glb", "ply", "obj"]
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
        if ply_header(field, data, limits.ply).names_texture:
            raise InvalidInput.at(field, "PLY names a texture file, which is not part of it")
        return "ply"
    if b"\0" not in data and re.search(rb"^v[ \t]", data, re.MULTILINE):
        _check_obj(field, data, limits, may_name_files)
        return "obj"
    found = next((name for magic, name in _KNOWN.items() if data.startswith(magic)), "unknown")
    raise InvalidInput.at(field, f"is none of GLB, PLY, OBJ, but {found}")


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
