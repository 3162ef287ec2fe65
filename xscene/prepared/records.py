"""What a prepared scene says about itself, in frozen records; each is the JSON of the same keys.

Lengths are metres in the aligned frame, with z up, unless a name says otherwise. A matrix is written
row after row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from xscene.errors import InvalidInput
from xscene.geometry.frames import Frame, Matrix, rigid
from xscene.geometry.projection import Intrinsics
from xscene.types.vocabulary import Modality

SCENE_FORMAT, SCENE_VERSION = "xscene prepared scene", 1
NO_OBJECT = -1
MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.FLOORPLAN, Modality.POINT_CLOUD, Modality.MESH)
OBJECT_MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.POINT_CLOUD, Modality.MESH)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

Triple = tuple[float, float, float]
Rows = tuple[tuple[float, ...], ...]


class Split(StrEnum):
    """What a scene may be used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def require_name(value: str, field: str) -> None:
    """Refuse what cannot name a file or a directory."""
    if not _NAME.fullmatch(value):
        raise InvalidInput.at(
            field, f"is {value[:140]!r}, needs 1 to 128 of [A-Za-z0-9._-], not starting with a dot"
        )


@dataclass(frozen=True, kw_only=True)
class ColorSums:
    """Sums over the colours of a cloud, 0 to 255, as whole numbers: merged in any order they stay exact."""

    num_points: int
    sums: tuple[int, int, int]
    squares: tuple[int, int, int]

    @classmethod
    def merged(cls, parts: Iterable[ColorSums]) -> ColorSums:
        """The sums over all of several clouds."""
        listed = list(parts)
        sums, squares = (
            tuple(sum(getattr(part, name)[channel] for part in listed) for channel in range(3))
            for name in ("sums", "squares")
        )
        num_points = sum(part.num_points for part in listed)
        return cls(num_points=num_points, sums=(*sums,), squares=(*squares,))

    def mean(self) -> Triple:
        """Mean of red, green and blue, of 1."""
        red, green, blue = (total / self.num_points / 255 for total in self.sums)
        return red, green, blue

    def std(self) -> Triple:
        """Standard deviation of red, green and blue, of 1."""
        # In whole numbers to the end: no digits cancel.
        red, green, blue = (
            float(np.sqrt((square * self.num_points - total * total) / self.num_points**2)) / 255
            for total, square in zip(self.sums, self.squares, strict=True)
        )
        return red, green, blue


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file and what its bytes must be."""

    sha256: str
    num_bytes: int


NOT_WRITTEN = FileRecord(sha256="", num_bytes=0)


@dataclass(frozen=True, kw_only=True)
class BoxRecord:
    """A box of the data set's own: the rotation's columns are its axes."""

    centre: Triple
    size: Triple
    rotation: Rows


@dataclass(frozen=True, kw_only=True)
class ObjectRecord:
    """An object with enough vertices; `mean` is of its points and no box's midpoint."""

    object_id: int
    label: str
    nyu40: int | None
    asset_id: str | None
    mean: Triple
    size: Triple
    num_vertices: int
    """In the scan, before thinning."""
    box: BoxRecord | None
    present: tuple[Modality, ...]


@dataclass(frozen=True, kw_only=True)
class ViewRecord:
    """A posed picture of the scene, with the intrinsics of the picture as stored."""

    view_id: str
    camera_to_aligned: Rows
    intrinsics: Intrinsics

    def __post_init__(self) -> None:
        rigid(np.array(self.camera_to_aligned), f"view {self.view_id}.camera_to_aligned")

    def pose(self) -> Matrix:
        """The pose (4,4)."""
        return np.array(self.camera_to_aligned)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """An object in a view: its votes (pixels, or visible points) and its box in that view's picture."""

    object_id: int
    view_id: str
    votes: int
    box_px: tuple[int, int, int, int]
    """First column, first row, and past the last column and row."""


@dataclass(frozen=True, kw_only=True)
class FloorplanRecord:
    """A plan from above; the matrix (3,3) gives column and row of a point, where it is known."""

    style: str
    pixels_from_aligned: Rows | None


@dataclass(frozen=True, kw_only=True)
class CadRecord:
    """The model that stands for an object; its surface points are in the model's own frame, unscaled."""

    object_id: int
    model_id: str
    aligned_from_canonical: Rows
    scale: Triple


@dataclass(frozen=True, kw_only=True)
class ReferralRecord:
    """A sentence about an object that the scene has."""

    text: str
    target_id: int
    anchor_ids: tuple[int, ...]
    relation: str


