"""What the JSON of a GLB file promises, checked against the bytes that are there."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

from encoders_3d.mesh_limits import MeshLimits, check_counts
from xscene.errors import InvalidInput, LimitExceeded
from xscene.pictures import read_header

_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
_VERSION = 2
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
TRIANGLES, STRIP, FAN = 4, 5, 6
# These change neither where a surface is nor how the decoder reads it.
_EXTENSIONS = ("KHR_materials_", "KHR_lights_punctual")


def check_glb(field: str, data: bytes, limits: MeshLimits) -> None:
    """Chunks, buffers, accessors, nodes and pictures fit the file and the limits; nothing lies elsewhere."""
    _check_chunks(field, data, limits)
    try:
        tree, binary = chunks(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.at(field, f"GLB whose JSON cannot be read: {error!s:.120}") from error
    if not isinstance(tree, dict):
        raise InvalidInput.at(field, "GLB whose JSON is no object")
    try:
        _Checked(field, tree, binary, limits).check()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InvalidInput.at(field, f"GLB whose JSON is no glTF: {error!s:.120}") from error


def chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the binary chunk of a file whose chunks were checked."""
    found: dict[bytes, bytes] = {}
    position = _HEADER.size
    while position < len(data):
        size, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        found[kind] = data[position : position + size]
        position += size
    return json.loads(found[b"JSON"].decode()), found.get(b"BIN\0", b"")


def width_of(accessor: dict[str, Any]) -> int:
    """Components of one of its elements."""
    return _COMPONENTS[accessor["type"]]


def _check_chunks(field: str, data: bytes, limits: MeshLimits) -> None:
    """One chunk of JSON, then at most one of each other kind, all as long as they say."""
    if len(data) < _HEADER.size + _CHUNK.size:
        raise InvalidInput.at(field, f"GLB of {len(data)} bytes, its header alone has more")
    _, version, length = _HEADER.unpack_from(data)
    if version != _VERSION or length != len(data):
        raise InvalidInput.at(field, f"GLB version {version} of {length} bytes, got {len(data)} bytes")
    found: set[bytes] = set()
    position = _HEADER.size
    while position < len(data):
        if position + _CHUNK.size > len(data):
            raise InvalidInput.at(field, "GLB chunk is cut off")
        size, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if size > len(data) - position:
            raise InvalidInput.at(field, f"GLB chunk of {size} bytes, {len(data) - position} are left")
        if kind == b"JSON" and size > limits.max_header_bytes:
            raise LimitExceeded.of(field, value=size, limit=limits.max_header_bytes, unit="bytes of JSON")
        if kind in found or (kind == b"JSON") != (not found):
            raise InvalidInput.at(field, "GLB chunks are not one of JSON and one of binary data")
        found.add(kind)
        position += size


