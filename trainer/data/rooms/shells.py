"""The empty room: outline, doors and windows in its walls, paint, and all of it as meshes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trainer.data.rooms import palettes
from trainer.data.rooms.footprints import Footprint, edges, in_outline
from trainer.data.rooms.palettes import Paint
from trainer.data.rooms.shapes import Color, Shape, Surface, cuboid, joined, polygon
from trainer.data.rooms.streams import Stream, pick, shuffled
from xscene.geometry.frames import Matrix

DOOR_WIDTH_M, DOOR_HEIGHT_M, DOOR_SWING_M = 0.9, 2.05, 0.95
WINDOW_WIDTHS_M = (1.0, 1.4, 1.8)
SILL_M, HEAD_M = 0.9, 2.15
MARGIN_M = 0.25
RECESS_M = 0.12
FRAME_M = 0.06
WINDOW_CLEARANCE_M = 0.25
MAX_WINDOWS = 3
START_M = 0.45


class OpeningKind(StrEnum):
    """What fills a hole in a wall."""

    DOOR = "door"
    WINDOW = "window"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A rectangular hole in a wall: which wall, and where along it and up it."""

    kind: OpeningKind
    wall: int
    start: float
    end: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Wall:
    """One wall as seen from inside: where it starts (2,), along which way, which way into the room."""

    start: Matrix
    along: Matrix
    inward: Matrix
    length: float

    def at(self, along_m: float, inward_m: float = 0.0) -> Matrix:
        """A point (2,) of the floor plan by its place along the wall and its distance from it."""
        point: Matrix = self.start + along_m * self.along + inward_m * self.inward
        return point

    @property
    def facing(self) -> float:
        """Yaw of what stands with its back to the wall."""
        return float(np.arctan2(self.inward[0], -self.inward[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shell:
    """A room without furniture."""

    shape: str
    outline: Matrix
    height: float
    openings: tuple[Opening, ...]
    wall_paint: Paint
    floor_paint: Paint
    door_color: Color

    def walls(self) -> list[Wall]:
        """The walls, counter-clockwise; wall i goes from corner i to the next."""
        found = []
        for start, end in edges(self.outline):
            length = float(np.hypot(*(end - start)))
            along = (end - start) / length
            found.append(Wall(start, along, np.array((-along[1], along[0])), length))
        return found

    def start(self) -> Matrix:
        """Where a person stands who has just come in."""
        door = next(opening for opening in self.openings if opening.kind == OpeningKind.DOOR)
        return self.walls()[door.wall].at((door.start + door.end) / 2, START_M)

    def clearances(self) -> list[Footprint]:
        """Boxes that furniture must leave free: before doors, and before windows above the sill."""
        walls = self.walls()
        return [_clearance(walls[opening.wall], opening) for opening in self.openings]


def _clearance(wall: Wall, opening: Opening) -> Footprint:
    deep = DOOR_SWING_M if opening.kind == OpeningKind.DOOR else WINDOW_CLEARANCE_M
    x, y = wall.at((opening.start + opening.end) / 2, deep / 2)
    return Footprint(
        x=float(x),
        y=float(y),
        width=opening.end - opening.start,
        depth=deep,
        yaw=wall.facing,
        low=opening.low,
        high=opening.high,
    )


def make_shell(rng: Stream, size: str, *, num_windows: int) -> Shell:
    """A room of a size class, with one door and up to this many windows where walls are long enough."""
    shape = pick(rng, list(palettes.OUTLINES))
    outline = palettes.outline(shape, *pick(rng, palettes.SIZES_M[size]))
    bare = Shell(
        shape=shape,
        outline=outline,
        height=pick(rng, palettes.HEIGHTS_M),
        openings=(),
        wall_paint=pick(rng, palettes.WALL_PAINTS),
        floor_paint=pick(rng, palettes.FLOOR_PAINTS),
        door_color=pick(rng, palettes.DOOR_COLORS),
    )
    openings = tuple(_openings(rng, bare.walls(), min(num_windows, MAX_WINDOWS)))
    return Shell(**{name: getattr(bare, name) for name in bare.__dataclass_fields__} | {"openings": openings})


def _openings(rng: Stream, walls: Sequence[Wall], num_windows: int) -> Iterator[Opening]:
    """A door in one wall, windows in others; each whole within its wall."""
    order = shuffled(rng, range(len(walls)))
    door = next(wall for wall in order if walls[wall].length >= DOOR_WIDTH_M + 2 * MARGIN_M)
    start = MARGIN_M + float(rng.random()) * (walls[door].length - DOOR_WIDTH_M - 2 * MARGIN_M)
    yield Opening(
        kind=OpeningKind.DOOR, wall=door, start=start, end=start + DOOR_WIDTH_M, low=0.0, high=DOOR_HEIGHT_M
    )
    found = 0
    for wall in order:
        widths = [width for width in WINDOW_WIDTHS_M if walls[wall].length >= width + 2 * MARGIN_M]
        if wall == door or not widths or found == num_windows:
            continue
        width = pick(rng, widths)
        start = MARGIN_M + float(rng.random()) * (walls[wall].length - width - 2 * MARGIN_M)
        found += 1
        yield Opening(
            kind=OpeningKind.WINDOW, wall=wall, start=start, end=start + width, low=SILL_M, high=HEAD_M
        )


def floor_shape(shell: Shell) -> Shape:
    """The floor."""
    return joined([_flat(part, 0.0, shell.floor_paint) for part in _convex(shell.outline)])


def ceiling_shape(shell: Shell) -> Shape:
    """The ceiling, which faces down."""
    paint = Paint(palettes.CEILING_COLOR, Surface.PLAIN)
    return joined([_flat(part[::-1], shell.height, paint) for part in _convex(shell.outline)])


def _flat(corners: Matrix, z: float, paint: Paint) -> Shape:
    return polygon(np.column_stack([corners, np.full(len(corners), z)]), paint.color, paint.surface)


def _convex(outline: Matrix) -> list[Matrix]:
    """Triangles that make up a simple polygon, cut off ear by ear."""
    rest, parts = list(range(len(outline))), []
    while len(rest) > 3:
        for at in range(len(rest)):
            ear = outline[[rest[at - 1], rest[at], rest[(at + 1) % len(rest)]]]
            others = outline[
                [i for i in rest if i not in (rest[at - 1], rest[at], rest[(at + 1) % len(rest)])]
            ]
            first, second = ear[1] - ear[0], ear[2] - ear[1]
            if first[0] * second[1] - first[1] * second[0] > 0 and not in_outline(others, ear).any():
                parts.append(ear)
                del rest[at]
                break
        else:
            raise AssertionError("outline is no simple counter-clockwise polygon")
    return [*parts, outline[rest]]


def wall_shape(shell: Shell, index: int) -> Shape:
    """One wall with its holes, and their sides, which lead outwards."""
    wall = shell.walls()[index]
    holes = sorted((o for o in shell.openings if o.wall == index), key=lambda opening: opening.start)
    parts, at = [], 0.0
    for hole in holes:
        parts.append(_panel(wall, at, hole.start, 0.0, shell.height, shell.wall_paint))
        if hole.low > 0:
            parts.append(_panel(wall, hole.start, hole.end, 0.0, hole.low, shell.wall_paint))
        parts.append(_panel(wall, hole.start, hole.end, hole.high, shell.height, shell.wall_paint))
        at = hole.end
    parts.append(_panel(wall, at, wall.length, 0.0, shell.height, shell.wall_paint))
    return joined(parts)


def _panel(wall: Wall, start: float, end: float, low: float, high: float, paint: Paint) -> Shape:
    a, b = wall.at(start), wall.at(end)
    # Seen from inside the wall runs from right to left.
    corners = [(*b, low), (*a, low), (*a, high), (*b, high)]
    return polygon(corners, paint.color, paint.surface)


def opening_shape(shell: Shell, opening: Opening) -> Shape:
    """A door leaf with its handle, or a window with its frame, set back into the wall."""
    wall = shell.walls()[opening.wall]
    parts = list(_door(opening, shell.door_color) if opening.kind == OpeningKind.DOOR else _window(opening))
    turn = np.eye(4)
    turn[:2, 0], turn[:2, 1], turn[:2, 3] = wall.along, wall.inward, wall.start
    return joined(parts).moved(turn)


def _surround(opening: Opening, color: Color) -> Iterator[Shape]:
    """A frame around the hole, from its back to just before the wall."""
    ends = (opening.start, opening.end)
    for start in (ends[0], ends[1] - FRAME_M):
        yield cuboid((start, -RECESS_M, opening.low), (start + FRAME_M, 0.015, opening.high), color)
    yield cuboid((ends[0], -RECESS_M, opening.high - FRAME_M), (ends[1], 0.015, opening.high), color)


def _door(opening: Opening, color: Color) -> Iterator[Shape]:
    yield from _surround(opening, palettes.FRAME_COLOR)
    yield cuboid((opening.start, -RECESS_M, 0.0), (opening.end, -0.04, opening.high), color)
    dark: Color = (max(color[0] - 26, 0), max(color[1] - 24, 0), max(color[2] - 20, 0))
    for low, high in ((0.25, 0.9), (1.15, 1.85)):
        yield cuboid((opening.start + 0.18, -0.05, low), (opening.end - 0.18, -0.03, high), dark)
    yield cuboid((opening.start + 0.1, -0.04, 1.0), (opening.start + 0.22, 0.03, 1.03), (150, 150, 155))


def _window(opening: Opening) -> Iterator[Shape]:
    yield from _surround(opening, palettes.FRAME_COLOR)
    sill = (
        (opening.start - 0.04, -RECESS_M, opening.low - 0.02),
        (opening.end + 0.04, 0.06, opening.low + 0.03),
    )
    yield cuboid(*sill, palettes.FRAME_COLOR)
    middle = (opening.start + opening.end) / 2
    yield cuboid(
        (middle - 0.03, -RECESS_M, opening.low), (middle + 0.03, -0.03, opening.high), palettes.FRAME_COLOR
    )
    y = -RECESS_M + 0.005
    corners = [
        (opening.end, y, opening.low),
        (opening.start, y, opening.low),
        (opening.start, y, opening.high),
        (opening.end, y, opening.high),
    ]
    yield polygon(corners, palettes.SKY_COLOR, Surface.BRIGHT)
