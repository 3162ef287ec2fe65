"""Augmentation of clouds, each step a function of points and of a generator of random numbers.

Shapes: N points. All lengths are metres; z is up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much clouds are changed; a step of amount 0 changes nothing."""

    scale_low: float = 0.8
    scale_high: float = 1.25
    yaw: bool = True
    """Turn the scene by any angle about z: points, objects and locations together."""
    object_yaw: bool = True
    """Turn each object's own points, and each CAD model, by an angle of its own."""
    tilt_sigma: float = 0.06
    tilt_clip: float = 0.18
    """Small rotations about the three axes, in radians."""
    shift_m: float = 0.1
    """Largest shift, the same along all axes."""
    noise_sigma_m: float = 0.01
    noise_clip_m: float = 0.05
    drop_low: float = 0.05
    drop_high: float = 0.14
    """Share of points that are left out."""
    colors_missing: float = 0.1
    """Probability that a cloud comes without its colours."""

    def __post_init__(self) -> None:
        for name in ("tilt_sigma", "tilt_clip", "shift_m", "noise_sigma_m", "noise_clip_m"):
            _require(name, getattr(self, name), 0.0, math.inf)
        _require("scale_low", self.scale_low, 1e-3, self.scale_high)
        _require("scale_high", self.scale_high, self.scale_low, 1e3)
        _require("drop_low", self.drop_low, 0.0, self.drop_high)
        _require("drop_high", self.drop_high, self.drop_low, 0.99)
        _require("colors_missing", self.colors_missing, 0.0, 1.0)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidInput.at(name, f"{value}, needs {low:g} to {high:g}")


def scaled(points: Floats, generator: np.random.Generator, low: float, high: float) -> Floats:
    """Points (N,3) made larger or smaller by one factor."""
    return points * np.float32(generator.uniform(low, high))


def yaw_rotation(generator: np.random.Generator) -> Matrix:
    """A rotation (3,3) about z by any angle."""
    return rotation_z(generator.uniform(0.0, 2 * math.pi))


def rotation_z(angle: float) -> Matrix:
    """The rotation (3,3) about z, from x towards y."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array(((cosine, -sine, 0.0), (sine, cosine, 0.0), (0.0, 0.0, 1.0)))


def tilt_rotation(generator: np.random.Generator, sigma: float, clip: float) -> Matrix:
    """Three small rotations (3,3), about x, then y, then z."""
    x, y, z = np.clip(generator.normal(0.0, 1.0, 3) * sigma, -clip, clip)
    about_x = np.array(((1, 0, 0), (0, math.cos(x), -math.sin(x)), (0, math.sin(x), math.cos(x))))
    about_y = np.array(((math.cos(y), 0, math.sin(y)), (0, 1, 0), (-math.sin(y), 0, math.cos(y))))
    turned: Matrix = rotation_z(z) @ about_y @ about_x
    return turned


def rotated(points: Floats, rotation: Matrix) -> Floats:
    """Points (..., 3) turned about the origin."""
    # For three columns many times as fast as a product of matrices.
    turned: Floats = np.einsum("...d,ed->...e", points, rotation.astype(np.float32))
    return turned


def shifted(points: Floats, generator: np.random.Generator, largest_m: float) -> Floats:
    """Points (N,3) moved by one length along all three axes."""
    return points + np.float32(generator.uniform(-largest_m, largest_m))


def noisy(points: Floats, generator: np.random.Generator, sigma_m: float, clip_m: float) -> Floats:
    """Points (N,3), each moved a little by itself."""
    noise = np.clip(generator.normal(0.0, 1.0, points.shape) * sigma_m, -clip_m, clip_m)
    return points + noise.astype(np.float32)


def kept_rows(count: int, generator: np.random.Generator, low: float, high: float) -> NDArray[np.int64]:
    """Rows, ascending, that are left after a random share of them was dropped; one is always left."""
    dropped = min(round(count * generator.uniform(low, high)), max(count - 1, 0))
    return np.sort(generator.permutation(count)[dropped:]).astype(np.int64)


def without_colors(generator: np.random.Generator, probability: float) -> bool:
    """Whether the colours of a cloud are withheld."""
    return bool(generator.random() < probability)


def augmented_cloud(
    points: Floats, generator: np.random.Generator, how: Augmentation
) -> tuple[Floats, NDArray[np.int64]]:
    """Points (K,3) after all steps but yaw, and the rows that they were."""
    rows = kept_rows(len(points), generator, how.drop_low, how.drop_high)
    moved = scaled(points[rows], generator, how.scale_low, how.scale_high)
    moved = rotated(moved, tilt_rotation(generator, how.tilt_sigma, how.tilt_clip))
    moved = shifted(moved, generator, how.shift_m)
    return noisy(moved, generator, how.noise_sigma_m, how.noise_clip_m), rows
