"""Cameras that see something: poses at which a person could hold one, chosen by what they show.

Shapes: E places of the eye, T target points, C candidates, O owners of targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.rooms.composer import Room
from trainer.data.rooms.footprints import Footprint, edges
from trainer.data.rooms.streams import Stream
from xscene.geometry.frames import Matrix
from xscene.geometry.projection import Intrinsics

POINTS_SHARE = 0.7
BORDER_SHARE = 0.04
MIN_DISTANCE_M, MAX_DISTANCE_M = 0.6, 7.0
EYES = 32
YAWS = 12
# What the first, second, ... view of the same object is worth.
WORTH = np.array((1.0, 0.55, 0.35, 0.22, 0.15, 0.1))
WALL_STEP_M = 0.8
WALL_HEIGHTS_M = (0.4, 1.4)
MIN_GAP_M = 1e-4
# Views further apart, or with directions (unit vectors) further apart, count as different.
FRESH_M, FRESH_TURN = 1.2, 0.85
ROLL_RAD = (-0.04, 0.04)
MIN_WORTH = 1e-6


@dataclass(frozen=True, kw_only=True)
class Rig:
    """How a camera is carried."""

    intrinsics: Intrinsics
    height_m: tuple[float, float]
    pitch_rad: tuple[float, float]
    """Below the horizon."""
    blind_rad: float = 0.0
    """Width of a sector of directions into which nobody looks: what makes a scan partial."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is worth seeing: points (T,3) and the owner (T,) of each, counted from 0."""

    points: Matrix
    owners: NDArray[np.intp]


def piece_targets(room: Room) -> Targets:
    """Points in and on the box of each piece of furniture."""
    signs = np.array([(0, 0, 0), *np.stack(np.meshgrid(*[(-1, 1)] * 3), axis=-1).reshape(-1, 3)]) / 2
    found = []
    for piece in room.pieces:
        box = piece.footprint
        local = signs * POINTS_SHARE * (box.width, box.depth, box.high - box.low)
        middle = np.array((0.0, 0.0, (box.high - box.low) / 2))
        pose = box.matrix()
        found.append((local + middle) @ pose[:3, :3].T + pose[:3, 3])
    owners = np.repeat(np.arange(len(found)), len(signs))
    return Targets(np.concatenate(found), owners)


def shell_targets(room: Room) -> Targets:
    """Furniture, and points along the walls, each its own owner."""
    pieces = piece_targets(room)
    points = []
    for wall in room.shell.walls():
        for along in np.arange(WALL_STEP_M / 2, wall.length, WALL_STEP_M):
            points += [(*wall.at(along, 0.02), height) for height in WALL_HEIGHTS_M]
    start = int(pieces.owners.max()) + 1
    owners = np.concatenate([pieces.owners, np.arange(start, start + len(points))])
    return Targets(np.concatenate([pieces.points, np.array(points)]), owners)


def choose(rng: Stream, room: Room, targets: Targets, rig: Rig, count: int) -> list[Matrix]:
    """Poses camera to room (4,4), one by one, each the one that adds most to what the others show."""
    stands = room.floor().stands()
    chosen = stands[rng.choice(len(stands), size=min(EYES, len(stands)), replace=False)]
    eyes = np.column_stack([chosen, rng.uniform(*rig.height_m, size=len(chosen))])
    seen = visible(room, eyes, targets)
    poses, shows = _candidates(rng, eyes, seen, targets, rig)
    return [poses[at] for at in _greedy(shows, _apart(poses), count)]


def visible(room: Room, eyes: Matrix, targets: Targets) -> NDArray[np.bool_]:
    """Which targets (E,T) no other piece and no wall hides from which eyes."""
    seen = np.ones((len(eyes), len(targets.points)), dtype=np.bool_)
    for start, end in edges(room.shell.outline):
        seen &= ~_crosses(eyes[:, None, :2], targets.points[None, :, :2], start, end)
    for at, piece in enumerate(room.pieces):
        seen &= ~_hidden(eyes, targets.points, piece.footprint) | (targets.owners == at)
    return seen


def _crosses(eyes: Matrix, points: Matrix, start: Matrix, end: Matrix) -> NDArray[np.bool_]:
    """Whether lines of sight, seen from above, cross a wall."""

    def side(a: Matrix, b: Matrix, c: Matrix) -> Matrix:
        first, second = b - a, c - a
        return np.asarray(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])

    apart = side(start, end, eyes) * side(start, end, points) < 0
    return np.asarray(apart & (side(eyes, points, start) * side(eyes, points, end) < 0))


