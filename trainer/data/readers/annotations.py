"""What data sets say of objects beside their shape: oriented boxes, sentences, NYU40 classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.documents import Value, read_json
from trainer.data.readers.labels import read_labels
from trainer.data.readers.limits import ScanLimits
from trainer.data.scans import Referral
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame

REFERRALS = Path("sceneverse", "ssg_ref_rel2_template.json")
LABELS = "scannetv2-labels.combined.tsv"
MAX_OBJECT_ID = (1 << 31) - 1
NYU40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *(
        "picture",
        "counter",
        "blinds",
        "desk",
        "shelves",
        "curtain",
        "dresser",
        "pillow",
        "mirror",
        "floor mat",
    ),
    *("clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower curtain", "box"),
    *("whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag"),
    *("otherstructure", "otherfurniture", "otherprop"),
)
"""Names of the classes; the first is number 1."""


class ObjectFiles:
    """Files of a data set that speak of all its scans, each read once."""

    def __init__(self, folder: Path, limits: ScanLimits) -> None:
        self._folder, self._limits = folder, limits

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, whether they are there or not."""
        return self._folder / REFERRALS, self._folder / LABELS

    @cached_property
    def referrals(self) -> Mapping[str, tuple[Referral, ...]]:
        """SceneVerse's sentences of each scan, with target ids as they stand there; none without the file."""
        path = self._folder / REFERRALS
        if not path.exists():
            return {}
        found: dict[str, list[Referral]] = {}
        for item in read_json(path, max_bytes=self._limits.max_json_bytes).items():
            referral = Referral(text=item["utterance"].text(), target_id=item["target_id"].integer())
            found.setdefault(item["scan_id"].text(), []).append(referral)
        return {scan_id: tuple(referrals) for scan_id, referrals in found.items()}

    @cached_property
    def nyu40_ids(self) -> Mapping[str, int]:
        """NYU40 class of each label of ScanNet's table; none without the file."""
        path = self._folder / LABELS
        return read_labels(path).nyu40 if path.exists() else {}

    def nyu40(self, label: str) -> int | None:
        """NYU40 class of a label; None where it has none."""
        return nyu40_or_none(self.nyu40_ids.get(label, 0))


def by_object(described: Iterable[Value], *keys: str) -> dict[int, Value]:
    """What is said of each object, whose id stands under the first of these keys that is there."""
    found: dict[int, Value] = {}
    for one in described:
        id_value = next((known for key in keys if (known := one.get(key)) is not None), None) or one[keys[0]]
        object_id = id_value.integer()
        if object_id in found or not 0 <= object_id <= MAX_OBJECT_ID:
            raise InvalidInput.at(id_value.where, f"{object_id} is negative, too large or given twice")
        found[object_id] = one
    return found


def nyu40_or_none(number: int) -> int | None:
    """A class of NYU40, or None for 0 and whatever else is none."""
    return number if 1 <= number <= len(NYU40) else None


def oriented_box(obb: Value) -> OrientedBox:
    """A box in the raw frame whose axes stand in rows, one after the other."""
    axes = obb["normalizedAxes"]
    nested = isinstance(axes.plain, list) and len(axes.plain) == 3
    rotation = axes.numbers((3, 3) if nested else (9,)).reshape(3, 3).T.copy()
    if np.linalg.det(rotation) < 0:
        # An axis and its opposite span the same box.
        rotation[:, 2] *= -1
    centre, size = obb["centroid"].numbers((3,)), obb["axesLengths"].numbers((3,))
    try:
        return OrientedBox(centre, size, rotation, Frame.RAW)
    except InvalidInput as error:
        raise InvalidInput.at(obb.where, error.message) from error


def majority(ids: NDArray[np.integer], classes: NDArray[np.integer]) -> dict[int, int]:
    """The most frequent class of each id, of equals the lowest; both of each vertex (V,)."""
    # One number each, as whole columns sort many times slower; classes have at most 16 bits.
    keys, counts = np.unique((ids.astype(np.int64) << 16) + classes.astype(np.int64), return_counts=True)
    of, found = keys >> 16, keys & 0xFFFF
    # Sorted by id, then from rare to frequent, then from high class to low: the last of an id wins.
    order = np.lexsort((-found, counts, of))
    return {int(one): int(label) for one, label in zip(of[order], found[order], strict=True)}
