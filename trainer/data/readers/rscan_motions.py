"""What `3RScan.json` says of a rescan: how it lies in its reference, what moved, what is gone.

Its matrices stand column after column. That of a rescan leads to the reference, those of objects lead
from the reference to the rescan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainer.data.readers.documents import Value
from trainer.data.scans import ObjectMotion, RescanLink
from xscene.errors import LimitExceeded
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Matrix, apply, inverse, matrix_from_numbers, rigid

MAX_SHIFT_M = 50.0
# Within these an object counts as one that stayed.
STAYED_DEGREES, STAYED_M = 1.0, 0.05


def rescan_link(
    rescan: Value,
    reference_id: str,
    boxes: Mapping[int, OrientedBox],
    ids: tuple[frozenset[int], frozenset[int]],
    max_shift_m: float,
) -> RescanLink:
    """The link of a rescan with these boxes; ids of its objects and of the reference's."""
    scene = _matrix(rescan["transform"], max_shift_m)
    motions = tuple(
        _motion(item, scene, boxes, max_shift_m) for item in (rescan.get("rigid") or Value([], "")).items()
    )
    removed = tuple(item.integer() for item in (rescan.get("removed") or Value([], "")).items())
    here, before = ids
    known = {motion.object_id for motion in motions}
    return RescanLink(
        reference_scan_id=reference_id,
        reference_from_scan=scene,
        motions=motions,
        added_ids=tuple(sorted(here - before - known)) if before else (),
        removed_ids=removed,
    )


def _matrix(value: Value, max_shift_m: float) -> Matrix:
    matrix = matrix_from_numbers(value.numbers((16,)), order="column", field=value.where)
    # Checked first: read row by row, the shift would stand in the last row.
    checked = rigid(matrix, value.where)
    if (shift_m := float(np.linalg.norm(checked[:3, 3]))) >= max_shift_m:
        raise LimitExceeded.of(value.where, value=round(shift_m, 3), limit=max_shift_m, unit="m")
    return checked


def _motion(item: Value, scene: Matrix, boxes: Mapping[int, OrientedBox], max_shift_m: float) -> ObjectMotion:
    back = inverse(_matrix(item["transform"], max_shift_m), item.where)
    object_id = item["instance_rescan"].integer()
    # A turn about a far-off origin would look like a shift, so the shift is that of the object's middle.
    middle = boxes[object_id].centre if object_id in boxes else np.zeros(3)
    shift_m = np.linalg.norm(apply(back, middle[None]) - apply(scene, middle[None]))
    return ObjectMotion(
        object_id=object_id,
        reference_object_id=item["instance_reference"].integer(),
        reference_from_scan=back,
        moved=bool(shift_m > STAYED_M or _degrees(back[:3, :3] @ scene[:3, :3].T) > STAYED_DEGREES),
    )


def _degrees(rotation: Matrix) -> float:
    """The angle of a rotation (3,3)."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0))))