def _hidden(eyes: Matrix, points: Matrix, box: Footprint) -> NDArray[np.bool_]:
    """Which lines of sight (E,T) pass through a box."""

    def local(places: Matrix) -> Matrix:
        z = places[:, 2] - (box.low + box.high) / 2
        return np.column_stack([box.local(places[:, :2]), z])

    half = np.array((box.width, box.depth, box.high - box.low)) / 2 * 0.95
    start = local(eyes)[:, None]
    step = local(points)[None] - start
    step = np.where(np.abs(step) < MIN_GAP_M, MIN_GAP_M, step)
    ends = np.stack([(-half - start) / step, (half - start) / step])
    enters, leaves = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
    return np.asarray((enters < leaves) & (leaves > 0) & (enters < 0.98))


def _candidates(
    rng: Stream, eyes: Matrix, seen: NDArray[np.bool_], targets: Targets, rig: Rig
) -> tuple[list[Matrix], Matrix]:
    """Poses, and how much of each owner they show (C,O)."""
    blind = rng.uniform(0, 2 * math.pi)
    num_owners = int(targets.owners.max()) + 1
    # Which share of its owner each target is: sums over owners become one product of matrices.
    share = np.zeros((len(targets.owners), num_owners))
    share[np.arange(len(share)), targets.owners] = 1 / np.bincount(targets.owners)[targets.owners]
    poses, shows = [], []
    for eye, unhidden in zip(eyes, seen, strict=True):
        yaws = (np.arange(YAWS) + rng.uniform(-0.5, 0.5, size=YAWS)) * 2 * math.pi / YAWS
        tilts = np.stack([rng.uniform(*rig.pitch_rad, size=YAWS), rng.uniform(*ROLL_RAD, size=YAWS)], axis=1)
        around = [
            look(eye, float(yaw), *tilt)
            for yaw, tilt in zip(yaws, tilts.tolist(), strict=True)
            if abs(math.remainder(yaw - blind, 2 * math.pi)) >= rig.blind_rad / 2
        ]
        if around:
            inside = unhidden & _in_view(np.stack(around), targets.points, rig.intrinsics)
            poses += around
            shows.append(inside @ share)
    return poses, np.concatenate(shows)


def look(eye: Matrix, yaw: float, pitch: float, roll: float = 0.0) -> Matrix:
    """The pose (4,4) of a camera that looks along z, with x right and y down; pitch is below the horizon."""
    forward = np.array((math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)))
    right = np.array((math.sin(yaw), -math.cos(yaw), 0.0))
    down = np.array((-math.cos(yaw) * math.sin(pitch), -math.sin(yaw) * math.sin(pitch), -math.cos(pitch)))
    pose = np.eye(4)
    pose[:3, 0] = math.cos(roll) * right + math.sin(roll) * down
    pose[:3, 1] = math.cos(roll) * down - math.sin(roll) * right
    pose[:3, 2], pose[:3, 3] = forward, eye
    return pose


def _in_view(poses: Matrix, points: Matrix, intrinsics: Intrinsics) -> NDArray[np.bool_]:
    """Which points lie well within the pictures from these poses: (C,T)."""
    x, y, z = np.moveaxis((points - poses[:, None, :3, 3]) @ poses[:, :3, :3], -1, 0)
    ahead = (z > MIN_DISTANCE_M) & (z < MAX_DISTANCE_M)
    depth = np.where(ahead, z, 1.0)
    u, v = intrinsics.fx * x / depth + intrinsics.cx, intrinsics.fy * y / depth + intrinsics.cy
    width, height = intrinsics.width, intrinsics.height
    across, down = BORDER_SHARE * width, BORDER_SHARE * height
    inside = (u >= across) & (u < width - across) & (v >= down) & (v < height - down)
    return np.asarray(ahead & inside)


def _apart(poses: Sequence[Matrix]) -> Matrix:
    """How little each two views (C,C) are alike: 1 for other places or other directions, 0 for the same."""
    eyes = np.stack([pose[:3, 3] for pose in poses]) / FRESH_M
    forward = np.stack([pose[:3, 2] for pose in poses]) / FRESH_TURN
    # A place and a direction are one point, and the squares of all distances one product of matrices.
    points = np.hstack([eyes - eyes.mean(axis=0), forward])
    squares = np.square(points).sum(axis=1)
    apart = squares[:, None] + squares - 2 * points @ points.T
    return np.asarray(np.sqrt(np.clip(apart, 0.0, 1.0)))


def _greedy(shows: Matrix, apart: Matrix, count: int) -> Sequence[int]:
    """Candidates, each the best after those before it.

    The worth of an owner falls with each view of it, and that of a candidate with each view like it.
    """
    views = np.zeros(shows.shape[1])
    fresh = np.ones(len(shows))
    found: list[int] = []
    for _ in range(min(count, len(shows))):
        worth = np.interp(views, np.arange(len(WORTH)), WORTH)
        best = int(((shows @ worth + MIN_WORTH) * fresh).argmax())
        found.append(best)
        fresh *= apart[best]
        views += shows[best]
    return found
