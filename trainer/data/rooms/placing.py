"""Candidate places for a piece of furniture, by the way it finds its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.data.rooms.footprints import Footprint
from trainer.data.rooms.library import TOP_CELL_M, Asset, Baked
from trainer.data.rooms.programmes import Where
from trainer.data.rooms.shells import Shell, Wall
from trainer.data.rooms.streams import Stream, chance, pick, shuffled
from xscene.geometry.frames import Floats, Matrix

WALL_GAP_M = (0.01, 0.04)
HANGING_ABOVE_M = 0.05
CEILING_GAP_M = 0.002
SEAT_GAP_M = (0.03, 0.10)
KNEE_GAP_M = (0.30, 0.50)
SIDE_GAP_M = (0.005, 0.02)
MIDDLE_MARGIN_M = 0.8
MAX_SEAT_TURN_RAD = 0.22
MAX_LOOSE_TURN_RAD = 0.5
TOP_TOLERANCE_M = 0.012
TOP_HEIGHTS_M = (0.3, 1.6)
MIN_LEVEL_CELLS = 16
ABOVE_LOW_M = 1.45
LOOSE = frozenset({"plant", "box", "toy", "trash can", "bag", "bean bag", "stool", "bar stool", "armchair"})


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of furniture in its place."""

    key: str
    """The same in every scan of a place."""
    asset: Asset
    footprint: Footprint
    where: Where
    near: tuple[str, ...] = ()
    support: str | None = None
    """Key of the piece that it stands on."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a piece is to be placed: the empty room, what stands in it, and meshes' tops."""

    shell: Shell
    pieces: Sequence[Piece]
    baked: Callable[[Asset], Baked]


@dataclass(frozen=True)
class Candidate:
    """A place to try, and the piece that would carry it."""

    footprint: Footprint
    support: str | None = None


def propose(rng: Stream, site: Site, asset: Asset, where: Where, near: tuple[str, ...]) -> Candidate | None:
    """A place to try; None where there is none, as without the piece that it goes with."""
    others = [piece for piece in site.pieces if piece.asset.family in near]
    if near and not others:
        if where is not Where.BESIDE:
            return None
        where = Where.WALL
    return _STRATEGIES[where](rng, site, asset, others)


def _footprint(asset: Asset, spot: Matrix, yaw: float, low: float) -> Footprint:
    width, depth, height = asset.size_m
    return Footprint(
        x=float(spot[0]), y=float(spot[1]), width=width, depth=depth, yaw=yaw, low=low, high=low + height
    )


def _low(asset: Asset) -> float:
    """Height of the underside of what stands, or of what hangs on a wall."""
    return asset.elevation_m if asset.elevation_m > HANGING_ABOVE_M else 0.0


def _wall_spot(asset: Asset, wall: Wall, share: float, gap: float) -> Candidate:
    along = asset.size_m[0] / 2 + share * max(wall.length - asset.size_m[0], 0.0)
    spot = wall.at(along, asset.size_m[1] / 2 + gap)
    return Candidate(_footprint(asset, spot, wall.facing, _low(asset)))


def _at_wall(rng: Stream, site: Site, asset: Asset, _: Sequence[Piece]) -> Candidate:
    return _wall_spot(asset, pick(rng, site.shell.walls()), float(rng.random()), rng.uniform(*WALL_GAP_M))


def _at_corner(rng: Stream, site: Site, asset: Asset, _: Sequence[Piece]) -> Candidate:
    wall = pick(rng, site.shell.walls())
    share = float(rng.random()) ** 3
    found = _wall_spot(asset, wall, share if chance(rng, 0.5) else 1 - share, rng.uniform(0.02, 0.12))
    if asset.family not in LOOSE:
        return found
    turn = rng.uniform(-MAX_LOOSE_TURN_RAD, MAX_LOOSE_TURN_RAD)
    # Turned, its corners reach further back.
    back = 0.5 * (asset.size_m[0] * abs(math.sin(turn)) + asset.size_m[1] * (abs(math.cos(turn)) - 1))
    spot = np.array((found.footprint.x, found.footprint.y)) + max(back, 0.0) * wall.inward
    return Candidate(_footprint(asset, spot, wall.facing + turn, found.footprint.low))


def _next_to(asset: Asset, other: Footprint, side: float, gap: float, slide: float, turn: float) -> Footprint:
    """Beside a rectangle, on the side of it that lies at this angle from its back, with its front to it."""
    deep = other.depth if abs(math.cos(side)) > 0.5 else other.width
    wide = other.width if abs(math.cos(side)) > 0.5 else other.depth
    along, across = other.axes()
    out = math.cos(side) * across - math.sin(side) * along
    sideways = math.cos(side) * along + math.sin(side) * across
    room = max(wide - asset.size_m[0], 0.0) / 2
    spot = (other.x, other.y) + out * (deep / 2 + gap + asset.size_m[1] / 2) + sideways * slide * room
    return _footprint(asset, spot, other.yaw + side + turn, 0.0)


