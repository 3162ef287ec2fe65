"""The nearest of many points within a radius, found through a grid of cells as wide as the radius.

Shapes: Q points that ask, P points that answer.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Floats, Matrix

# Three axes in one whole number of 63 bits.
AXIS_BITS = 20
QUERIES_PER_BLOCK = 1024
MAX_CELL_POINTS = 4096
NONE = -1


def nearest_rows(
    queries: Floats, points: Floats, *, radius_m: float, max_cell_points: int = MAX_CELL_POINTS
) -> tuple[NDArray[np.int64], Matrix]:
    """Row of the nearest point (Q,) and its distance (Q,); NONE and inf where none is within the radius."""
    rows, distances = np.full(len(queries), NONE), np.full(len(queries), np.inf)
    if not len(points) or not len(queries):
        return rows, distances
    low = points.min(axis=0).astype(np.float64)
    num_cells = np.floor((points.max(axis=0) - low) / radius_m) + 1
    if num_cells.max() > (1 << AXIS_BITS) - 2:
        raise InvalidInput.at("points", f"span {num_cells.max():.0f} cells of {radius_m} m, too many")
    keys = _keys(np.floor((points - low) / radius_m).astype(np.int64))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (most := int(np.unique(keys, return_counts=True)[1].max())) > max_cell_points:
        raise LimitExceeded.of("points", value=most, limit=max_cell_points, unit="in one cell")
    for start in range(0, len(queries), QUERIES_PER_BLOCK):
        block = slice(start, start + QUERIES_PER_BLOCK)
        asking = queries[block].astype(np.float64)
        cells = np.clip(np.floor((asking - low) / radius_m), -2, num_cells + 1).astype(np.int64)
        for offset in itertools.product((-1, 0, 1), repeat=3):
            near = _keys(cells + offset)
            spans = np.searchsorted(keys, near, "left"), np.searchsorted(keys, near, "right")
            _improve(rows[block], distances[block], asking, points, order, spans)
    far = distances > radius_m
    rows[far], distances[far] = NONE, np.inf
    return rows, distances


def _keys(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each cell (P,3), which may lie up to three cells before the first."""
    x, y, z = (cells + 3).T
    keys: NDArray[np.int64] = (x << 2 * AXIS_BITS + 2) + (y << AXIS_BITS + 1) + z
    return keys


def _improve(
    rows: NDArray[np.int64],
    distances: Matrix,
    asking: Matrix,
    points: Floats,
    order: NDArray[np.int64],
    spans: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Take the nearest of a run of ordered points for each query, where it is nearer than what is known."""
    first, last = spans
    found = np.flatnonzero(last > first)
    if not len(found):
        return
    counts = (last - first)[found]
    starts = np.cumsum(counts) - counts
    pairs = order[np.arange(counts.sum()) - np.repeat(starts - first[found], counts)]
    apart = np.linalg.norm(points[pairs] - np.repeat(asking[found], counts, axis=0), axis=1)
    least = np.minimum.reduceat(apart, starts)
    # The first of equals: the lowest row, as the order is stable.
    winners = np.flatnonzero(apart == np.repeat(least, counts))
    winners = winners[np.searchsorted(winners, starts)]
    better = least < distances[found]
    rows[found[better]], distances[found[better]] = pairs[winners][better], least[better]
