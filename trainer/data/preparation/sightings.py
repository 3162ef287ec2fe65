"""Which views show an object best: votes of pixels where the data set draws objects, else of seen points.

Shapes: N points, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.preparation.settings import Settings
from trainer.data.scans import View
from xscene.errors import InvalidInput
from xscene.geometry.frames import Points, apply, inverse
from xscene.geometry.projection import Projection, project
from xscene.prepared.records import NO_OBJECT, Sighting


def best_sightings(
    views: Iterable[View],
    points: Points,
    object_ids: NDArray[np.int32],
    known_ids: Sequence[int],
    settings: Settings,
) -> tuple[Sighting, ...]:
    """For each object the views with most votes, ordered by object, then by votes, then as views come."""
    found: dict[int, list[Sighting]] = {object_id: [] for object_id in known_ids}
    for view in views:
        for sighting in _seen(view, points, object_ids, settings):
            if sighting.object_id in found and sighting.votes >= settings.min_votes:
                found[sighting.object_id].append(sighting)
    return tuple(
        each
        for object_id in sorted(found)
        for each in sorted(found[object_id], key=lambda s: -s.votes)[: settings.num_crop_views]
    )


def _seen(
    view: View, points: Points, object_ids: NDArray[np.int32], settings: Settings
) -> Iterable[Sighting]:
    pixels = view.object_pixels()
    if pixels is None:
        rows, columns, visible = _projected(view, points, settings)
        return _sightings(view, object_ids[visible], rows[visible], columns[visible], (1.0, 1.0))
    if pixels.ndim != 2:
        raise InvalidInput.at(f"view {view.view_id}", f"object pixels of shape {list(pixels.shape)}")
    rows, columns = np.nonzero(pixels != NO_OBJECT)
    scale = (view.intrinsics.width / pixels.shape[1], view.intrinsics.height / pixels.shape[0])
    return _sightings(view, pixels[rows, columns], rows, columns, scale)


def _sightings(
    view: View,
    ids: NDArray[np.int32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    scale: tuple[float, float],
) -> Iterable[Sighting]:
    """A sighting of each object, from the pixels that show it; the scale takes them to the picture's size."""
    found, place, votes = np.unique(ids, return_inverse=True, return_counts=True)
    corners = []
    for pixels, factor in ((columns, scale[0]), (rows, scale[1])):
        low = np.full(len(found), np.iinfo(np.int64).max)
        high = np.zeros(len(found), dtype=np.int64)
        np.minimum.at(low, place, pixels)
        np.maximum.at(high, place, pixels)
        corners.append((np.floor(low * factor).astype(int), np.ceil((high + 1) * factor).astype(int)))
    (left, right), (top, bottom) = corners
    for at, object_id in enumerate(found.tolist()):
        if object_id != NO_OBJECT:
            box = (int(left[at]), int(top[at]), int(right[at]), int(bottom[at]))
            yield Sighting(object_id=object_id, view_id=view.view_id, votes=int(votes[at]), box_px=box)


def _projected(
    view: View, points: Points, settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows and columns (N,) of points in the view's picture, and which of them it shows."""
    threshold = settings.depth_threshold
    placed = project(
        points, view.camera_to_world, view.intrinsics, threshold=threshold, border_px=settings.border_px
    )
    depth = view.depth()
    if depth is None:
        visible = _in_front(view, points, placed, settings)
    else:
        # The border is one of pictures, of which depth may be a fraction in size.
        measured = project(
            points,
            view.camera_to_world,
            depth.intrinsics,
            depth.metres,
            threshold=threshold,
            border_px=0,
        )
        visible = placed.visible & measured.visible
    return placed.rows, placed.columns, visible


def _in_front(view: View, points: Points, placed: Projection, settings: Settings) -> NDArray[np.bool_]:
    """Points (N,) in the picture that no other point of their cell of it hides."""
    cell_px = settings.occlusion_cell_px
    across = -(-view.intrinsics.width // cell_px)
    shown = np.flatnonzero(placed.visible)
    cell = placed.rows[shown] // cell_px * across + placed.columns[shown] // cell_px
    depth_m = apply(inverse(view.camera_to_world), points.xyz[shown])[:, 2]
    nearest_m = np.full(int(cell.max(initial=0)) + 1, np.inf)
    np.minimum.at(nearest_m, cell, depth_m)
    front = np.zeros(len(points), dtype=np.bool_)
    front[shown] = depth_m <= nearest_m[cell] * (1 + settings.depth_threshold)
    return front
