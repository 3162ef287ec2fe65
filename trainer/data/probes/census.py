"""What a folder of furnished rooms holds, split by split, counted from the extras of its scans."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from trainer.data.scans import Split
from xscene.errors import InvalidInput, NotFound

SCANS = "scans"
REFURNISHED = "refurnished"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of furniture in a scan."""

    label: str
    asset_id: str
    model_id: str
    """Of the CAD model that stands for it."""
    num_vertices: int
    most_pixels: int
    """In the view that shows most of it."""
    is_told: bool
    """Whether a sentence is about it."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """One scan of a place."""

    scan_id: str
    place_id: str
    look_alikes: int
    """The number of its three."""
    furniture: str
    """Scans with the same name hold the same furniture, but for what a rescan changed."""
    kind: str
    split: Split
    partial: bool
    num_vertices: int
    num_referrals: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """When a piece counts as seen."""

    min_pixels: int = 500
    """In one view of 640x480."""
    min_vertices: int = 50

    def __post_init__(self) -> None:
        for name, value in (("min_pixels", self.min_pixels), ("min_vertices", self.min_vertices)):
            if value < 1:
                raise InvalidInput.at(name, f"{value}, needs at least 1")


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """What the rooms of one split hold."""

    places: int
    look_alike_sets: int
    scans: int
    scanned_twice: int
    """Places."""
    kinds: dict[str, int]
    """Places of each kind of room."""
    families: int
    assets: int
    models: int
    """CAD models that stand for pieces."""
    pieces: int
    pieces_a_room: tuple[float, int, int]
    """Mean, fewest and most."""
    in_a_view: float
    """Share of pieces with enough pixels in some view."""
    in_the_scan: float
    """Share of pieces with enough vertices."""
    in_neither: float
    referrals_a_room: tuple[float, int, int]
    told: float
    """Share of pieces that a sentence is about."""
    vertices_a_scan: tuple[float, int, int]
    """Median, fewest and most."""
    partial: float
    """Share of scans."""


@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """What lies in more than one split; all are to be empty."""

    assets: tuple[str, ...]
    models: tuple[str, ...]
    places: tuple[str, ...]
    look_alike_sets: tuple[int, ...]


def read_rooms(root: Path) -> list[Room]:
    """Every scan of a data set of rooms, by id."""
    folders = sorted(path.parent.parent for path in root.glob(f"{SCANS}/*/extras/scene.json"))
    if not folders:
        raise NotFound(f"{root} holds no furnished rooms")
    return [_room(folder) for folder in folders]


def counts(rooms: Sequence[Room], seen: Seen) -> dict[Split, SplitCounts]:
    """Counts of each split that has rooms."""
    return {
        split: _counted(inside, seen)
        for split in Split
        if (inside := [room for room in rooms if room.split is split])
    }


def overlaps(rooms: Sequence[Room]) -> Overlaps:
    """What splits share."""
    return Overlaps(
        assets=_shared(rooms, lambda room: (piece.asset_id for piece in room.pieces)),
        models=_shared(rooms, lambda room: (piece.model_id for piece in room.pieces)),
        places=_shared(rooms, lambda room: [room.place_id]),
        look_alike_sets=_shared(rooms, lambda room: [room.look_alikes]),
    )


def _shared(rooms: Sequence[Room], names: Callable[[Room], Iterable[Any]]) -> tuple[Any, ...]:
    held = {split: {name for room in rooms if room.split is split for name in names(room)} for split in Split}
    return tuple(sorted({name for a, b in itertools.combinations(Split, 2) for name in held[a] & held[b]}))


def _room(folder: Path) -> Room:
    scene, objects, referrals = (
        json.loads((folder / "extras" / f"{name}.json").read_text())
        for name in ("scene", "objects", "referrals")
    )
    told = {entry["target_id"] for entry in referrals}
    return Room(
        scan_id=folder.name,
        place_id=scene["place_id"],
        look_alikes=scene["set"],
        furniture=scene["place_id"] if scene["kin"] == REFURNISHED else f"set {scene['set']}",
        kind=scene["room"],
        split=Split(scene["split"]),
        partial=scene["partial"],
        num_vertices=sum(entry["num_vertices"] for entry in objects),
        num_referrals=len(referrals),
        pieces=tuple(
            Piece(
                label=entry["label"],
                asset_id=entry["asset_id"],
                model_id=entry["cad"]["asset_id"],
                num_vertices=entry["num_vertices"],
                most_pixels=max(entry["view_pixels"].values(), default=0),
                is_told=entry["object_id"] in told,
            )
            for entry in objects
            if "asset_id" in entry
        ),
    )


def _counted(rooms: Sequence[Room], seen: Seen) -> SplitCounts:
    pieces = [piece for room in rooms for piece in room.pieces]
    kinds = {room.place_id: room.kind for room in rooms}
    viewed = [piece.most_pixels >= seen.min_pixels for piece in pieces]
    scanned = [piece.num_vertices >= seen.min_vertices for piece in pieces]
    vertices = [room.num_vertices for room in rooms]
    return SplitCounts(
        places=len(kinds),
        look_alike_sets=len({room.look_alikes for room in rooms}),
        scans=len(rooms),
        scanned_twice=len(rooms) - len(kinds),
        kinds={kind: list(kinds.values()).count(kind) for kind in sorted(set(kinds.values()))},
        families=len({piece.label for piece in pieces}),
        assets=len({piece.asset_id for piece in pieces}),
        models=len({piece.model_id for piece in pieces}),
        pieces=len(pieces),
        pieces_a_room=_spread([len(room.pieces) for room in rooms]),
        in_a_view=mean(viewed),
        in_the_scan=mean(scanned),
        in_neither=mean(not (a or b) for a, b in zip(viewed, scanned, strict=True)),
        referrals_a_room=_spread([room.num_referrals for room in rooms]),
        told=mean(piece.is_told for piece in pieces),
        vertices_a_scan=(median(vertices), min(vertices), max(vertices)),
        partial=mean(room.partial for room in rooms),
    )


def _spread(values: Sequence[int]) -> tuple[float, int, int]:
    return mean(values), min(values), max(values)
