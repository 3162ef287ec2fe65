"""CAD models that annotators laid over ScanNet's scans, and which object each of them stands for.

The annotation has a world of its own, into which it places the scan and every model by a shift, a
quaternion (w, x, y, z) and a scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.data.readers.documents import Value
from trainer.data.scans import CadModel
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox, box_iou, fit_boxes
from xscene.geometry.frames import Frame, Matrix, Points, inverse, pose

MODEL_FILE = Path("models") / "model_normalized.obj"
PLAIN_NAME = re.compile("[A-Za-z0-9_-]{1,128}")
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class PlacedModel:
    """A model where the annotators put it."""

    model_id: str
    path: Path
    raw_from_canonical: Matrix
    scale: Matrix
    box: OrientedBox
    """In the raw frame."""


def placed_models(annotation: Value, shapenet: Path) -> list[PlacedModel]:
    """The models of one entry of `scan2cad_full_annotations.json`, with their files under a folder."""
    world_from_raw, scan_scale = _placement(annotation["trs"])
    if np.ptp(scan_scale) > SCALE_TOLERANCE:
        raise InvalidInput.at(f"{annotation.where}.trs.scale", "differs between axes, so a model would shear")
    return [
        _placed(model, shapenet, world_from_raw, float(scan_scale[0]))
        for model in annotation["aligned_models"].items()
    ]


def _placed(model: Value, shapenet: Path, world_from_raw: Matrix, scan_scale: float) -> PlacedModel:
    category, name = (_plain(model[key]) for key in ("catid_cad", "id_cad"))
    world_from_model, scale = _placement(model["trs"])
    # The scan's own scale is taken out of shifts and sizes, which leaves a rigid pose in metres.
    raw_from_world = inverse(world_from_raw)
    matrix = raw_from_world @ world_from_model
    shift = world_from_model[:3, 3] - world_from_raw[:3, 3]
    matrix[:3, 3] = raw_from_world[:3, :3] @ shift / scan_scale
    scale = scale / scan_scale
    # Half of the edges, before the model is scaled.
    half, centre = model["bbox"].numbers((3,)), model["center"].numbers((3,))
    middle = matrix[:3, :3] @ (centre * scale) + matrix[:3, 3]
    return PlacedModel(
        model_id=f"{category}/{name}",
        path=shapenet / category / name / MODEL_FILE,
        raw_from_canonical=matrix,
        scale=scale,
        box=OrientedBox(middle, 2 * np.abs(half) * scale, matrix[:3, :3], Frame.RAW),
    )


def _plain(name: Value) -> str:
    """A name that is one part of a path."""
    if not PLAIN_NAME.fullmatch(text := name.text()):
        raise InvalidInput.at(name.where, f"{text[:80]!r} is no plain name")
    return text


def _placement(trs: Value) -> tuple[Matrix, Matrix]:
    """Rigid part (4,4) and scale (3,)."""
    w, x, y, z = trs["rotation"].numbers((4,)).tolist()
    scale = trs["scale"].numbers((3,))
    if scale.min() <= 0:
        raise InvalidInput.at(f"{trs.where}.scale", f"{scale.tolist()}, needs more than 0")
    return pose(trs["translation"].numbers((3,)), (x, y, z, w), trs.where), scale


def match_models(
    models: Sequence[PlacedModel],
    objects: Mapping[int, Points],
    aligned_from_raw: Matrix,
    *,
    min_thickness_m: float,
) -> tuple[CadModel, ...]:
    """Each model at the object whose aligned box overlaps its own the most; an object keeps its best one.

    Of objects that overlap alike the lowest id counts, of models the lowest name; a model that
    overlaps nothing is left out.
    """
    ids = sorted(objects)
    if not models or not ids:
        return ()
    corners = [model.box.moved(aligned_from_raw, frame=Frame.ALIGNED).corners() for model in models]
    overlap = box_iou(
        fit_boxes(corners), fit_boxes([objects[at] for at in ids]), min_thickness_m=min_thickness_m
    )
    best: dict[int, tuple[float, str, CadModel]] = {}
    for model, row in zip(models, overlap, strict=True):
        at, share = ids[int(row.argmax())], float(row.max())
        if share <= 0:
            continue
        found = CadModel(
            object_id=at,
            model_id=model.model_id,
            path=model.path,
            raw_from_canonical=model.raw_from_canonical,
            scale=model.scale,
        )
        candidate = (-share, model.model_id, found)
        if at not in best or candidate[:2] < best[at][:2]:
            best[at] = candidate
    return tuple(best[at][2] for at in sorted(best))
