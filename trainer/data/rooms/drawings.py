"""Floorplans: a room drawn from above in two styles, one with everything, one as an architect would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.data.rooms.composer import Room, stands_on_floor
from trainer.data.rooms.library import Asset, Baked
from trainer.data.rooms.placing import LOOSE, Piece
from trainer.data.rooms.relations import FRONTED
from trainer.data.rooms.shells import Opening, OpeningKind, Wall
from xscene.geometry.frames import Matrix, apply

PX_PER_M = 64.0
MARGIN_M = 0.35
WALL_M = 0.14
BACK_SHARE = 0.16
SWING_STEPS = 12
# Drawn at this many times the size, then reduced: smooth lines.
OVERSAMPLING = 2


class Style(StrEnum):
    """How a floorplan is drawn."""

    LINE = "line"
    """Thin lines, walls of two lines, all that stands on the floor."""
    SOLID = "solid"
    """Black walls, furniture in grey, without what is easily moved."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A floorplan, and where it shows what: pixels (column, row, 1) = matrix (3,3) @ (x, y, 1) in metres."""

    image: Image.Image
    pixels_from_aligned: Matrix


class _Pen:
    """Draws on an image in metres of the aligned frame."""

    def __init__(self, room: Room, aligned_from_room: Matrix) -> None:
        self._turn = aligned_from_room
        corners = self.aligned(room.shell.outline)
        low, high = corners.min(axis=0) - MARGIN_M, corners.max(axis=0) + MARGIN_M
        size = np.ceil((high - low) * PX_PER_M).astype(int)
        self.matrix = np.array(
            ((PX_PER_M, 0, -low[0] * PX_PER_M), (0, -PX_PER_M, high[1] * PX_PER_M), (0, 0, 1.0))
        )
        self.image = Image.new("RGB", (int(size[0]) * OVERSAMPLING, int(size[1]) * OVERSAMPLING), "white")
        self._draw = ImageDraw.Draw(self.image)

    def aligned(self, points: Matrix) -> Matrix:
        """Points (N,2) of the room in the aligned frame."""
        moved: Matrix = apply(self._turn, np.column_stack([points, np.zeros(len(points))]))[:, :2]
        return moved

    def _pixels(self, points: Matrix) -> list[tuple[float, float]]:
        aligned = self.aligned(np.asarray(points, dtype=np.float64))
        found = (aligned @ self.matrix[:2, :2].T + self.matrix[:2, 2]) * OVERSAMPLING
        return [(float(x), float(y)) for x, y in found]

    def area(self, points: Matrix, fill: str | None, outline: str | None, width_px: int = 1) -> None:
        """A polygon (K,2)."""
        pixels = self._pixels(points)
        if fill:
            self._draw.polygon(pixels, fill=fill)
        if outline:
            self._draw.line([*pixels, pixels[0]], fill=outline, width=width_px * OVERSAMPLING, joint="curve")

    def line(self, points: Matrix, color: str, width_px: int = 1) -> None:
        """Straight lines from point to point (K,2)."""
        self._draw.line(self._pixels(points), fill=color, width=width_px * OVERSAMPLING)

    def finished(self) -> Image.Image:
        """The image at its own size."""
        size = (self.image.width // OVERSAMPLING, self.image.height // OVERSAMPLING)
        return self.image.resize(size, Image.Resampling.BOX)


def draw(room: Room, style: Style, aligned_from_room: Matrix, baked: Callable[[Asset], Baked]) -> Drawing:
    """The room from above, with x of the aligned frame to the right and y up."""
    pen = _Pen(room, aligned_from_room)
    walls = room.shell.walls()
    for wall, following, before in zip(walls, [*walls[1:], walls[0]], [walls[-1], *walls[:-1]], strict=True):
        pen.area(_thick(wall, before, following), "black" if style is Style.SOLID else "#d8d8d8", None)
    pen.area(room.shell.outline, "white", "black" if style is Style.LINE else None)
    for opening in room.shell.openings:
        _draw_opening(pen, walls[opening.wall], opening, style)
    # What stands low is drawn first, so that a table does not cover what is on it.
    for piece in sorted(room.pieces, key=lambda piece: (piece.footprint.low, piece.key)):
        if _shown(piece, style):
            _draw_piece(pen, piece, baked(piece.asset).tops, style)
    return Drawing(pen.finished(), pen.matrix)


def _shown(piece: Piece, style: Style) -> bool:
    if not stands_on_floor(piece):
        return False
    return style is Style.LINE or piece.asset.family not in LOOSE


def _thick(wall: Wall, before: Wall, following: Wall) -> Matrix:
    """A wall's plan (4,2), with its outer corners drawn out to those of its neighbours."""
    start = _outer_corner(before, wall)
    end = _outer_corner(wall, following)
    return np.stack([wall.at(0.0), wall.at(wall.length), end, start])


def _outer_corner(first: Wall, second: Wall) -> Matrix:
    bisector = -(first.inward + second.inward)
    corner: Matrix = second.start + bisector * WALL_M / max(float(1 + first.inward @ second.inward), 0.2)
    return corner


def _draw_opening(pen: _Pen, wall: Wall, opening: Opening, style: Style) -> None:
    sides = [(opening.start, 0.0), (opening.end, 0.0), (opening.end, -WALL_M), (opening.start, -WALL_M)]
    pen.area(np.stack([wall.at(*side) for side in sides]), "white", "black")
    if opening.kind is OpeningKind.WINDOW:
        lines = (-WALL_M / 2,) if style is Style.LINE else (-WALL_M / 3, -2 * WALL_M / 3)
        for depth in lines:
            pen.line(np.stack([wall.at(opening.start, depth), wall.at(opening.end, depth)]), "black")
        return
    width = opening.end - opening.start
    angles = np.linspace(0.0, np.pi / 2, SWING_STEPS)
    swing = [wall.at(opening.start + width * np.cos(a), width * np.sin(a)) for a in angles]
    hinge = wall.at(opening.start)
    if style is Style.LINE:
        pen.line(np.stack([*swing, hinge]), "black")
    else:
        pen.line(np.stack([swing[-1], hinge]), "black", 3)


def _draw_piece(pen: _Pen, piece: Piece, tops: NDArray[np.float32], style: Style) -> None:
    """The outline of what a piece covers, and a line along its back where it has one."""
    box = piece.footprint
    along, across = box.axes()

    def placed(local: Matrix) -> Matrix:
        return np.asarray((box.x, box.y) + local[:, :1] * along + local[:, 1:] * across)

    local = (silhouette(tops >= 0) / tops.shape - 0.5) * (box.width, box.depth)
    solid = style is Style.SOLID
    pen.area(placed(local), "#d0d0d0" if solid else "white", None if solid else "black")
    if piece.asset.family in FRONTED:
        y = box.depth * (0.5 - BACK_SHARE)
        back = np.array(((-box.width / 2, y), (box.width / 2, y)))
        pen.line(placed(back), "white" if solid else "black", 2 if solid else 1)


def silhouette(covered: NDArray[np.bool_]) -> Matrix:
    """The outline (K,2) of covered cells (W,D), in cells: along the first of each row and back the last."""
    rows = np.flatnonzero(covered.any(axis=1))
    if not len(rows):
        return np.array(((0, 0), (covered.shape[0], 0), covered.shape, (0, covered.shape[1])), dtype=float)
    first = covered[rows].argmax(axis=1)
    last = covered.shape[1] - covered[rows][:, ::-1].argmax(axis=1)
    there = np.stack([np.repeat(rows, 2) + np.tile((0, 1), len(rows)), np.repeat(first, 2)], axis=1)
    back = np.stack([there[:, 0], np.repeat(last, 2)], axis=1)
    return np.concatenate([there, back[::-1]]).astype(np.float64)
