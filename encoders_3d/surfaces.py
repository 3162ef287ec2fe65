"""Surfaces of meshes: triangles and their paint, and points spread evenly over them."""

# F faces, S points of a surface

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0
WHITE = 255
RGB = 3

Matrix = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Paint:
    """What the colour of a part is the product of; nothing of it where it has none."""

    corner_colors: NDArray[Any] | None = None
    """(F,3,3): a colour for each corner of each face, 0 to 255."""
    uv: Matrix | None = None
    """(F,3,2): where each corner of each face is in the texture."""
    texels: Bytes | None = None
    """(height, width, 3): the texture."""
    factor: Bytes | None = None
    """(3,), one colour."""

    def at(self, faces_S: NDArray[np.int64], weights_S3: Matrix) -> Bytes | None:
        """Colours (S,3) at barycentric places on faces; None where there are none."""
        if self.corner_colors is None and self.factor is None:
            return None
        found_S3 = np.full((len(faces_S), RGB), float(WHITE))
        if self.corner_colors is not None:
            found_S3 = np.einsum("sc,scd->sd", weights_S3, self.corner_colors[faces_S].astype(np.float64))
        if self.texels is not None and self.uv is not None:
            uv_S2 = np.einsum("sc,scd->sd", weights_S3, self.uv[faces_S])
            found_S3 *= _texels_at(self.texels, uv_S2) / WHITE
        if self.factor is not None:
            found_S3 *= self.factor / WHITE
        colors: Bytes = np.rint(found_S3).astype(np.uint8)
        return colors


@dataclass(frozen=True, eq=False)
class Part:
    """Faces that are painted alike."""

    triangles: Matrix
    """(F,3,3): the corners of each face."""
    paint: Paint


@dataclass(frozen=True, eq=False)
class Surface:
    """The faces of one mesh, in metres with z up, and their areas."""

    parts: Sequence[Part]
    areas: Matrix

    @property
    def area_m2(self) -> float:
        """Of all faces."""
        return float(self.areas.sum())

    def sample(self, num_points: int, seed: int = SEED) -> tuple[Matrix, Bytes | None]:
        """Points (S,3) spread evenly over the area, and their colours where every part has some."""
        random = np.random.default_rng(seed)
        bounds = np.cumsum(self.areas)
        # One draw in each of so many equal shares: no patch of a share's size stays empty.
        places = (np.arange(num_points) + random.random(num_points)) * (bounds[-1] / num_points)
        faces = np.minimum(np.searchsorted(bounds, places, side="right"), int(np.flatnonzero(self.areas)[-1]))
        root, along = np.sqrt(random.random(num_points)), random.random(num_points)
        weights_S3 = np.column_stack([1 - root, root * (1 - along), root * along])
        xyz, colors, first = [], [], 0
        for part in self.parts:
            last = first + len(part.triangles)
            begin, end = np.searchsorted(faces, [first, last])
            chosen, weights = faces[begin:end] - first, weights_S3[begin:end]
            xyz.append(np.einsum("sc,scd->sd", weights, part.triangles[chosen]))
            if len(chosen):
                colors.append(part.paint.at(chosen, weights))
            first = last
        known = [each for each in colors if each is not None]
        return np.concatenate(xyz), np.concatenate(known) if len(known) == len(colors) else None


def areas_of(triangles_F33: Matrix) -> Matrix:
    """The area of each triangle; not finite where it is no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        edges = triangles_F33[:, 1:] - triangles_F33[:, :1]
        normals = np.cross(edges[:, 0], edges[:, 1])
        areas: Matrix = np.sqrt(np.square(normals).sum(axis=1)) / 2
    return areas


def color_bytes(shares: NDArray[np.float64]) -> Bytes:
    """Colours from 0 to 1 as bytes; others are refused, not cut off."""
    fits = (shares >= 0) & (shares <= 1)
    if not fits.all():
        raise ValueError(f"colour {shares[~fits][0]:g}, needed: finite numbers from 0 to 1")
    found: Bytes = np.rint(shares * WHITE).astype(np.uint8)
    return found


def _texels_at(texels: Bytes, uv_S2: Matrix) -> Bytes:
    """The texel at each place; the picture repeats, and its last row lies at v 0."""
    height, width = texels.shape[:2]
    columns = np.minimum((uv_S2[:, 0] % 1.0 * width).astype(np.int64), width - 1)
    rows = np.minimum(((1.0 - uv_S2[:, 1]) % 1.0 * height).astype(np.int64), height - 1)
    found: Bytes = texels[rows, columns]
    return found