def _facing(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate:
    turn, slide = rng.uniform(-MAX_SEAT_TURN_RAD, MAX_SEAT_TURN_RAD), rng.uniform(-0.4, 0.4)
    gap = rng.uniform(*SEAT_GAP_M) + asset.size_m[0] / 2 * abs(math.sin(turn))
    return Candidate(_next_to(asset, pick(rng, others).footprint, math.pi, gap, slide, turn))


def _around(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate:
    other = pick(rng, others)
    easy = asset.family == "armchair"
    most = MAX_LOOSE_TURN_RAD if easy else MAX_SEAT_TURN_RAD
    turn = rng.uniform(-most, most)
    gap = rng.uniform(*(KNEE_GAP_M if easy else SEAT_GAP_M)) + asset.size_m[0] / 2 * abs(math.sin(turn))
    side = float(rng.integers(4)) * math.pi / 2
    return Candidate(_next_to(asset, other.footprint, side, gap, rng.uniform(-1, 1), turn))


def _before(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate:
    found = _next_to(
        asset, pick(rng, others).footprint, math.pi, rng.uniform(*KNEE_GAP_M), rng.uniform(-0.5, 0.5), 0
    )
    return Candidate(replace(found, yaw=found.yaw + math.pi))


def _beside(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate:
    if chance(rng, 0.1):
        return _at_wall(rng, site, asset, others)
    other = pick(rng, others).footprint
    along, across = other.axes()
    side = 1.0 if chance(rng, 0.5) else -1.0
    shift = side * (other.width + asset.size_m[0]) / 2 + side * rng.uniform(*SIDE_GAP_M)
    spot = (other.x, other.y) + along * shift + across * (other.depth - asset.size_m[1]) / 2
    return Candidate(_footprint(asset, spot, other.yaw, 0.0))


def _above(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate:
    other = pick(rng, others).footprint
    along, across = other.axes()
    slide = rng.uniform(-0.5, 0.5) * max(other.width - asset.size_m[0], 0.0)
    spot = (other.x, other.y) + along * slide + across * (other.depth - asset.size_m[1]) / 2
    return Candidate(_footprint(asset, spot, other.yaw, max(asset.elevation_m, ABOVE_LOW_M)))


def _in_middle(rng: Stream, site: Site, asset: Asset, _: Sequence[Piece]) -> Candidate:
    outline = site.shell.outline
    low, high = outline.min(axis=0) + MIDDLE_MARGIN_M, outline.max(axis=0) - MIDDLE_MARGIN_M
    spot = low + rng.random(2) * np.maximum(high - low, 0.0)
    yaw = pick(rng, site.shell.walls()).facing + (rng.uniform(-0.3, 0.3) if chance(rng, 0.3) else 0.0)
    return Candidate(_footprint(asset, spot, yaw, 0.0))


def _on_top(rng: Stream, site: Site, asset: Asset, others: Sequence[Piece]) -> Candidate | None:
    other = pick(rng, others)
    spot = spot_on(rng, site, asset, other)
    return None if spot is None else Candidate(spot, other.key)


def spot_on(rng: Stream, site: Site, asset: Asset, other: Piece) -> Footprint | None:
    """A place on a level part of another piece's top; None where there is none large enough."""
    if not other.asset.stackable:
        return None
    turn = rng.uniform(-0.3, 0.3)
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    width, depth, _ = asset.size_m
    found = _level_spot(rng, site.baked(other.asset).tops, (width * c + depth * s, width * s + depth * c))
    if found is None:
        return None
    middle, height = found
    along, across = other.footprint.axes()
    spot = (other.footprint.x, other.footprint.y) + along * middle[0] + across * middle[1]
    return _footprint(asset, spot, other.footprint.yaw + turn, other.footprint.low + height)


def _level_spot(rng: Stream, tops: Floats, size_m: tuple[float, float]) -> tuple[Matrix, float] | None:
    """Middle (2,) and height of a level window of this size in a height map centred at the origin."""
    window = [max(1, math.ceil(side / TOP_CELL_M)) for side in size_m]
    free = [count - cells + 1 for count, cells in zip(tops.shape, window, strict=True)]
    usable = tops[(tops > TOP_HEIGHTS_M[0]) & (tops < TOP_HEIGHTS_M[1])]
    if min(free) < 1 or not usable.size:
        return None
    levels, counts = np.unique(np.round(usable / TOP_TOLERANCE_M).astype(np.int64), return_counts=True)
    for level in shuffled(rng, levels[counts >= MIN_LEVEL_CELLS].tolist()):
        flat = np.abs(tops - level * TOP_TOLERANCE_M) <= TOP_TOLERANCE_M
        sums = np.zeros((tops.shape[0] + 1, tops.shape[1] + 1), dtype=np.int64)
        sums[1:, 1:] = flat.cumsum(axis=0).cumsum(axis=1)
        a, b = window
        full = sums[a:, b:] - sums[:-a, b:] - sums[a:, :-b] + sums[:-a, :-b] == a * b
        spots = np.argwhere(full)
        if len(spots):
            corner = spots[int(rng.integers(len(spots)))]
            region = tops[corner[0] : corner[0] + a, corner[1] : corner[1] + b]
            middle = (corner + np.array(window) / 2 - np.array(tops.shape) / 2) * TOP_CELL_M
            return middle, float(region.max())
    return None


def _at_ceiling(rng: Stream, site: Site, asset: Asset, _: Sequence[Piece]) -> Candidate:
    low, high = site.shell.outline.min(axis=0), site.shell.outline.max(axis=0)
    spot = low + (high - low) * rng.uniform(0.3, 0.7, size=2)
    yaw = pick(rng, site.shell.walls()).facing
    return Candidate(_footprint(asset, spot, yaw, site.shell.height - asset.size_m[2] - CEILING_GAP_M))


_Strategy = Callable[[Stream, Site, Asset, Sequence[Piece]], Candidate | None]
_STRATEGIES: Mapping[Where, _Strategy] = {
    Where.WALL: _at_wall,
    Where.CORNER: _at_corner,
    Where.FACING: _facing,
    Where.BEFORE: _before,
    Where.AROUND: _around,
    Where.BESIDE: _beside,
    Where.ABOVE: _above,
    Where.MIDDLE: _in_middle,
    Where.TOP: _on_top,
    Where.CEILING: _at_ceiling,
}
