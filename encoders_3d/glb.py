"""The surface of a GLB file whose header was checked: the triangles that it shows, and their paint."""

# V vertices, F faces

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders_3d.glb_header import FAN, IMAGE_FORMATS, STRIP, TRIANGLES, chunks, width_of
from encoders_3d.surfaces import RGB, WHITE, Bytes, Matrix, Paint, Part
from xscene.geometry.frames import UpAxis, apply, z_up_rotation
from xscene.pictures import without_notes

_DTYPES: Mapping[int, str] = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"


def glb_parts(data: bytes) -> list[Part]:
    """Every triangle that the file's scene shows, in its place, with z up."""
    tree, binary = chunks(data)
    file = _File(tree, binary)
    turn = z_up_rotation(UpAxis.Y)
    shown: dict[int, list[Part]] = {}
    found = []
    for number, matrix in file.placed():
        if number not in shown:
            shown[number] = list(file.parts(number))
        placed = turn @ matrix
        for part in shown[number]:
            corners = apply(placed, part.triangles.reshape(-1, 3))
            found.append(replace(part, triangles=corners.reshape(-1, 3, 3)))
    return found


class _File:
    """The parts of one file; whatever is not of its type raises one of Python's own errors."""

    def __init__(self, tree: dict[str, Any], binary: bytes) -> None:
        self._tree = tree
        self._binary = binary
        self._pictures: dict[int, Bytes] = {}

    def placed(self) -> Iterator[tuple[int, Matrix]]:
        """Each mesh of the scene and where it is; a file without scenes shows all of its nodes."""
        nodes = self._tree.get("nodes", [])
        waiting = [(root, np.eye(4)) for root in self._roots]
        while waiting:
            number, above = waiting.pop()
            node = nodes[number]
            matrix = above @ _placement(node)
            if "mesh" in node:
                yield node["mesh"], matrix
            waiting += [(child, matrix) for child in node.get("children", ())]

    @cached_property
    def _roots(self) -> list[int]:
        if self._tree.get("scenes"):
            return list(dict.fromkeys(self._at("scenes", self._tree.get("scene", 0)).get("nodes", ())))
        nodes = self._tree.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", ())}
        return [number for number in range(len(nodes)) if number not in children]

    def _at(self, name: str, number: int) -> dict[str, Any]:
        """An entry of one of the lists; what is below 0 is none."""
        if number < 0:
            raise ValueError(f"{name}[{number}] is not there")
        entry: dict[str, Any] = self._tree[name][number]
        return entry

    def parts(self, mesh: int) -> Iterator[Part]:
        """The triangles of a mesh, where it has some."""
        for primitive in self._at("meshes", mesh)["primitives"]:
            mode = primitive.get("mode", TRIANGLES)
            if mode not in (TRIANGLES, STRIP, FAN):
                continue
            vertices_V3 = self._vectors(primitive["attributes"]["POSITION"], 3)
            corners = np.arange(len(vertices_V3))
            if "indices" in primitive:
                corners = self._indices(primitive["indices"], len(vertices_V3))
            faces_F3 = _faces(corners, mode)
            if len(faces_F3):
                yield Part(vertices_V3[faces_F3], self._paint(primitive, faces_F3, len(vertices_V3)))

    def _paint(self, primitive: dict[str, Any], faces_F3: NDArray[np.int64], num_vertices: int) -> Paint:
        """Colours as the file has them; nothing converts between linear and sRGB."""
        attributes, paint = primitive["attributes"], Paint()
        if "COLOR_0" in attributes:
            colors_V3 = self._scaled(attributes["COLOR_0"], num_vertices, least_width=RGB)[:, :RGB]
            paint = replace(paint, corner_colors=_bytes(colors_V3)[faces_F3])
        if "material" not in primitive:
            return paint
        factor, texture = _base_color(self._at("materials", primitive["material"]))
        paint = replace(paint, factor=_bytes(np.array(factor, np.float64)[:RGB]))
        coordinates = f"TEXCOORD_{texture.get('texCoord', 0)}" if texture else ""
        if texture is None or coordinates not in attributes:
            return paint
        uv_V2 = self._scaled(attributes[coordinates], num_vertices, least_width=2)
        # The picture's first row lies at v 0, here its last one does.
        uv_V2 = np.column_stack([uv_V2[:, 0], 1 - uv_V2[:, 1]])
        return replace(paint, uv=uv_V2[faces_F3], texels=self._texels(texture["index"]))

    def _texels(self, texture: int) -> Bytes:
        number = self._at("textures", texture)["source"]
        if number not in self._pictures:
            view = self._at("bufferViews", self._at("images", number)["bufferView"])
            start = view.get("byteOffset", 0)
            content = without_notes(self._binary[start : start + view["byteLength"]])
            with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as picture:
                self._pictures[number] = np.asarray(picture.convert("RGB"))
        return self._pictures[number]

    def _vectors(self, number: int, width: int) -> Matrix:
        values = self._values(number)
        if values.shape[1] != width or values.dtype.kind != "f":
            raise ValueError(f"accessors[{number}] is no vectors of {width} floats")
        return values.astype(np.float64)

    def _scaled(self, number: int, num_vertices: int, *, least_width: int) -> Matrix:
        """Numbers for each vertex; integers stand for 0 to 1."""
        values = self._values(number)
        if len(values) != num_vertices or values.shape[1] < least_width:
            needed = f"shape {list(values.shape)}, there are {num_vertices} vertices"
            raise ValueError(f"accessors[{number}] has {needed}")
        scaled: Matrix = values.astype(np.float64)
        if values.dtype.kind != "f":
            scaled /= np.iinfo(values.dtype).max
        if not np.isfinite(scaled).all():
            raise ValueError(f"accessors[{number}] holds numbers that are not finite")
        return scaled

    def _indices(self, number: int, num_vertices: int) -> NDArray[np.int64]:
        values = self._values(number)
        if values.shape[1] != 1 or values.dtype.kind != "u":
            raise ValueError(f"accessors[{number}] holds no indices")
        indices: NDArray[np.int64] = values[:, 0].astype(np.int64)
        if indices.max(initial=-1) >= num_vertices:
            raise ValueError(f"accessors[{number}] names vertex {indices.max()}, there are {num_vertices}")
        return indices

    def _values(self, number: int) -> NDArray[Any]:
        """An accessor's rows."""
        accessor = self._at("accessors", number)
        view = self._at("bufferViews", accessor["bufferView"])
        dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), width_of(accessor)
        if not accessor["count"]:
            return np.zeros((0, width), dtype)
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        strides = (max(view.get("byteStride", 0), width * dtype.itemsize), dtype.itemsize)
        return np.ndarray((accessor["count"], width), dtype, self._binary, start, strides)


