"""Furnishing a room: which pieces, and a place for each that overlaps nothing and blocks no way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.data.rooms.families import Split
from trainer.data.rooms.footprints import Floor, Footprint, fits, overlap, walk
from trainer.data.rooms.library import Asset, Baked, Library
from trainer.data.rooms.palettes import Light
from trainer.data.rooms.placing import Candidate, Piece, Site, propose
from trainer.data.rooms.programmes import Programme, Want, Where
from trainer.data.rooms.shells import Shell
from trainer.data.rooms.streams import Stream, chance, pick
from xscene.errors import PreconditionFailed
from xscene.geometry.frames import Matrix

TRIES_PER_PIECE = 40
MIN_STANDING_CELLS = 40
GAP_M = 0.01
# Pieces of one row, and seats at a table, may stand closer.
CLOSE = frozenset({Where.BESIDE, Where.AROUND, Where.FACING, Where.ABOVE, Where.TOP})


@dataclass(frozen=True, kw_only=True)
class Furnishings:
    """Limits of a furnished room."""

    min_objects: int = 8
    max_attempts: int = 40
    """Arrangements tried before a room is given up."""


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A piece that a room is to have."""

    key: str
    asset: Asset
    want: Want


@dataclass(frozen=True, kw_only=True, eq=False)
class Room:
    """A furnished room at one time."""

    programme: Programme
    shell: Shell
    pieces: tuple[Piece, ...]
    light: Light

    def piece(self, key: str) -> Piece:
        """The piece of this key."""
        return next(piece for piece in self.pieces if piece.key == key)

    def floor(self) -> Floor:
        """Where a person can walk in it."""
        return _floor(self.shell, self.pieces)


def select(rng: Stream, programme: Programme, library: Library, split: Split) -> list[Selected]:
    """Models for what a programme wants, of the split's own; wishes that it has none for are left out."""
    found: list[Selected] = []
    for want in programme.wants:
        if not chance(rng, want.share):
            continue
        families = [family for family in want.families if _choices(library, split, family, want)]
        if not families:
            continue
        choices = _choices(library, split, pick(rng, families), want)
        same = pick(rng, choices)
        for _ in range(int(rng.integers(want.count[0], want.count[1] + 1))):
            asset = same if want.same_model else pick(rng, choices)
            found.append(Selected(key=f"{len(found):02d}-{asset.family}", asset=asset, want=want))
    return found


def _choices(library: Library, split: Split, family: str, want: Want) -> list[Asset]:
    low, high = want.height_m
    return [
        asset
        for asset in library.of(family, split)
        if asset.size_m[0] <= want.max_width_m and low <= asset.size_m[2] < high
    ]


def arrange(
    make_stream: Callable[[int], Stream],
    shell: Shell,
    programme: Programme,
    selected: Sequence[Selected],
    baked: Callable[[Asset], Baked],
    limits: Furnishings,
) -> tuple[Piece, ...]:
    """Places for the selected pieces, those left out that find none; tried anew until it is a room.

    Each attempt takes the random stream of its number.
    """
    for attempt in range(limits.max_attempts if len(selected) >= limits.min_objects else 0):
        pieces = _arranged(make_stream(attempt), shell, selected, baked)
        if len(pieces) >= limits.min_objects and has_core(programme, pieces):
            return pieces
    raise PreconditionFailed(
        f"{programme.name}: no arrangement of {len(selected)} pieces placed {limits.min_objects} of them"
        f" in {limits.max_attempts} attempts"
    )


def has_core(programme: Programme, pieces: Iterable[Piece]) -> bool:
    """Whether the pieces make it the kind of room that it is to be."""
    families = {piece.asset.family for piece in pieces}
    return all(families & set(core.split("|")) for core in programme.core)


def _arranged(
    rng: Stream, shell: Shell, selected: Sequence[Selected], baked: Callable[[Asset], Baked]
) -> tuple[Piece, ...]:
    pieces: tuple[Piece, ...] = ()
    for item in selected:
        found = place(rng, Site(shell=shell, pieces=pieces, baked=baked), item)
        if found is not None:
            pieces = (*pieces, found)
    return pieces


def place(rng: Stream, site: Site, item: Selected) -> Piece | None:
    """A piece in a place where it may stand; None where none was found."""
    for _ in range(TRIES_PER_PIECE):
        found = propose(rng, site, item.asset, item.want.where, item.want.near)
        if found is None:
            continue
        piece = settled(item, found)
        if may_stand(piece, site):
            return piece
    return None


def settled(item: Selected, found: Candidate) -> Piece:
    """The selected piece at a candidate place."""
    return Piece(
        key=item.key,
        asset=item.asset,
        footprint=found.footprint,
        where=item.want.where,
        near=item.want.near,
        support=found.support,
    )


def may_stand(piece: Piece, site: Site) -> bool:
    """Whether a piece lies in the room, shares no space with another, and leaves all ways open."""
    footprint, shell = piece.footprint, site.shell
    if footprint.high > shell.height or not fits(footprint, shell.outline):
        return False
    if any(overlap(footprint, clear) for clear in shell.clearances()):
        return False
    gap_m = 0.0 if piece.where in CLOSE else GAP_M
    others = [other.footprint for other in site.pieces if other.key != piece.support]
    if any(overlap(footprint, other, gap_m=gap_m) for other in others):
        return False
    return not stands_on_floor(piece) or walkable(shell, (*site.pieces, piece))


def stands_on_floor(piece: Piece) -> bool:
    """Whether a person may walk into a piece, and should be able to walk to it."""
    return piece.support is None and piece.where not in (Where.CEILING, Where.ABOVE)


def walkable(shell: Shell, pieces: Sequence[Piece]) -> bool:
    """Whether a person who comes in can walk to every piece that stands on the floor."""
    floor = _floor(shell, pieces)
    if len(floor.stands()) < MIN_STANDING_CELLS:
        return False
    return all(floor.beside(piece.footprint) for piece in pieces if stands_on_floor(piece))


def _floor(shell: Shell, pieces: Iterable[Piece]) -> Floor:
    return walk(shell.outline, (piece.footprint for piece in pieces), shell.start())


def shifted(pieces: Sequence[Piece], key: str, target: Footprint) -> tuple[Piece, ...]:
    """The pieces after one of them moved, with all that stands on it."""
    source = next(piece.footprint for piece in pieces if piece.key == key)
    carried = {key}
    for piece in pieces:
        if piece.support in carried:
            carried.add(piece.key)
    return tuple(
        replace(piece, footprint=_carried(piece.footprint, source, target)) if piece.key in carried else piece
        for piece in pieces
    )


def _carried(footprint: Footprint, source: Footprint, target: Footprint) -> Footprint:
    """Where a rectangle comes to lie when another, on which it rests, moves."""
    offset = source.local(_middle(footprint))
    along, across = target.axes()
    spot = _middle(target) + along * offset[0] + across * offset[1]
    lift = target.low - source.low
    return replace(
        footprint,
        x=float(spot[0]),
        y=float(spot[1]),
        yaw=footprint.yaw + target.yaw - source.yaw,
        low=footprint.low + lift,
        high=footprint.high + lift,
    )


def _middle(footprint: Footprint) -> Matrix:
    return np.array((footprint.x, footprint.y))