@dataclass(frozen=True, kw_only=True)
class MotionRecord:
    """Where an object of a rescan was in the reference."""

    object_id: int
    reference_object_id: int
    reference_from_scan: Rows
    moved: bool


@dataclass(frozen=True, kw_only=True)
class RescanRecord:
    """How a rescan lies in its reference; matrices are between the raw frames of the two."""

    reference_scene_id: str
    reference_from_scan: Rows
    motions: tuple[MotionRecord, ...]
    added_ids: tuple[int, ...]
    removed_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What the scan held, and what of it was left out."""

    num_vertices: int
    num_objects: int
    small_object_ids: tuple[int, ...]
    num_views: int
    untracked_view_ids: tuple[str, ...]
    num_referrals: int


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """All of a prepared scene but its arrays."""

    format: str = SCENE_FORMAT
    version: int = SCENE_VERSION
    scene_id: str
    place_id: str
    dataset: str
    split: Split
    is_reference: bool
    label: str
    frame: Frame = Frame.ALIGNED
    aligned_from_raw: Rows
    settings_digest: str
    present: tuple[Modality, ...]
    num_points: int
    color_sums: ColorSums | None
    """None where the scan has no colours."""
    objects: tuple[ObjectRecord, ...]
    views: tuple[ViewRecord, ...]
    num_crop_levels: int
    sightings: tuple[Sighting, ...]
    floorplans: tuple[FloorplanRecord, ...]
    cad: tuple[CadRecord, ...]
    num_cad_points: int
    referrals: tuple[ReferralRecord, ...]
    rescan: RescanRecord | None
    source: SourceReport
    arrays: FileRecord = NOT_WRITTEN

    def __post_init__(self) -> None:
        require_name(self.scene_id, "scene_id")
        if self.frame is not Frame.ALIGNED:
            raise InvalidInput.at("frame", f"is {self.frame}, needs {Frame.ALIGNED}")
        rigid(np.array(self.aligned_from_raw), "aligned_from_raw")
        self._require_known_objects()
        self._require_true_presence()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending."""
        return tuple(each.object_id for each in self.objects)

    def _require_known_objects(self) -> None:
        ids = self.object_ids
        if list(ids) != sorted(set(ids)):
            raise InvalidInput.at("objects", "ids need to ascend, each once")
        groups = (
            ("sightings", [each.object_id for each in self.sightings]),
            ("cad", [each.object_id for each in self.cad]),
            ("referrals", [each.target_id for each in self.referrals]),
        )
        for field, named in groups:
            if strangers := sorted(set(named) - set(ids)):
                raise InvalidInput.at(field, f"names object {strangers[0]}, which the scene does not have")

    def _require_true_presence(self) -> None:
        true = scene_presence(
            referrals=self.referrals,
            views=self.views,
            floorplans=self.floorplans,
            num_points=self.num_points,
            cad=self.cad,
        )
        if self.present != true:
            raise InvalidInput.at("present", f"says {_listed(self.present)}, the scene has {_listed(true)}")
        objects = object_presence(
            self.object_ids, referrals=self.referrals, sightings=self.sightings, cad=self.cad
        )
        for each, has in zip(self.objects, objects, strict=True):
            if each.present != has:
                raise InvalidInput.at(
                    f"objects[{each.object_id}].present",
                    f"says {_listed(each.present)}, the object has {_listed(has)}",
                )


def scene_presence(
    *,
    referrals: Sequence[ReferralRecord],
    views: Sequence[ViewRecord],
    floorplans: Sequence[FloorplanRecord],
    num_points: int,
    cad: Sequence[CadRecord],
) -> tuple[Modality, ...]:
    """Modalities that the content of a scene has."""
    has = (len(referrals), len(views), len(floorplans), num_points, len(cad))
    return tuple(each for each, count in zip(MODALITIES, has, strict=True) if count)


def object_presence(
    object_ids: Sequence[int],
    *,
    referrals: Sequence[ReferralRecord],
    sightings: Sequence[Sighting],
    cad: Sequence[CadRecord],
) -> tuple[tuple[Modality, ...], ...]:
    """Modalities that the content of each object has; the cloud holds points of every one."""
    holders = (
        {each.target_id for each in referrals},
        {each.object_id for each in sightings},
        set(object_ids),
        {each.object_id for each in cad},
    )
    return tuple(
        tuple(each for each, ids in zip(OBJECT_MODALITIES, holders, strict=True) if object_id in ids)
        for object_id in object_ids
    )


def _listed(modalities: Iterable[Modality]) -> str:
    return ", ".join(modalities) or "none"
