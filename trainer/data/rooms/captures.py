"""One scan of a place: what cameras see of a room, what is drawn and said about it, and its frames."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms import cameras, palettes
from trainer.data.rooms.cameras import Rig
from trainer.data.rooms.composer import Furnishings, Room
from trainer.data.rooms.drawings import Drawing, Style, draw
from trainer.data.rooms.library import Asset, Library
from trainer.data.rooms.palettes import Light
from trainer.data.rooms.places import Changes, Place
from trainer.data.rooms.rendering import Frame, Renderer
from trainer.data.rooms.scanning import Fusion, Scan, Sensor, fuse, measured
from trainer.data.rooms.sentences import Referral, Speech, refer
from trainer.data.rooms.shells import OpeningKind
from trainer.data.rooms.stages import Instance, instances, stage
from trainer.data.rooms.streams import Stream, chance, pick
from xscene.geometry.frames import Matrix
from xscene.geometry.projection import Intrinsics

VIEW_HEIGHT_M, VIEW_PITCH_RAD = (1.25, 1.65), (0.08, 0.42)
SCAN_HEIGHT_M, SCAN_PITCH_RAD = (1.1, 1.75), (-0.15, 0.7)
VIEW_GAIN, SCAN_GAIN = (1.05, 1.4), (0.9, 1.25)
TINT = (0.93, 1.07)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a data set holds, apart from the furniture."""

    seed: int = 0
    rescan_share: float = 0.5
    """Share of places that are scanned twice."""
    num_views: int = 10
    num_scan_views: int = 20
    view_px: tuple[int, int] = (640, 480)
    view_focal_px: float = 500.0
    scan_px: tuple[int, int] = (320, 240)
    scan_focal_px: float = 240.0
    partial_share: float = 0.4
    """Share of scans in which nobody looks in some directions."""
    blind_rad: tuple[float, float] = (1.2, 2.4)
    other_model_share: float = 0.5
    """Share of objects whose CAD model is another of the same family."""
    jpeg_quality: int = 90
    furnishings: Furnishings = field(default_factory=Furnishings)
    changes: Changes = field(default_factory=Changes)
    speech: Speech = field(default_factory=Speech)
    sensor: Sensor = field(default_factory=Sensor)
    fusion: Fusion = field(default_factory=Fusion)


@dataclass(frozen=True, eq=False)
class View:
    """A picture with its pose camera to room (4,4), and depth (H,W) as a sensor gives it."""

    pose: Matrix
    frame: Frame
    depth: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """Everything about one scan, in the frame of the room, and the way to the scan's own frames."""

    place: Place
    revision: int
    room: Room
    parts: Sequence[Instance]
    raw_from_room: Matrix
    aligned_from_room: Matrix
    intrinsics: Intrinsics
    views: Sequence[View]
    scan: Scan
    scan_light: Light
    """Another visit's, so that it does not tell which pictures are of the same scan."""
    partial: bool
    drawings: Mapping[Style, Drawing]
    referrals: Sequence[Referral]
    models: Mapping[str, Asset]
    """The CAD model given for each piece, by its key."""

    @property
    def scan_id(self) -> str:
        """Its id, as ScanNet writes it."""
        return f"{self.place.name}_{self.revision:02d}"

    def object_id(self, key: str) -> int:
        """The object id of a piece."""
        return next(at for at, part in enumerate(self.parts) if part.piece and part.piece.key == key)


