"""Which rooms a data set has: places in look-alike sets, their splits, and what changes between scans.

Places come in threes that share outline, openings and paint: one room, one with other furniture, and
one with the same furniture arranged anew. A set lies in one split whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from trainer.data.rooms import palettes
from trainer.data.rooms.composer import (
    Furnishings,
    Room,
    Selected,
    arrange,
    has_core,
    may_stand,
    place,
    select,
    shifted,
    walkable,
)
from trainer.data.rooms.families import Split
from trainer.data.rooms.footprints import Footprint
from trainer.data.rooms.library import Library
from trainer.data.rooms.placing import Piece, Site, spot_on
from trainer.data.rooms.programmes import PROGRAMMES, Programme, Where
from trainer.data.rooms.shells import Shell, make_shell
from trainer.data.rooms.streams import Stream, chance, pick, shuffled, stream
from xscene.errors import PreconditionFailed

SPLIT_CYCLE = (*[Split.TRAIN] * 3, Split.VAL, *[Split.TRAIN] * 4, Split.TEST, Split.TRAIN)
FURNITURE_ATTEMPTS = 60
# Pieces that a new arrangement of the same furniture may lack.
MAX_LEFT_OUT = 2
# It may choose no other furniture, so it may try more often.
REARRANGING_PATIENCE = 15
MAX_STEP_M, MAX_TURN_RAD = 0.6, 0.5
NUDGE_TRIES = 25
MOVABLE = (Where.FACING, Where.AROUND, Where.CORNER, Where.MIDDLE, Where.BEFORE)


class Kin(StrEnum):
    """What a place has in common with the others of its set, apart from the empty room."""

    FIRST = "first"
    REFURNISHED = "refurnished"
    REARRANGED = "rearranged"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How much of a place changes from scan to scan."""

    moved_share: float = 0.3
    max_removed: int = 2
    max_added: int = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place of the data set."""

    seed: int
    index: int

    @property
    def number(self) -> int:
        """The set that it belongs to."""
        return self.index // len(Kin)

    @property
    def kin(self) -> Kin:
        """Its part in the set."""
        return tuple(Kin)[self.index % len(Kin)]

    @property
    def split(self) -> Split:
        """The split of its set."""
        return SPLIT_CYCLE[self.number % len(SPLIT_CYCLE)]

    @property
    def name(self) -> str:
        """Its id, as ScanNet writes it."""
        return f"scene{self.index:04d}"

    def stream(self, *part: str | int) -> Stream:
        """The random stream of a part of this place."""
        return stream(self.seed, "place", self.index, *part)

    def set_stream(self, *part: str | int) -> Stream:
        """The random stream of a part of its whole set."""
        return stream(self.seed, "set", self.number, *part)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Set:
    """What the places of a set share, and the furniture of its first."""

    programme: Programme
    shell: Shell
    selected: list[Selected]
    pieces: tuple[Piece, ...]


def first_room(where: Place, library: Library, limits: Furnishings) -> Room:
    """The place as its first scan finds it."""
    shared = _first_of_set(where, library, limits)
    pieces = shared.pieces
    if where.kin is Kin.REARRANGED:
        stands = {piece.key for piece in pieces}
        selected = [item for item in shared.selected if item.key in stands]
        fewest = max(limits.min_objects, len(selected) - MAX_LEFT_OUT)
        patient = limits.max_attempts * REARRANGING_PATIENCE
        enough = replace(limits, min_objects=fewest, max_attempts=patient)
        pieces = _arranged(where, shared.programme, shared.shell, selected, library, enough)
    elif where.kin is Kin.REFURNISHED:
        pieces = _refurnished(where, shared, library, limits)
    light = pick(where.stream("light", 0), palettes.LIGHTS)
    return Room(programme=shared.programme, shell=shared.shell, pieces=pieces, light=light)


def _first_of_set(where: Place, library: Library, limits: Furnishings) -> _Set:
    """The first place of a set: the first empty room that its furniture fits into."""
    first = replace(where, index=where.number * len(Kin))
    programme = pick(first.set_stream("programme"), programmes(first.split))
    failure = PreconditionFailed(f"{programme.name}: no attempt was made")
    for attempt in range(FURNITURE_ATTEMPTS):
        shell = _shell(first, programme, attempt)
        selected = select(first.set_stream("furniture", attempt), programme, library, first.split)
        try:
            pieces = _arranged(first, programme, shell, selected, library, limits)
        except PreconditionFailed as error:
            failure = error
        else:
            return _Set(programme=programme, shell=shell, selected=selected, pieces=pieces)
    raise failure


def _refurnished(where: Place, shared: _Set, library: Library, limits: Furnishings) -> tuple[Piece, ...]:
    """Other furniture for the room of the set."""
    failure = PreconditionFailed(f"{shared.programme.name}: no attempt was made")
    for attempt in range(FURNITURE_ATTEMPTS):
        selected = select(where.stream("furniture", attempt), shared.programme, library, where.split)
        try:
            return _arranged(where, shared.programme, shared.shell, selected, library, limits)
        except PreconditionFailed as error:
            failure = error
    raise failure


def _arranged(
    where: Place,
    programme: Programme,
    shell: Shell,
    selected: Sequence[Selected],
    library: Library,
    limits: Furnishings,
) -> tuple[Piece, ...]:
    make_stream = partial(where.stream, "arrangement")
    return arrange(make_stream, shell, programme, selected, library.baked, limits)


def programmes(split: Split) -> list[Programme]:
    """The kinds of room of a split."""
    return [each for each in PROGRAMMES.values() if each.held_out or split is Split.TRAIN]


def _shell(where: Place, programme: Programme, attempt: int) -> Shell:
    rng = where.set_stream("shell", attempt)
    low, high = programme.windows
    return make_shell(rng, pick(rng, programme.sizes), num_windows=int(rng.integers(low, high + 1)))


def next_room(
    where: Place, revision: int, room: Room, library: Library, limits: Furnishings, changes: Changes
) -> Room:
    """The place as its next scan finds it: some pieces moved, removed and added, under another light."""
    rng = where.stream("changes", revision)
    removed = _removed(rng, room, limits, changes)
    moved = _moved(rng, removed, library, changes)
    pieces = _added(rng, moved, library, where.split, revision, changes)
    others = [light for light in palettes.LIGHTS if light != room.light]
    return replace(moved, pieces=pieces, light=pick(rng, others))


def _removed(rng: Stream, room: Room, limits: Furnishings, changes: Changes) -> Room:
    """Without up to so many pieces, of those that carry nothing and that the room can do without."""
    pieces = room.pieces
    for _ in range(int(rng.integers(changes.max_removed + 1))):
        carrying = {piece.support for piece in pieces}
        idle = [piece for piece in pieces if piece.key not in carrying]
        gone = pick(rng, idle).key if idle else None
        left = tuple(piece for piece in pieces if piece.key != gone)
        if len(left) >= limits.min_objects and has_core(room.programme, left):
            pieces = left
    return replace(room, pieces=pieces)


def _moved(rng: Stream, room: Room, library: Library, changes: Changes) -> Room:
    """With some of the pieces that people push about a little elsewhere, and what stands on them too."""
    pieces = room.pieces
    movable = [piece.key for piece in pieces if piece.where in MOVABLE or piece.support is not None]
    for key in shuffled(rng, movable)[: round(changes.moved_share * len(pieces))]:
        piece = next(piece for piece in pieces if piece.key == key)
        for _ in range(NUDGE_TRIES):
            target = _nudged(rng, room, pieces, piece, library)
            if target is None:
                continue
            candidate = shifted(pieces, key, target)
            if _stands(room.shell, candidate, pieces, library):
                pieces = candidate
                break
    return replace(room, pieces=pieces)


def _nudged(
    rng: Stream, room: Room, pieces: Sequence[Piece], piece: Piece, library: Library
) -> Footprint | None:
    """A place near the old one; for what stands on another piece, a new place on a piece of that kind."""
    if piece.support is not None:
        others = [other for other in pieces if other.key != piece.key]
        site = Site(shell=room.shell, pieces=others, baked=library.baked)
        support = next(other for other in pieces if other.key == piece.support)
        return spot_on(rng, site, piece.asset, support)
    old = piece.footprint
    return replace(
        old,
        x=old.x + rng.uniform(-MAX_STEP_M, MAX_STEP_M),
        y=old.y + rng.uniform(-MAX_STEP_M, MAX_STEP_M),
        yaw=old.yaw + rng.uniform(-MAX_TURN_RAD, MAX_TURN_RAD),
    )


def _stands(shell: Shell, pieces: Sequence[Piece], before: Sequence[Piece], library: Library) -> bool:
    """Whether all that changed its place may stand there."""
    old = {piece.key: piece.footprint for piece in before}
    for piece in pieces:
        if piece.footprint == old[piece.key]:
            continue
        # What it carries came along, and stands on it as before.
        others = [other for other in pieces if other.key != piece.key and other.support != piece.key]
        if not may_stand(piece, Site(shell=shell, pieces=others, baked=library.baked)):
            return False
    return walkable(shell, pieces)


def _added(
    rng: Stream, room: Room, library: Library, split: Split, revision: int, changes: Changes
) -> tuple[Piece, ...]:
    """With up to so many pieces more, of those that the kind of room may have."""
    pieces = room.pieces
    choices = [
        item
        for item in select(rng, room.programme, library, split)
        if item.want.where in (Where.TOP, Where.CORNER, Where.FACING)
    ]
    for count in range(int(rng.integers(changes.max_added + 1))):
        if not choices:
            break
        item = pick(rng, choices)
        new = Selected(key=f"r{revision}-{count}-{item.asset.family}", asset=item.asset, want=item.want)
        found = place(rng, Site(shell=room.shell, pieces=pieces, baked=library.baked), new)
        if found is not None:
            pieces = (*pieces, found)
    return pieces


def num_scans(where: Place, rescan_share: float) -> int:
    """How often a place is scanned: once, or twice in this share of places."""
    return 2 if chance(where.stream("rescans"), rescan_share) else 1
