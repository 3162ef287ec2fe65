"""Coloured triangle meshes: moving, joining, refining, merging by cells, and what can stand on them.

Shapes: V vertices, F faces, T triangles, C corners of a box or a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscene.geometry.frames import Matrix

MAX_REFINEMENTS = 10
# Of a triangle seen from above, in cells: below this it stands upright.
FLAT_AREA = 1e-6
EDGE = 1e-6
# Three of them make one key of 63 bits.
CORNER_BITS = 21
# Sides of a cuboid, counter-clockwise from outside, over corners with x slowest and z fastest.
SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))

Color = tuple[int, int, int]


class Surface(IntEnum):
    """How a surface is painted; all but plain and bright add a pattern to the colour."""

    PLAIN = 0
    PLANKS = 1
    TILES = 2
    CARPET = 3
    BRIGHT = 4
    """Shines by itself: panes and lamp shades."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh: vertices (V,3) in metres, unit normals (V,3), colours (V,3), surfaces (V,), faces (F,3)."""

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    colors: NDArray[np.uint8]
    surfaces: NDArray[np.uint8]
    faces: NDArray[np.int32]

    def moved(self, matrix: Matrix) -> Self:
        """The mesh after a rigid motion (4,4)."""
        turn = matrix[:3, :3].astype(np.float32)
        vertices = self.vertices @ turn.T + matrix[:3, 3].astype(np.float32)
        return type(self)(vertices, self.normals @ turn.T, self.colors, self.surfaces, self.faces)

    def stretched(self, factors: ArrayLike) -> Self:
        """The mesh scaled along x, y and z (3,)."""
        scale = np.asarray(factors, dtype=np.float32)
        normals = self.normals / scale
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return type(self)(self.vertices * scale, normals, self.colors, self.surfaces, self.faces)


def joined(shapes: Sequence[Shape]) -> Shape:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(shape.vertices) for shape in shapes[:-1]])
    return Shape(
        np.concatenate([shape.vertices for shape in shapes]),
        np.concatenate([shape.normals for shape in shapes]),
        np.concatenate([shape.colors for shape in shapes]),
        np.concatenate([shape.surfaces for shape in shapes]),
        np.concatenate([s.faces + at for s, at in zip(shapes, starts, strict=True)]).astype(np.int32),
    )


def polygon(corners: ArrayLike, color: Color, surface: Surface = Surface.PLAIN) -> Shape:
    """A flat convex face (C,3); its normal is that of counter-clockwise corners."""
    vertices = np.asarray(corners, dtype=np.float32)
    normal = np.cross(vertices[1] - vertices[0], vertices[2] - vertices[0])
    normal /= np.linalg.norm(normal)
    count = len(vertices)
    fan = [(0, at, at + 1) for at in range(1, count - 1)]
    return Shape(
        vertices,
        np.tile(normal, (count, 1)),
        np.tile(np.array(color, dtype=np.uint8), (count, 1)),
        np.full(count, surface, dtype=np.uint8),
        np.array(fan, dtype=np.int32),
    )


def cuboid(low: ArrayLike, high: ArrayLike, color: Color, surface: Surface = Surface.PLAIN) -> Shape:
    """A box along the axes, between two opposite corners (3,)."""
    ends = np.stack([np.asarray(low), np.asarray(high)])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(8, 3)
    return joined([polygon(corners[list(side)], color, surface) for side in SIDES])


@dataclass(frozen=True, eq=False)
class Soup:
    """Triangles that share no vertices: corners (T,3,3), normals (T,3,3), texture coordinates (T,3,2)."""

    corners: NDArray[np.float64]
    normals: NDArray[np.float64]
    uv: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> Self:
        """Some of the triangles."""
        return type(self)(self.corners[rows], self.normals[rows], self.uv[rows])


def refined(soup: Soup, max_edge_m: float, *, max_triangles: int) -> Soup:
    """Triangles cut in four until no edge is longer, or until there would be too many of them."""
    for _ in range(MAX_REFINEMENTS):
        edges = np.linalg.norm(soup.corners - np.roll(soup.corners, -1, axis=1), axis=2)
        long = edges.max(axis=1) > max_edge_m
        if not long.any() or len(long) + 3 * np.count_nonzero(long) > max_triangles:
            break
        kept, cut = soup.take(~long), soup.take(long)
        parts = (
            np.concatenate([whole, _quartered(pieces)])
            for whole, pieces in (
                (kept.corners, cut.corners),
                (kept.normals, cut.normals),
                (kept.uv, cut.uv),
            )
        )
        soup = Soup(*parts)
    return soup


