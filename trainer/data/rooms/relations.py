"""What is true about where furniture stands, and which of it singles one piece out.

Left, right, before and behind are those of a piece that has a front, as one sees it who faces it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from trainer.data.rooms.composer import Room
from trainer.data.rooms.families import FAMILIES
from trainer.data.rooms.footprints import Footprint, wall_distance
from trainer.data.rooms.placing import Piece
from trainer.data.rooms.programmes import Where
from trainer.data.rooms.shells import OpeningKind
from xscene.geometry.frames import Matrix

BESIDE_M = 0.6
AHEAD_M = 1.4
OVERHANG_M = 0.15
CORNER_M = 0.45
MIDDLE_M = 1.1
DOOR_M = 1.0
WINDOW_M = 0.6
CLEAR_M = 0.4
BETWEEN_M = 0.35
MAX_APART_M = 3.0
MIN_LARGER = 1.4

# Families with a front that people tell left and right by.
FRONTED = frozenset(
    {
        *("sofa", "corner sofa", "bed", "armchair", "desk", "bookshelf", "wardrobe", "dresser", "tv stand"),
        *("tv", "refrigerator", "stove", "cabinet", "kitchen sink", "washbasin", "toilet", "fireplace"),
        *("piano", "washing machine", "filing cabinet", "night stand", "tall cabinet", "dressing table"),
        *("changing table", "whiteboard"),
    }
)


class Relation(StrEnum):
    """How a piece lies to another, or in the room."""

    ON = "on"
    ABOVE = "above"
    BESIDE = "beside"
    LEFT = "left of"
    RIGHT = "right of"
    BEFORE = "in front of"
    BETWEEN = "between"
    CORNER = "in the corner"
    MIDDLE = "in the middle"
    DOOR = "near the door"
    WINDOW = "under the window"
    CEILING = "from the ceiling"
    NEAREST_DOOR = "nearest to the door"
    FARTHEST_DOOR = "farthest from the door"
    LARGEST = "largest"
    ONLY = "only"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something true of one piece alone among those that go by its name; anchors by their keys."""

    target: str
    relation: Relation
    anchors: tuple[str, ...] = ()
    anchor_is_one_of_several: bool = False


def facts(room: Room) -> list[Fact]:
    """Everything that singles out a piece of furniture."""
    found = [*_pairwise(room), *_between(room), *_in_room(room), *_compared(room)]
    return sorted(found, key=lambda fact: (fact.target, fact.relation, fact.anchors))


@cache
def confusable(family: str) -> frozenset[str]:
    """Families that go by the name of this one or one of its other names, or by a longer one that ends so."""
    own = {family, *FAMILIES[family].words}
    return frozenset(
        other.name
        for other in FAMILIES.values()
        for word in (other.name, *other.words)
        if any(f" {word}".endswith(f" {name}") for name in own)
    )


def alike(room: Room, family: str) -> list[Piece]:
    """Pieces that someone might mean who says the name of a family."""
    return [piece for piece in room.pieces if piece.asset.family in confusable(family)]