class Clock:
    """Processor seconds by step, those of all threads of this process."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what is done inside for a step."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - start


def capture(
    place: Place,
    revision: int,
    room: Room,
    recipe: Recipe,
    library: Library,
    renderer: Renderer,
    clock: Clock,
) -> Capture:
    """Look at a room: pictures on one path, a scan on another, drawings and sentences."""
    parts = instances(room)
    glass = [at + 1 for at, part in enumerate(parts) if part.label == OpeningKind.WINDOW]
    with clock.step("load"):
        renderer.load(stage(room, parts, library.baked))
    rng = place.stream("capture", revision)
    views = _views(place.stream("views", revision), room, recipe, renderer, glass, clock)
    scan_light = pick(place.stream("scan light", revision), palettes.LIGHTS)
    lit = replace(room, light=scan_light)
    scan, partial = _scan(place.stream("scan", revision), lit, recipe, renderer, glass, clock)
    raw_from_room, aligned_from_room = _frames(rng, room)
    with clock.step("floorplans"):
        drawings = {style: draw(room, style, aligned_from_room, library.baked) for style in Style}
    with clock.step("sentences"):
        referrals = refer(place.stream("sentences", revision), room, recipe.speech)
    return Capture(
        place=place,
        revision=revision,
        room=room,
        parts=parts,
        raw_from_room=raw_from_room,
        aligned_from_room=aligned_from_room,
        intrinsics=_intrinsics(recipe.view_px, recipe.view_focal_px),
        views=views,
        scan=scan,
        scan_light=scan_light,
        partial=partial,
        drawings=drawings,
        referrals=referrals,
        models=cad_models(place, room, recipe, library),
    )


def _intrinsics(size_px: tuple[int, int], focal_px: float) -> Intrinsics:
    width, height = size_px
    return Intrinsics(
        fx=focal_px, fy=focal_px, cx=(width - 1) / 2, cy=(height - 1) / 2, width=width, height=height
    )


def _gain(rng: Stream, exposure: tuple[float, float]) -> list[float]:
    """Exposure times white balance, for red, green and blue."""
    strength, warmth = rng.uniform(*exposure), rng.uniform(*TINT)
    return [float(strength * warmth), float(strength), float(strength / warmth)]


def _views(
    rng: Stream,
    room: Room,
    recipe: Recipe,
    renderer: Renderer,
    glass: Sequence[int],
    clock: Clock,
) -> list[View]:
    intrinsics = _intrinsics(recipe.view_px, recipe.view_focal_px)
    rig = Rig(intrinsics=intrinsics, height_m=VIEW_HEIGHT_M, pitch_rad=VIEW_PITCH_RAD)
    with clock.step("cameras"):
        poses = cameras.choose(rng, room, cameras.piece_targets(room), rig, recipe.num_views)
    gain = _gain(rng, VIEW_GAIN)
    with clock.step("render views"):
        frames = [renderer.render(pose, intrinsics, room.light, gain) for pose in poses]
    with clock.step("sensor"):
        depths = [measured(rng, frame, recipe.sensor, glass) for frame in frames]
    return [View(*view) for view in zip(poses, frames, depths, strict=True)]


def _scan(
    rng: Stream,
    room: Room,
    recipe: Recipe,
    renderer: Renderer,
    glass: Sequence[int],
    clock: Clock,
) -> tuple[Scan, bool]:
    intrinsics = _intrinsics(recipe.scan_px, recipe.scan_focal_px)
    partial = chance(rng, recipe.partial_share)
    blind_rad = rng.uniform(*recipe.blind_rad) if partial else 0.0
    rig = Rig(intrinsics=intrinsics, height_m=SCAN_HEIGHT_M, pitch_rad=SCAN_PITCH_RAD, blind_rad=blind_rad)
    with clock.step("cameras"):
        poses = cameras.choose(rng, room, cameras.shell_targets(room), rig, recipe.num_scan_views)
    gain = _gain(rng, SCAN_GAIN)
    with clock.step("render scan"):
        frames = [renderer.render(pose, intrinsics, room.light, gain) for pose in poses]
    with clock.step("sensor"):
        depths = [measured(rng, frame, recipe.sensor, glass) for frame in frames]
    with clock.step("fuse"):
        return fuse(frames, depths, poses, intrinsics, recipe.fusion), partial


def _frames(rng: Stream, room: Room) -> tuple[Matrix, Matrix]:
    """The raw frame, in any direction, and the aligned one, along the walls; both rest near the floor."""
    raw = _turn(rng.uniform(0.0, 2 * math.pi))
    raw[:3, 3] = (*rng.uniform(-3.0, 3.0, size=2), rng.uniform(-0.1, 0.1))
    aligned = _turn(float(rng.integers(4)) * math.pi / 2)
    middle = (room.shell.outline.min(axis=0) + room.shell.outline.max(axis=0)) / 2
    aligned[:3, 3] = -aligned[:3, :3] @ (*middle, 0.0)
    return raw, aligned


def _turn(yaw: float) -> Matrix:
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array(((c, -s, 0, 0), (s, c, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))


def cad_models(place: Place, room: Room, recipe: Recipe, library: Library) -> dict[str, Asset]:
    """A CAD model for each piece: its own, or for a share of them another of the family.

    The same piece has the same model in every scan of a place.
    """
    found = {}
    for piece in room.pieces:
        rng = place.stream("model", piece.key, piece.asset.asset_id)
        others = [a for a in library.of(piece.asset.family, place.split) if a != piece.asset]
        other = bool(others) and chance(rng, recipe.other_model_share)
        found[piece.key] = pick(rng, others) if other else piece.asset
    return found
