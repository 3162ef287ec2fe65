"""Clouds: selection of objects, alignment, thinning, locations, sums of colours.

Shapes: V vertices of a scan, N points kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.preparation.settings import Settings
from trainer.data.scans import ScannedObject, ScannedSurface
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox, mean_locations
from xscene.geometry.frames import Frame, Matrix, Points, align
from xscene.geometry.voxels import voxelise
from xscene.prepared.records import NO_OBJECT, BoxRecord, ColorSums, ObjectRecord, Rows, Triple
from xscene.prepared.scene import SceneCloud


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedCloud:
    """The thinned cloud in two frames, and the objects that were large enough."""

    cloud: SceneCloud
    raw: Points
    """The same points (N,3) in the frame that cameras are in."""
    objects: tuple[ObjectRecord, ...]
    """Their presence is not known yet."""
    small_object_ids: tuple[int, ...]


def prepare_cloud(
    surface: ScannedSurface,
    objects: tuple[ScannedObject, ...],
    aligned_from_raw: Matrix,
    settings: Settings,
) -> PreparedCloud:
    """Objects of enough vertices, and one point of each of them in a voxel of the aligned cloud."""
    aligned = align(surface.points, aligned_from_raw)
    ids, counts = np.unique(surface.object_ids, return_counts=True)
    num_vertices = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    large = [o for o in objects if num_vertices.get(o.object_id, 0) >= settings.min_object_vertices]
    wanted = {each.object_id for each in large}
    object_ids = np.where(np.isin(surface.object_ids, list(wanted)), surface.object_ids, NO_OBJECT)
    kept = thinned(aligned, object_ids, settings)
    return PreparedCloud(
        cloud=SceneCloud(
            points=Points(aligned.xyz[kept].astype(np.float32), Frame.ALIGNED),
            colors=None if surface.colors is None else surface.colors[kept],
            object_ids=object_ids[kept].astype(np.int32),
        ),
        raw=surface.points.take(kept),
        objects=_records(large, aligned, object_ids, aligned_from_raw),
        small_object_ids=tuple(each.object_id for each in objects if each.object_id not in wanted),
    )


def thinned(points: Points, object_ids: NDArray[np.int32], settings: Settings) -> NDArray[np.int64]:
    """Rows (N,) of the first point of each object in each voxel, ascending; no object is lost whole."""
    voxels = voxelise(points, settings.voxel_m, max_extent_voxels=settings.max_extent_voxels)
    ids, place = np.unique(object_ids, return_inverse=True)
    _, first = np.unique(voxels.inverse * len(ids) + place, return_index=True)
    return np.sort(first).astype(np.int64)


def _records(
    objects: list[ScannedObject], aligned: Points, object_ids: NDArray[np.int32], aligned_from_raw: Matrix
) -> tuple[ObjectRecord, ...]:
    if not objects:
        return ()
    clouds = [aligned.take(object_ids == each.object_id) for each in objects]
    locations = mean_locations(clouds)
    return tuple(
        ObjectRecord(
            object_id=each.object_id,
            label=each.label,
            nyu40=each.nyu40,
            asset_id=each.asset_id,
            mean=triple(mean),
            size=triple(size),
            num_vertices=len(cloud),
            box=None if each.box is None else _box(each.box, each.object_id, aligned_from_raw),
            present=(),
        )
        for each, cloud, mean, size in zip(objects, clouds, locations.means, locations.sizes, strict=True)
    )


def _box(box: OrientedBox, object_id: int, aligned_from_raw: Matrix) -> BoxRecord:
    if box.frame is Frame.CANONICAL:
        raise InvalidInput.at(f"objects[{object_id}].box", f"in frame {box.frame}, needs a frame of the scan")
    aligned = box if box.frame is Frame.ALIGNED else box.moved(aligned_from_raw, frame=Frame.ALIGNED)
    return BoxRecord(
        centre=triple(aligned.centre), size=triple(aligned.size), rotation=matrix_rows(aligned.rotation)
    )


def color_sums(colors: NDArray[np.uint8] | None) -> ColorSums | None:
    """Sums over colours (N,3), in whole numbers."""
    if colors is None:
        return None
    wide = colors.astype(np.int64)
    return ColorSums(
        num_points=len(wide), sums=(*wide.sum(axis=0).tolist(),), squares=(*(wide**2).sum(axis=0).tolist(),)
    )


def triple(values: NDArray[np.floating]) -> Triple:
    """Three plain numbers."""
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z


def matrix_rows(matrix: NDArray[np.floating]) -> Rows:
    """A matrix as plain numbers, row after row."""
    return tuple(tuple(row) for row in np.asarray(matrix, dtype=np.float64).tolist())
