"""A furnished room as something to look at: its instances, their meshes, and its lamps and windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms.composer import Room
from trainer.data.rooms.footprints import wall_distance
from trainer.data.rooms.library import Asset, Baked
from trainer.data.rooms.placing import Piece
from trainer.data.rooms.rendering import CONTACT_CELL_M, Stage
from trainer.data.rooms.shapes import Shape, joined
from trainer.data.rooms.shells import (
    Opening,
    OpeningKind,
    Shell,
    ceiling_shape,
    floor_shape,
    opening_shape,
    wall_shape,
)
from xscene.geometry.frames import Matrix

NYU40 = {"wall": 1, "floor": 2, "door": 8, "window": 9, "ceiling": 22}
LAMP_DROP_M = 0.5
MARGIN_M = 0.3
SHADE_REACH_M = 0.12
PIECE_SHADE, WALL_SHADE = 0.5, 0.3
NEAR_FLOOR_M = 0.3


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One thing of a room that is labelled: a part of the shell, or a piece of furniture."""

    label: str
    nyu40: int
    piece: Piece | None = None
    opening: Opening | None = None
    wall: int | None = None


def instances(room: Room) -> list[Instance]:
    """Everything with a label, in a fixed order; the object id of each is its place in it."""
    shell = room.shell
    found = [Instance(label="floor", nyu40=NYU40["floor"])]
    found += [Instance(label="wall", nyu40=NYU40["wall"], wall=at) for at in range(len(shell.outline))]
    found.append(Instance(label="ceiling", nyu40=NYU40["ceiling"]))
    found += [
        Instance(label=opening.kind, nyu40=NYU40[opening.kind], opening=opening) for opening in shell.openings
    ]
    found += [
        Instance(label=piece.asset.family, nyu40=piece.asset.kind.nyu40, piece=piece) for piece in room.pieces
    ]
    return found


def stage(room: Room, parts: Sequence[Instance], baked: Callable[[Asset], Baked]) -> Stage:
    """The room ready to be rendered; the id of an instance is its object id plus one."""
    shapes = [_shape(room.shell, part, baked) for part in parts]
    ids = np.repeat(np.arange(1, len(parts) + 1), [len(shape.vertices) for shape in shapes])
    origin, contact = _contact(room)
    return Stage(
        shape=joined(shapes),
        ids=ids.astype(np.uint16),
        lamp_at=_lamp(room),
        windows=_windows(room.shell),
        contact=contact,
        origin=origin,
    )


def _shape(shell: Shell, part: Instance, baked: Callable[[Asset], Baked]) -> Shape:
    if part.piece is not None:
        return baked(part.piece.asset).shape.moved(part.piece.footprint.matrix())
    if part.opening is not None:
        return opening_shape(shell, part.opening)
    if part.wall is not None:
        return wall_shape(shell, part.wall)
    return floor_shape(shell) if part.label == "floor" else ceiling_shape(shell)


def _lamp(room: Room) -> Matrix:
    """Where the light hangs: below the ceiling lamp, so that it throws no shadow, else in the middle."""
    hanging = [piece for piece in room.pieces if piece.asset.family == "ceiling lamp"]
    if hanging:
        lamp = hanging[0].footprint
        return np.array((lamp.x, lamp.y, max(lamp.low - 0.02, 1.2)))
    middle = room.shell.outline.mean(axis=0)
    return np.array((*middle, room.shell.height - LAMP_DROP_M))


def _windows(shell: Shell) -> list[tuple[Matrix, Matrix]]:
    walls = shell.walls()
    return [
        (
            np.array((*walls[o.wall].at((o.start + o.end) / 2, 0.02), (o.low + o.high) / 2)),
            np.array((*walls[o.wall].inward, 0.0)),
        )
        for o in shell.openings
        if o.kind == OpeningKind.WINDOW
    ]


def _contact(room: Room) -> tuple[Matrix, NDArray[np.float32]]:
    """Where the grid begins, and how much light reaches its cells: less beside walls and furniture."""
    outline = room.shell.outline
    origin = outline.min(axis=0) - MARGIN_M
    counts = np.ceil((outline.max(axis=0) + MARGIN_M - origin) / CONTACT_CELL_M).astype(int)
    middles = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), axis=-1)
    middles = origin + (middles + 0.5) * CONTACT_CELL_M
    light = 1 - WALL_SHADE * np.exp(-wall_distance(middles, outline) / SHADE_REACH_M)
    for piece in room.pieces:
        if piece.footprint.low < NEAR_FLOOR_M:
            light *= 1 - PIECE_SHADE * np.exp(-piece.footprint.distance(middles) / SHADE_REACH_M)
    return origin, light.astype(np.float32)
