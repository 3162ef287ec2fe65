"""The few outlines, materials and lights that all rooms share, so that none gives a room away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.rooms.shapes import Color, Surface
from xscene.geometry.frames import Matrix

CEILING_COLOR: Color = (242, 241, 238)
SKY_COLOR: Color = (226, 238, 250)
FRAME_COLOR: Color = (236, 235, 230)


@dataclass(frozen=True)
class Paint:
    """A colour and how it is laid."""

    color: Color
    surface: Surface


@dataclass(frozen=True, kw_only=True)
class Light:
    """What lights a room: the sky, a window's glow and a lamp, each as colour times strength."""

    name: str
    ambient: tuple[float, float, float]
    lamp: tuple[float, float, float]
    day: tuple[float, float, float]


WALL_PAINTS: Sequence[Paint] = (
    Paint((232, 229, 220), Surface.PLAIN),
    Paint((206, 216, 224), Surface.PLAIN),
    Paint((236, 222, 196), Surface.PLAIN),
    Paint((210, 220, 204), Surface.PLAIN),
)
FLOOR_PAINTS: Sequence[Paint] = (
    Paint((178, 138, 96), Surface.PLANKS),
    Paint((120, 88, 62), Surface.PLANKS),
    Paint((196, 194, 188), Surface.TILES),
    Paint((150, 148, 152), Surface.CARPET),
)
DOOR_COLORS: Sequence[Color] = ((146, 104, 68), (232, 230, 224), (104, 72, 50))

LIGHTS: Sequence[Light] = (
    Light(name="noon", ambient=(0.36, 0.37, 0.40), lamp=(0.18, 0.18, 0.17), day=(0.62, 0.62, 0.60)),
    Light(name="overcast", ambient=(0.42, 0.43, 0.46), lamp=(0.20, 0.20, 0.19), day=(0.34, 0.36, 0.40)),
    Light(name="lamp", ambient=(0.30, 0.28, 0.25), lamp=(0.78, 0.70, 0.58), day=(0.06, 0.07, 0.09)),
    Light(name="evening", ambient=(0.28, 0.27, 0.29), lamp=(0.46, 0.41, 0.34), day=(0.40, 0.32, 0.24)),
    Light(name="office", ambient=(0.40, 0.41, 0.41), lamp=(0.50, 0.52, 0.52), day=(0.16, 0.17, 0.18)),
)


def _rectangle(width: float, depth: float) -> list[tuple[float, float]]:
    return [(0, 0), (width, 0), (width, depth), (0, depth)]


def _ell(width: float, depth: float) -> list[tuple[float, float]]:
    x, y = 0.62 * width, 0.58 * depth
    return [(0, 0), (width, 0), (width, y), (x, y), (x, depth), (0, depth)]


def _cut_corner(width: float, depth: float) -> list[tuple[float, float]]:
    cut = 0.3 * min(width, depth)
    return [(0, 0), (width, 0), (width, depth - cut), (width - cut, depth), (0, depth)]


def _notch(width: float, depth: float) -> list[tuple[float, float]]:
    left, right, deep = 0.38 * width, 0.62 * width, 0.14 * depth
    return [
        (0, 0),
        (width, 0),
        (width, depth),
        (right, depth),
        (right, depth - deep),
        (left, depth - deep),
        (left, depth),
        (0, depth),
    ]


def _slanted(width: float, depth: float) -> list[tuple[float, float]]:
    return [(0, 0), (width, 0), (width, depth), (0.2 * width, depth)]


OUTLINES: Mapping[str, Callable[[float, float], list[tuple[float, float]]]] = {
    "rectangle": _rectangle,
    "ell": _ell,
    "cut corner": _cut_corner,
    "notch": _notch,
    "slanted": _slanted,
}
# Width and depth in metres.
SIZES_M: Mapping[str, Sequence[tuple[float, float]]] = {
    "small": ((3.2, 2.6), (3.0, 3.0)),
    "middle": ((4.4, 3.6), (4.0, 4.0), (5.0, 3.4)),
    "large": ((5.6, 4.4), (5.0, 5.0), (6.2, 4.2)),
}
HEIGHTS_M: Sequence[float] = (2.5, 2.7)


def outline(shape: str, width_m: float, depth_m: float) -> Matrix:
    """Corners (K,2) of a room's floor, counter-clockwise, the lowest at the origin."""
    corners: Matrix = np.array(OUTLINES[shape](width_m, depth_m), dtype=np.float64)
    return corners
