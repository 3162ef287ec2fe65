"""Upright boxes on a floor plan: which of them overlap, which lie in the room, and where a person can walk.

Shapes: K corners of an outline, counter-clockwise; W and D cells of the walking grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame, Matrix

CELL_M = 0.1
BODY_RADIUS_M = 0.22
HEADROOM_M = 1.6
REACH_M = 0.75
TOUCH_M = 1e-6
MIN_HEIGHT_M = 1e-3


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """A box that stands upright: a turned rectangle on the floor, and the heights it covers."""

    x: float
    y: float
    width: float
    depth: float
    yaw: float
    """Radians; at 0 the front faces -y."""
    low: float
    high: float

    def corners(self) -> Matrix:
        """The rectangle's corners (4,2), counter-clockwise."""
        signs = np.array(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)))
        along, across = self.axes()
        sides = np.stack([along * self.width, across * self.depth])
        return signs @ sides + (self.x, self.y)

    def axes(self) -> tuple[Matrix, Matrix]:
        """Unit vectors (2,) along the width and the depth; the front faces against the second."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return np.array((c, s)), np.array((-s, c))

    def local(self, points: Matrix) -> Matrix:
        """Points (...,2) relative to the centre, along width and depth."""
        return (points - (self.x, self.y)) @ np.stack(self.axes(), axis=1)

    def distance(self, points: Matrix) -> Matrix:
        """How far points (...,2) lie outside the rectangle; 0 within."""
        outside = np.maximum(np.abs(self.local(points)) - (self.width / 2, self.depth / 2), 0.0)
        return np.asarray(np.hypot(outside[..., 0], outside[..., 1]))

    def matrix(self) -> Matrix:
        """The pose (4,4) of what stands here: canonical coordinates to those of the room."""
        pose = np.eye(4)
        along, across = self.axes()
        pose[:2, 0], pose[:2, 1] = along, across
        pose[:3, 3] = self.x, self.y, self.low
        return pose

    def box(self, frame: Frame) -> OrientedBox:
        """The same box in three dimensions."""
        height = max(self.high - self.low, MIN_HEIGHT_M)
        centre = np.array((self.x, self.y, self.low + height / 2))
        return OrientedBox(centre, np.array((self.width, self.depth, height)), self.matrix()[:3, :3], frame)


def overlap(first: Footprint, second: Footprint, *, gap_m: float = 0.0) -> bool:
    """Whether two boxes share space, or come closer on the floor plan than the gap.

    Exact without a gap: upright boxes share space where their heights and their rectangles do. The
    gap is measured along the rectangles' own axes.
    """
    if min(first.high, second.high) - max(first.low, second.low) <= TOUCH_M:
        return False
    reach = math.hypot(first.width, first.depth) + math.hypot(second.width, second.depth)
    if math.hypot(first.x - second.x, first.y - second.y) > reach / 2 + gap_m:
        return False
    corners = first.corners(), second.corners()
    for axis in (*first.axes(), *second.axes()):
        one, other = (each @ axis for each in corners)
        if max(one.min(), other.min()) - min(one.max(), other.max()) > gap_m - TOUCH_M:
            return False
    return True


def in_outline(points: Matrix, outline: Matrix) -> NDArray[np.bool_]:
    """Which points (...,2) lie in a polygon (K,2), by how often a ray to the right crosses it."""
    inside = np.zeros(points.shape[:-1], dtype=np.bool_)
    x, y = points[..., 0], points[..., 1]
    for (ax, ay), (bx, by) in edges(outline):
        if ay == by:
            continue
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return inside


def edges(outline: Matrix) -> list[tuple[Matrix, Matrix]]:
    """The sides of a polygon, each from corner to next corner."""
    return list(zip(outline, np.roll(outline, -1, axis=0), strict=True))


def fits(footprint: Footprint, outline: Matrix) -> bool:
    """Whether a rectangle lies in a polygon whole: its middle does, and no side cuts into it."""
    if not in_outline(np.array((footprint.x, footprint.y)), outline):
        return False
    half = np.array((footprint.width, footprint.depth)) / 2 - TOUCH_M
    ends = footprint.local(outline)
    return not any(_cuts(a, b, half) for a, b in edges(ends))


def _cuts(start: Matrix, end: Matrix, half: Matrix) -> bool:
    """Whether a segment enters the rectangle from -half to half."""
    low, high = 0.0, 1.0
    for at, step, limit in zip(start, end - start, half, strict=True):
        if abs(step) < TOUCH_M:
            if abs(at) >= limit:
                return False
            continue
        first, last = sorted(((-limit - at) / step, (limit - at) / step))
        low, high = max(low, first), min(high, last)
    return bool(low < high)


def wall_distance(points: Matrix, outline: Matrix) -> Matrix:
    """Distance of points (...,2) to the nearest side of a polygon."""
    nearest = np.full(points.shape[:-1], np.inf)
    for start, end in edges(outline):
        side = end - start
        share = np.clip((points - start) @ side / (side @ side), 0.0, 1.0)
        offset = points - (start + share[..., None] * side)
        nearest = np.minimum(nearest, np.hypot(offset[..., 0], offset[..., 1]))
    return nearest


@dataclass(frozen=True, eq=False)
class Floor:
    """Where a person can stand: cell middles (W,D,2), and those reached on foot from the door (W,D)."""

    middles: Matrix
    reached: NDArray[np.bool_]

    def stands(self) -> Matrix:
        """Middles (N,2) of the cells reached."""
        return self.middles[self.reached]

    def beside(self, footprint: Footprint, *, reach_m: float = REACH_M) -> bool:
        """Whether a person can come near enough to touch what stands here."""
        stands = self.stands()
        return bool(len(stands) and footprint.distance(stands).min() <= reach_m)


def walk(
    outline: Matrix,
    blockers: Iterable[Footprint],
    start: Matrix,
    *,
    cell_m: float = CELL_M,
    radius_m: float = BODY_RADIUS_M,
    headroom_m: float = HEADROOM_M,
) -> Floor:
    """The floor that a person of this radius reaches from the start, past everything below head height."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    counts = np.maximum(1, np.floor((high - low) / cell_m).astype(np.int64))
    middles = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), axis=-1)
    middles = low + (middles + 0.5) * cell_m
    free = in_outline(middles, outline) & (wall_distance(middles, outline) >= radius_m)
    for blocker in blockers:
        if blocker.low < headroom_m:
            free &= blocker.distance(middles) >= radius_m
    offsets = np.where(free, np.hypot(*np.moveaxis(middles - start, -1, 0)), np.inf)
    reached = np.zeros_like(free)
    if np.isfinite(offsets).any() and offsets.min() <= 2 * radius_m + cell_m:
        reached[np.unravel_index(int(offsets.argmin()), offsets.shape)] = True
        reached = _flooded(reached, free)
    return Floor(middles, reached)


def _flooded(reached: NDArray[np.bool_], free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count = 0
    while count < (count := int(np.count_nonzero(reached))):
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        reached = grown & free
    return reached
