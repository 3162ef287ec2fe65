"""Choice of a few that cover the whole: farthest points of a cloud, and frames by their poses.

Shapes: N rows of D numbers, F frames, K chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats, Matrix, position_and_quaternion, require_finite

# Columns of poses that vary by less, in metres or quaternion units, hold noise.
CONSTANT_BELOW = 1e-6


@dataclass(frozen=True, eq=False)
class FrameSelection:
    """The frames chosen, in order of choice, and those left out because their pose is not finite."""

    chosen: NDArray[np.int64]
    """(K,)"""
    skipped: NDArray[np.int64]
    """Ascending."""


def farthest_point_sample(
    rows: Floats, count: int, *, start: int | None = None, seed: int = 0, repeat: bool = False
) -> NDArray[np.int64]:
    """Indices of rows (N,D), each as far as can be from those chosen before it; ties go to the lower index.

    The first is `start`, or drawn with the seed. No row is chosen twice, and duplicates of chosen rows
    come last, so a count above N gives all N; with `repeat` these are cycled through up to the count.
    """
    require_finite(rows, (None, None), "rows")
    if count < 1:
        raise InvalidInput.at("count", f"{count}, needs at least 1")
    if not len(rows):
        raise InvalidInput.at("rows", "none given, needs at least one")
    if start is None:
        start = int(np.random.default_rng(seed).integers(len(rows)))
    if not 0 <= start < len(rows):
        raise InvalidInput.at("start", f"{start}, needs 0 to {len(rows) - 1}")
    chosen = _farthest(np.ascontiguousarray(rows.T, dtype=np.float64), min(count, len(rows)), start)
    return np.resize(chosen, count) if repeat else chosen


def _farthest(columns: Matrix, count: int, start: int) -> NDArray[np.int64]:
    """Farthest points of columns (D,N)."""
    chosen = np.empty(count, dtype=np.int64)
    nearest = np.full(columns.shape[1], np.inf)
    current = start
    for step in range(count):
        chosen[step] = current
        distance = np.zeros_like(nearest)
        for column in columns:
            distance += np.square(column - column[current])
        np.minimum(nearest, distance, out=nearest)
        # Below every distance, so that duplicates of chosen rows still come before chosen rows.
        nearest[current] = -1.0
        current = int(nearest.argmax())
    return chosen


def select_frames(
    camera_to_world: Floats,
    count: int,
    *,
    start: int | None = None,
    seed: int = 0,
    repeat: bool = False,
) -> FrameSelection:
    """Frames whose poses (F,4,4) lie far apart in position and orientation.

    Distance is that of position and quaternion, each of the seven numbers scaled to [0, 1] over the
    frames; a constant number adds nothing. `start` is an index into all frames, and the other
    arguments are those of `farthest_point_sample`.
    """
    if camera_to_world.ndim != 3 or camera_to_world.shape[1:] != (4, 4):
        raise InvalidInput.at("camera_to_world", f"shape {list(camera_to_world.shape)}, needs [any, 4, 4]")
    finite = np.isfinite(camera_to_world).all(axis=(1, 2))
    usable, skipped = np.flatnonzero(finite), np.flatnonzero(~finite)
    if not len(usable):
        raise InvalidInput.at("camera_to_world", f"none of {len(camera_to_world)} poses is finite")
    if start is not None:
        if start not in usable:
            raise InvalidInput.at("start", f"{start}, needs the index of a frame with a finite pose")
        start = int(np.searchsorted(usable, start))
    poses = np.stack(
        [
            np.concatenate(position_and_quaternion(camera_to_world[frame], f"camera_to_world[{frame}]"))
            for frame in usable
        ]
    )
    chosen = farthest_point_sample(_scaled(poses), count, start=start, seed=seed, repeat=repeat)
    return FrameSelection(usable[chosen], skipped)


def _scaled(columns: Matrix) -> Matrix:
    low = columns.min(axis=0)
    span = columns.max(axis=0) - low
    varies = span >= CONSTANT_BELOW
    return np.where(varies, (columns - low) / np.where(varies, span, 1.0), 0.0)