class _Checked:
    """The parts of one file; whatever is not of its type raises one of Python's own errors."""

    def __init__(self, field: str, tree: dict[str, Any], binary: bytes, limits: MeshLimits) -> None:
        self._field = field
        self._binary = binary
        self._limits = limits
        self._tree = tree
        names = ("buffers", "bufferViews", "accessors", "images", "meshes", "nodes", "scenes")
        self._lists: dict[str, list[dict[str, Any]]] = {name: list(tree.get(name, ())) for name in names}

    def check(self) -> None:
        """Refuse what does not fit."""
        self._check_extensions()
        self._check_buffers()
        for number, accessor in enumerate(self._lists["accessors"]):
            self._check_accessor(number, accessor)
        self._check_images()
        uses = Counter(self._uses_of_meshes())
        counts = [self._mesh_counts(mesh) for mesh in self._lists["meshes"]]
        num_parts, num_vertices, num_faces = (
            sum(counts[number][k] * times for number, times in uses.items()) for k in range(3)
        )
        self._check_parts("placed primitives", num_parts)
        check_counts(self._field, num_vertices, num_faces, self._limits)

    def _check_parts(self, unit: str, value: int) -> None:
        if value > self._limits.max_mesh_parts:
            raise LimitExceeded.of(self._field, value=value, limit=self._limits.max_mesh_parts, unit=unit)

    def _refuse(self, description: str) -> InvalidInput:
        return InvalidInput.at(self._field, f"GLB {description}")

    def _check_extensions(self) -> None:
        named = {*self._tree.get("extensionsUsed", ()), *self._tree.get("extensionsRequired", ())}
        for name in sorted({*named, *_extensions(self._tree)}):
            if not name.startswith(_EXTENSIONS):
                raise self._refuse(f"uses extension {name[:80]}, which is not offered")

    def _check_buffers(self) -> None:
        for what in ("buffers", "images"):
            for number, each in enumerate(self._lists[what]):
                if "uri" in each:
                    raise self._refuse(f"{what}[{number}] lies outside of its binary chunk")
        for number, buffer in enumerate(self._lists["buffers"]):
            if number or _natural(buffer["byteLength"]) > len(self._binary):
                has = f"the binary chunk has {len(self._binary)} bytes"
                raise self._refuse(f"buffers[{number}] of {buffer['byteLength']} bytes, {has}")
        for number, view in enumerate(self._lists["bufferViews"]):
            end = _natural(view.get("byteOffset", 0)) + _natural(view["byteLength"])
            length = self._lists["buffers"][_natural(view["buffer"])]["byteLength"]
            if end > length:
                raise self._refuse(f"bufferViews[{number}] ends at byte {end}, its buffer has {length}")

    def _check_accessor(self, number: int, accessor: dict[str, Any]) -> None:
        """An accessor without a buffer, or a sparse one, stands for memory that the file does not have."""
        name = f"accessors[{number}]"
        if "sparse" in accessor or "bufferView" not in accessor:
            raise self._refuse(f"{name} is sparse or has no buffer")
        view = self._lists["bufferViews"][_natural(accessor["bufferView"])]
        size = _COMPONENT_BYTES[accessor["componentType"]] * width_of(accessor)
        count = _natural(accessor["count"])
        stride = max(_natural(view.get("byteStride", 0)), size)
        needed = _natural(accessor.get("byteOffset", 0)) + (count - 1) * stride + size if count else 0
        if needed > view["byteLength"]:
            has = f"its view has {view['byteLength']}"
            raise self._refuse(f"{name} of {count} elements needs {needed} bytes, {has}")

    def _check_images(self) -> None:
        self._check_parts("pictures", len(self._lists["images"]))
        num_pixels = 0
        views = [self._lists["bufferViews"][_natural(image["bufferView"])] for image in self._lists["images"]]
        num_bytes = sum(view["byteLength"] for view in views)
        if num_bytes > len(self._binary):
            has = f"the binary chunk has {len(self._binary)}"
            raise self._refuse(f"images have {num_bytes} bytes together, {has}")
        for number, view in enumerate(views):
            start = view.get("byteOffset", 0)
            content = self._binary[start : start + view["byteLength"]]
            try:
                width, height = read_header(f"images[{number}]", content, self._limits.textures).size
            except LimitExceeded as error:
                raise LimitExceeded.at(self._field, f"GLB {error.message}") from error
            except InvalidInput as error:
                raise self._refuse(error.message) from error
            num_pixels += width * height
            if num_pixels > self._limits.max_texture_pixels:
                limit = self._limits.max_texture_pixels
                raise LimitExceeded.of(self._field, value=num_pixels, limit=limit, unit="pixels of textures")

    def _mesh_counts(self, mesh: dict[str, Any]) -> tuple[int, int, int]:
        """Primitives, vertices and faces of one mesh."""
        num_vertices = num_faces = 0
        for primitive in mesh["primitives"]:
            corners = self._count(primitive["attributes"]["POSITION"])
            num_vertices += corners
            if "indices" in primitive:
                corners = self._count(primitive["indices"])
            mode = primitive.get("mode", TRIANGLES)
            num_faces += corners // 3 if mode == TRIANGLES else corners if mode in (STRIP, FAN) else 0
        return len(mesh["primitives"]), num_vertices, num_faces

    def _count(self, accessor: object) -> int:
        return _natural(self._lists["accessors"][_natural(accessor)]["count"])

    def _uses_of_meshes(self) -> list[int]:
        """The mesh of each node that has one; nodes must form trees under the roots of scenes."""
        nodes = self._lists["nodes"]
        self._check_parts("nodes", len(nodes))
        children = [_natural(child) for node in nodes for child in node.get("children", ())]
        roots = [_natural(root) for scene in self._lists["scenes"] for root in scene.get("nodes", ())]
        if len({*children}) < len(children) or {*children} & {*roots}:
            raise self._refuse("nodes are no trees")
        if max([*children, *roots], default=-1) >= len(nodes):
            raise self._refuse(f"names a node past its {len(nodes)}")
        meshes = [_natural(node["mesh"]) for node in nodes if "mesh" in node]
        if max(meshes, default=-1) >= len(self._lists["meshes"]):
            raise self._refuse(f"names a mesh past its {len(self._lists['meshes'])}")
        return meshes


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:80]} is no whole number from 0")
    return value


def _extensions(value: Any) -> Iterator[str]:
    """Names of the extensions that are used anywhere."""
    if isinstance(value, dict):
        yield from value.get("extensions", ())
        for each in value.values():
            yield from _extensions(each)
    elif isinstance(value, list):
        for each in value:
            yield from _extensions(each)