def _base_color(material: dict[str, Any]) -> tuple[list[float], dict[str, Any] | None]:
    """The colour of a material, and the texture that it multiplies."""
    if older := material.get("extensions", {}).get(_SPECULAR):
        return older.get("diffuseFactor", [1.0] * 4), older.get("diffuseTexture")
    base = material.get("pbrMetallicRoughness", {})
    return base.get("baseColorFactor", [1.0] * 4), base.get("baseColorTexture")


def _faces(corners: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """Triangles (F,3) of corners in one of glTF's three orders; which way they face is not looked at."""
    if mode == TRIANGLES:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == STRIP:
        return np.column_stack([corners[:-2], corners[1:-1], corners[2:]])
    return np.column_stack([np.repeat(corners[:1], max(len(corners) - 2, 0)), corners[1:-1], corners[2:]])


def _placement(node: dict[str, Any]) -> Matrix:
    """The matrix of a node, which may come as a shift, a turn and a scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64).reshape(3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    return matrix


def _bytes(shares: Matrix) -> Bytes:
    """Shares from 0 to 1 as bytes; three of each."""
    if shares.shape[-1] != RGB or not np.isfinite(shares).all():
        raise ValueError(f"colour {shares} is not three finite numbers")
    found: Bytes = np.rint(shares.clip(0, 1) * WHITE).astype(np.uint8)
    return found
