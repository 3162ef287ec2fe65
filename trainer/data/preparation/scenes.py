"""One scan made into one prepared scene."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.data.preparation.clouds import (
    PreparedCloud,
    color_sums,
    matrix_rows,
    prepare_cloud,
    triple,
)
from trainer.data.preparation.floorplans import STYLE, PlacedModel, draw
from trainer.data.preparation.models import ModelPoints, read_model, surface_points
from trainer.data.preparation.pictures import crops, decoded, stored_view
from trainer.data.preparation.settings import Settings
from trainer.data.preparation.sightings import best_sightings
from trainer.data.scans import RescanLink, Scan, View
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.frames import Matrix, rigid
from xscene.geometry.selection import select_frames
from xscene.prepared.records import (
    CadRecord,
    FloorplanRecord,
    MotionRecord,
    ReferralRecord,
    RescanRecord,
    SceneRecord,
    Sighting,
    SourceReport,
    Split,
    ViewRecord,
    object_presence,
    scene_presence,
)
from xscene.prepared.scene import Content, write_scene

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pictures:
    """Views and crops, each with what is known of it."""

    views: tuple[ViewRecord, ...]
    encoded_views: list[bytes]
    sightings: tuple[Sighting, ...]
    encoded_crops: list[bytes]
    num_views: int
    untracked_view_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Models:
    """CAD models, their surface points, and how they stand in the room."""

    records: tuple[CadRecord, ...]
    points: tuple[ModelPoints, ...]
    placed: tuple[PlacedModel, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """All that a scan was made into."""

    num_vertices: int
    cloud: PreparedCloud
    pictures: _Pictures
    models: _Models
    floorplans: tuple[FloorplanRecord, ...]
    encoded_floorplans: list[bytes]
    num_referrals: int
    referrals: tuple[ReferralRecord, ...]

    def source(self) -> SourceReport:
        """What the scan held."""
        return SourceReport(
            num_vertices=self.num_vertices,
            num_objects=len(self.cloud.objects) + len(self.cloud.small_object_ids),
            small_object_ids=self.cloud.small_object_ids,
            num_views=self.pictures.num_views,
            untracked_view_ids=self.pictures.untracked_view_ids,
            num_referrals=self.num_referrals,
        )

    def content(self) -> Content:
        """The arrays."""
        return Content(
            cloud=self.cloud.cloud,
            views=self.pictures.encoded_views,
            crops=self.pictures.encoded_crops,
            floorplans=self.encoded_floorplans,
            cad=np.stack([each.xyz for each in self.models.points]) if self.models.points else None,
            cad_colors=[each.colors for each in self.models.points],
        )


def prepare_scan(scan: Scan, dataset: str, scenes: Path, settings: Settings) -> SceneRecord:
    """Write the scene of a scan among the scenes of a data set, whole or not at all."""
    aligned_from_raw = rigid(scan.aligned_from_raw(), "aligned_from_raw")
    surface = scan.surface()
    cloud = prepare_cloud(surface, scan.objects(), aligned_from_raw, settings)
    known = {each.object_id for each in cloud.objects}
    models = _models(scan, known, aligned_from_raw, settings)
    floorplans, encoded_floorplans = _floorplans(scan, models.placed, aligned_from_raw, settings)
    said = scan.referrals()
    parts = _Parts(
        num_vertices=len(surface.points),
        cloud=cloud,
        pictures=_pictures(scan, cloud, aligned_from_raw, settings),
        models=models,
        floorplans=floorplans,
        encoded_floorplans=encoded_floorplans,
        num_referrals=len(said),
        referrals=tuple(
            ReferralRecord(text=r.text, target_id=r.target_id, anchor_ids=r.anchor_ids, relation=r.relation)
            for r in said
            if r.target_id in known
        ),
    )
    record = _record(scan, dataset, settings, aligned_from_raw, parts)
    return write_scene(scenes / scan.entry.scan_id, record, parts.content())


def _record(
    scan: Scan, dataset: str, settings: Settings, aligned_from_raw: Matrix, parts: _Parts
) -> SceneRecord:
    entry, cloud, views, cad = scan.entry, parts.cloud, parts.pictures.views, parts.models.records
    said, plans, num_points = parts.referrals, parts.floorplans, len(cloud.cloud.points)
    ids, sightings = [each.object_id for each in cloud.objects], parts.pictures.sightings
    has = object_presence(ids, referrals=said, sightings=sightings, cad=cad)
    return SceneRecord(
        scene_id=entry.scan_id,
        place_id=entry.place_id,
        dataset=dataset,
        split=Split(entry.split),
        is_reference=entry.is_reference,
        label=scan.scene_label(),
        aligned_from_raw=matrix_rows(aligned_from_raw),
        settings_digest=settings.digest(),
        present=scene_presence(referrals=said, views=views, floorplans=plans, num_points=num_points, cad=cad),
        num_points=num_points,
        color_sums=color_sums(cloud.cloud.colors),
        objects=tuple(replace(o, present=p) for o, p in zip(cloud.objects, has, strict=True)),
        views=views,
        num_crop_levels=settings.num_crop_levels,
        sightings=sightings,
        floorplans=plans,
        cad=cad,
        num_cad_points=settings.num_cad_points,
        referrals=said,
        rescan=_rescan(scan.rescan_link()),
        source=parts.source(),
    )


def _pictures(scan: Scan, cloud: PreparedCloud, aligned_from_raw: Matrix, settings: Settings) -> _Pictures:
    views = list(scan.views())
    tracked = _evenly_spread([view for view in views if view.is_tracked], settings.max_frames)
    sightings = best_sightings(
        tracked,
        cloud.raw,
        cloud.cloud.object_ids,
        [each.object_id for each in cloud.objects],
        settings,
    )
    records, encoded = _chosen_views(tracked, scan.entry.scan_id, aligned_from_raw, settings)
    return _Pictures(
        views=tuple(records),
        encoded_views=encoded,
        sightings=sightings,
        encoded_crops=_crops(tracked, sightings, settings),
        num_views=len(views),
        untracked_view_ids=tuple(view.view_id for view in views if not view.is_tracked),
    )


def _evenly_spread(views: Sequence[View], most: int) -> Sequence[View]:
    """All views, or so many of them from the first to the last."""
    if len(views) <= most:
        return views
    return [views[at] for at in np.linspace(0, len(views) - 1, most).round().astype(int).tolist()]


def _chosen_views(
    tracked: Sequence[View], scan_id: str, aligned_from_raw: Matrix, settings: Settings
) -> tuple[list[ViewRecord], list[bytes]]:
    """Views whose poses lie far apart, in order of choice: the first few of them cover the room too."""
    if not tracked:
        return [], []
    poses = np.stack([np.asarray(view.camera_to_world, dtype=np.float64) for view in tracked])
    seed = settings.stream("views", scan_id)
    records, encoded = [], []
    for at in select_frames(poses, settings.num_views, seed=seed).chosen.tolist():
        view = tracked[at]
        kept, intrinsics = stored_view(view.color(), view.intrinsics, f"view {view.view_id}", settings)
        pose = matrix_rows(aligned_from_raw @ poses[at])
        records.append(ViewRecord(view_id=view.view_id, camera_to_aligned=pose, intrinsics=intrinsics))
        encoded.append(kept)
    return records, encoded


def _crops(tracked: Sequence[View], sightings: Sequence[Sighting], settings: Settings) -> list[bytes]:
    """Crops of each sighting, in order; each picture is decoded once."""
    by_view: dict[str, list[int]] = {}
    for row, sighting in enumerate(sightings):
        by_view.setdefault(sighting.view_id, []).append(row)
    found: dict[int, list[bytes]] = {}
    for view in tracked:
        rows = by_view.get(view.view_id)
        if rows:
            image = decoded(view.color(), f"view {view.view_id}", settings.max_picture_pixels)
            for row in rows:
                found[row] = list(crops(image, sightings[row].box_px, settings))
    return [crop for row in range(len(sightings)) for crop in found[row]]


def _models(scan: Scan, known: set[int], aligned_from_raw: Matrix, settings: Settings) -> _Models:
    """Models of known objects; one that cannot be read is left out, as one that is not there is."""
    records, points, placed, faults = [], [], [], []
    for model in scan.cad_models():
        if model.object_id not in known:
            continue
        try:
            surface = read_model(model.path)
            sampled = surface_points(surface, model.model_id, settings)
        except (InvalidInput, NotFound) as error:
            faults.append(f"{model.model_id} ({error.message})")
            continue
        pose = aligned_from_raw @ rigid(model.raw_from_canonical, f"cad {model.model_id}")
        records.append(
            CadRecord(
                object_id=model.object_id,
                model_id=model.model_id,
                aligned_from_canonical=matrix_rows(pose),
                scale=triple(model.scale),
            )
        )
        points.append(sampled)
        placed.append(PlacedModel(surface, model.scale, pose))
    if faults:
        extra = {"scan": scan.entry.scan_id, "num_broken": len(faults), "models": ", ".join(faults)}
        _log.warning("models cannot be read", extra=extra)
    return _Models(records=tuple(records), points=tuple(points), placed=tuple(placed))


def _floorplans(
    scan: Scan, placed: Sequence[PlacedModel], aligned_from_raw: Matrix, settings: Settings
) -> tuple[tuple[FloorplanRecord, ...], list[bytes]]:
    """The plans of the data set's own; where it has none, one drawn from walls and models."""
    own = scan.floorplans()
    if not own:
        drawn = draw(scan.layout(), placed, aligned_from_raw, settings)
        if drawn is None:
            return (), []
        rows = matrix_rows(drawn.pixels_from_aligned)
        return (FloorplanRecord(style=STYLE, pixels_from_aligned=rows),), [drawn.encoded]
    for plan in own:
        decoded(plan.encoded, f"floorplan {plan.style}", settings.max_picture_pixels)
        matrix = plan.pixels_from_aligned
        if matrix is not None and matrix.shape != (3, 3):
            raise InvalidInput.at(f"floorplan {plan.style}", f"matrix {list(matrix.shape)}, needs [3, 3]")
    matrices = [plan.pixels_from_aligned for plan in own]
    records = tuple(
        FloorplanRecord(style=plan.style, pixels_from_aligned=None if m is None else matrix_rows(m))
        for plan, m in zip(own, matrices, strict=True)
    )
    return records, [plan.encoded for plan in own]


def _rescan(link: RescanLink | None) -> RescanRecord | None:
    if link is None:
        return None
    return RescanRecord(
        reference_scene_id=link.reference_scan_id,
        reference_from_scan=matrix_rows(link.reference_from_scan),
        motions=tuple(
            MotionRecord(
                object_id=each.object_id,
                reference_object_id=each.reference_object_id,
                reference_from_scan=matrix_rows(each.reference_from_scan),
                moved=each.moved,
            )
            for each in link.motions
        ),
        added_ids=link.added_ids,
        removed_ids=link.removed_ids,
    )