def _quartered(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second, third = triangles.transpose(1, 0, 2)
    ab, bc, ca = (first + second) / 2, (second + third) / 2, (third + first) / 2
    quarters = ((first, ab, ca), (ab, second, bc), (ca, bc, third), (ab, bc, ca))
    return np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])


def merged(soup: Soup, colors: NDArray[np.uint8], cell_m: float) -> Shape:
    """The triangles with corners that lie in one cell, and face the same way, made one.

    Colours (T,3,3). Faces that lose a side are dropped, and so are repeated ones.
    """
    corners = soup.corners.reshape(-1, 3)
    normals = soup.normals.reshape(-1, 3)
    # Sides of a thin sheet face opposite ways, and must not become one.
    axis = np.abs(normals).argmax(axis=1)
    facing = 2 * axis + (np.take_along_axis(normals, axis[:, None], axis=1)[:, 0] < 0)
    cells = np.floor((corners - corners.min(axis=0)) / cell_m).astype(np.int64)
    keys = facing.astype(np.int64)
    for column in cells.T:
        keys = keys * (int(column.max()) + 1) + column
    _, vertex, counts = np.unique(keys, return_inverse=True, return_counts=True)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = [np.bincount(vertex, weights=column) for column in values.reshape(-1, 3).T]
        return np.asarray(np.stack(sums, axis=1) / counts[:, None])

    directions = mean(normals)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    return Shape(
        mean(corners).astype(np.float32),
        directions.astype(np.float32),
        mean(colors).round().astype(np.uint8),
        np.full(len(counts), Surface.PLAIN, dtype=np.uint8),
        distinct_faces(vertex.reshape(-1, 3)),
    )


def distinct_faces(faces: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Faces (F,3) in order, without those that have a corner twice, and each of the others once."""
    first, second, third = faces.astype(np.int64, copy=False).T
    whole = (first != second) & (second != third) & (third != first)
    first, second, third = first[whole], second[whole], third[whole]
    if not len(first):
        return np.zeros((0, 3), dtype=np.int32)
    # The lowest corner comes first and the sense of rotation stays, so that equal faces look equal.
    lowest = np.minimum(np.minimum(first, second), third)
    middle = np.where(lowest == first, second, np.where(lowest == second, third, first))
    assert max(first.max(), second.max(), third.max()) < 1 << CORNER_BITS, "three corners exceed one key"
    last = first + second + third - lowest - middle
    keys = np.sort((lowest << CORNER_BITS | middle) << CORNER_BITS | last)
    # Not numpy.unique, whose hash table takes five times as long as the sort.
    keys = keys[np.diff(keys, prepend=-1) > 0]
    corner = (1 << CORNER_BITS) - 1
    parts = (keys >> 2 * CORNER_BITS, keys >> CORNER_BITS & corner, keys & corner)
    return np.stack(parts, axis=1).astype(np.int32)


def top_heights(shape: Shape, size_m: ArrayLike, cell_m: float) -> NDArray[np.float32]:
    """Height of the highest surface over the middle of each cell of a footprint centred at the origin.

    A cell over which there is no surface has height -1.
    """
    footprint = np.asarray(size_m, dtype=np.float64)[:2]
    counts = np.maximum(1, (footprint / cell_m).astype(np.int64))
    heights = np.full(tuple(counts), -1.0, dtype=np.float32)
    triangles = shape.vertices[shape.faces].astype(np.float64)
    # In units of cells, so that the middle of cell (i, j) is at (i, j).
    triangles[..., :2] = (triangles[..., :2] / footprint + 0.5) * counts - 0.5
    first, ab, ac = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    low = np.clip(np.ceil(triangles[..., :2].min(axis=1)), 0, counts).astype(np.int64)
    high = np.clip(np.floor(triangles[..., :2].max(axis=1)) + 1, 0, counts).astype(np.int64)
    for at in np.flatnonzero((np.abs(area) > FLAT_AREA) & (high > low).all(axis=1)):
        window = tuple(slice(*ends) for ends in zip(low[at], high[at], strict=True))
        x, y = np.ogrid[window]
        x, y = x - first[at, 0], y - first[at, 1]
        u = (x * ac[at, 1] - y * ac[at, 0]) / area[at]
        v = (y * ab[at, 0] - x * ab[at, 1]) / area[at]
        inside = (u >= -EDGE) & (v >= -EDGE) & (u + v <= 1 + EDGE)
        z = np.where(inside, first[at, 2] + u * ab[at, 2] + v * ac[at, 2], -1.0)
        np.maximum(heights[window], z, out=heights[window], casting="same_kind")
    return heights