def on(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether a piece stands on another."""
    return piece.support == other.key


def above(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether a piece hangs on the wall over another."""
    if piece.where is not Where.ABOVE:
        return False
    x, y = other.footprint.local(_middle(piece.footprint))
    return bool(
        piece.footprint.low >= other.footprint.high
        and abs(x) <= other.footprint.width / 2
        and abs(y) <= other.footprint.depth / 2
    )


def beside(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether two pieces stand on the floor, or on the same piece, with little between them."""
    if piece.support != other.support or _hangs(piece) or _hangs(other):
        return False
    return _within(piece.footprint, other.footprint, BESIDE_M if piece.support is None else BESIDE_M / 2)


def left_of(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether a piece stands to the left of another, for one who faces the other's front."""
    return _to_side(piece, other, -1.0)


def right_of(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether a piece stands to the right of another, for one who faces the other's front."""
    return _to_side(piece, other, 1.0)


def before(room: Room, piece: Piece, other: Piece) -> bool:
    """Whether a piece stands in front of another's front."""
    if not _comparable(piece, other):
        return False
    x, y = other.footprint.local(_middle(piece.footprint))
    return bool(
        y < -other.footprint.depth / 2
        and abs(x) <= other.footprint.width / 2 + OVERHANG_M
        and _within(piece.footprint, other.footprint, AHEAD_M)
    )


PAIRWISE: Mapping[Relation, Callable[[Room, Piece, Piece], bool]] = {
    Relation.ON: on,
    Relation.ABOVE: above,
    Relation.BESIDE: beside,
    Relation.LEFT: left_of,
    Relation.RIGHT: right_of,
    Relation.BEFORE: before,
}


def _to_side(piece: Piece, other: Piece, sign: float) -> bool:
    if not _comparable(piece, other):
        return False
    x, y = other.footprint.local(_middle(piece.footprint))
    return bool(
        sign * x > other.footprint.width / 2
        and abs(y) <= other.footprint.depth / 2 + OVERHANG_M
        and _within(piece.footprint, other.footprint, AHEAD_M)
    )


def _comparable(piece: Piece, other: Piece) -> bool:
    """Whether a piece can stand before or beside another's front: on the floor, as that does."""
    fronted = other.asset.family in FRONTED
    return (
        fronted and piece.support is None and other.support is None and not (_hangs(piece) or _hangs(other))
    )


def _hangs(piece: Piece) -> bool:
    return piece.where in (Where.CEILING, Where.ABOVE)


def _within(first: Footprint, second: Footprint, limit_m: float) -> bool:
    # The circles around them tell most pairs apart at a fraction of the cost.
    reach = math.hypot(first.width, first.depth) + math.hypot(second.width, second.depth)
    if math.hypot(first.x - second.x, first.y - second.y) - reach / 2 > limit_m:
        return False
    return gap_m(first, second) <= limit_m


def gap_m(first: Footprint, second: Footprint) -> float:
    """Distance between two rectangles on the floor plan; 0 where they overlap."""
    return float(min(_nearest(first, second), _nearest(second, first)))


def _nearest(first: Footprint, second: Footprint) -> float:
    """Distance of the nearest corner, or point on a side, of one rectangle to the other."""
    corners = first.corners()
    share = np.linspace(0.0, 1.0, 9)[:, None, None]
    return float(second.distance(corners + share * (np.roll(corners, -1, axis=0) - corners)).min())


def between(piece: Piece, first: Piece, second: Piece) -> bool:
    """Whether a piece stands about midway between two others."""
    if any(other.support is not None or _hangs(other) for other in (piece, first, second)):
        return False
    start, end = _middle(first.footprint), _middle(second.footprint)
    line, offset = end - start, _middle(piece.footprint) - start
    length = float(np.hypot(*line))
    if not 0.5 < length < MAX_APART_M:
        return False
    along = float(offset @ line) / length**2
    across = abs(float(offset[0] * line[1] - offset[1] * line[0])) / length
    return 0.3 < along < 0.7 and across < BETWEEN_M


def in_corner(room: Room, piece: Piece) -> bool:
    """Whether a piece on the floor is close to a corner of the outline that opens towards it."""
    if piece.support is not None or _hangs(piece):
        return False
    outline = room.shell.outline
    into, out = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    convex = into[:, 0] * out[:, 1] - into[:, 1] * out[:, 0] > 0
    return bool((piece.footprint.distance(outline[convex]) <= CORNER_M).any())


def in_middle(room: Room, piece: Piece) -> bool:
    """Whether a piece on the floor is far from every wall."""
    if piece.support is not None or _hangs(piece):
        return False
    return bool(wall_distance(piece.footprint.corners(), room.shell.outline).min() >= MIDDLE_M)


def near_door(room: Room, piece: Piece) -> bool:
    """Whether a piece on the floor is close to the door."""
    if piece.support is not None or _hangs(piece):
        return False
    return bool(piece.footprint.distance(door(room)) <= DOOR_M)


def under_window(room: Room, piece: Piece) -> bool:
    """Whether a piece stands before a window, close to its wall and no higher than its sill."""
    if piece.support is not None or _hangs(piece):
        return False
    walls = room.shell.walls()
    for opening in room.shell.openings:
        if opening.kind is not OpeningKind.WINDOW or piece.footprint.high > opening.low:
            continue
        wall = walls[opening.wall]
        offset = _middle(piece.footprint) - wall.start
        within = opening.start <= offset @ wall.along <= opening.end
        ends = np.stack([wall.at(opening.start), wall.at(opening.end), wall.at(float(offset @ wall.along))])
        if within and piece.footprint.distance(ends).min() <= WINDOW_M:
            return True
    return False


def from_ceiling(room: Room, piece: Piece) -> bool:
    """Whether a piece hangs from the ceiling."""
    return piece.where is Where.CEILING


IN_ROOM: Mapping[Relation, Callable[[Room, Piece], bool]] = {
    Relation.CORNER: in_corner,
    Relation.MIDDLE: in_middle,
    Relation.DOOR: near_door,
    Relation.WINDOW: under_window,
    Relation.CEILING: from_ceiling,
}


def door(room: Room) -> Matrix:
    """The middle (2,) of the door's sill."""
    opening = next(each for each in room.shell.openings if each.kind is OpeningKind.DOOR)
    return room.shell.walls()[opening.wall].at((opening.start + opening.end) / 2)


def _pairwise(room: Room) -> Iterator[Fact]:
    for relation, holds in PAIRWISE.items():
        true = {
            (piece.key, other.key): (piece.asset.family, other.asset.family)
            for piece, other in itertools.permutations(room.pieces, 2)
            if holds(room, piece, other)
        }
        for (key, anchor), (family, anchor_family) in true.items():
            names, anchor_names = confusable(family), confusable(anchor_family)
            told_apart = anchor_family not in names and not any(
                rival != key and one in names and another in anchor_names
                for (rival, _), (one, another) in true.items()
            )
            if told_apart:
                several = len(alike(room, anchor_family)) > 1
                yield Fact(target=key, relation=relation, anchors=(anchor,), anchor_is_one_of_several=several)


def _between(room: Room) -> Iterator[Fact]:
    lone = [piece for piece in room.pieces if len(alike(room, piece.asset.family)) == 1]
    for first, second in itertools.combinations(lone, 2):
        inside = [piece for piece in room.pieces if between(piece, first, second)]
        for piece in inside:
            names = confusable(piece.asset.family)
            anchors = {first.asset.family, second.asset.family}
            if not names & anchors and sum(other.asset.family in names for other in inside) == 1:
                yield Fact(target=piece.key, relation=Relation.BETWEEN, anchors=(first.key, second.key))


def _in_room(room: Room) -> Iterator[Fact]:
    for relation, holds in IN_ROOM.items():
        for piece in room.pieces:
            if holds(room, piece) and sum(holds(room, p) for p in alike(room, piece.asset.family)) == 1:
                yield Fact(target=piece.key, relation=relation)


def _compared(room: Room) -> Iterator[Fact]:
    """Facts that need no anchor: the only one of its name, the largest, the nearest to the door."""
    for piece in room.pieces:
        rivals = [p for p in alike(room, piece.asset.family) if p.key != piece.key]
        if not rivals:
            yield Fact(target=piece.key, relation=Relation.ONLY)
            continue
        distance = piece.footprint.distance(door(room))
        others = [float(rival.footprint.distance(door(room))) for rival in rivals]
        if distance + CLEAR_M < min(others):
            yield Fact(target=piece.key, relation=Relation.NEAREST_DOOR)
        if distance - CLEAR_M > max(others):
            yield Fact(target=piece.key, relation=Relation.FARTHEST_DOOR)
        if volume_m3(piece) > MIN_LARGER * max(volume_m3(rival) for rival in rivals):
            yield Fact(target=piece.key, relation=Relation.LARGEST)


def volume_m3(piece: Piece) -> float:
    """How much room a piece takes up."""
    return float(np.prod(piece.asset.size_m))


def _middle(footprint: Footprint) -> Matrix:
    return np.array((footprint.x, footprint.y))
