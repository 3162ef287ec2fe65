"""Scenes as they are named, stored, listed, ingested and embedded anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from xscene.errors import InvalidInput
from xscene.types.content import Image, Mesh, PointCloud, SceneContent, SceneObject
from xscene.types.values import require_count, require_several
from xscene.types.vocabulary import IngestMode, ItemKind, Modality, ModalityState, RunState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class GeoPoint:
    """A place on Earth, WGS 84, degrees."""

    latitude_deg: float
    longitude_deg: float


@dataclass(frozen=True, kw_only=True)
class SceneHeader:
    """Names a scene: one capture of a place at a time.

    Without `place_id` the scene is its own place. Without `captured_at` it is captured now. `revision`
    grows with every change: an older one than the stored is refused, an equal one takes its place; 0
    stands for `captured_at` in microseconds.
    """

    scene_id: str
    place_id: str = ""
    captured_at: datetime | None = None
    revision: int = 0
    mode: IngestMode = IngestMode.REPLACE
    labels: tuple[str, ...] = ()
    location: GeoPoint | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_several(self.labels, "labels")
        require_aware(self.captured_at, "captured_at")
        require_count(self.revision, "revision", low=0, num_bits=64)

    def resolved(self, now: datetime) -> Self:
        """The header with place, time and revision filled in where the caller left them out."""
        captured_at = self.captured_at or now
        return replace(
            self,
            place_id=self.place_id or self.scene_id,
            captured_at=captured_at,
            revision=self.revision or max(0, (captured_at - _EPOCH) // timedelta(microseconds=1)),
        )


@dataclass(frozen=True, kw_only=True)
class SceneFilter:
    """Which scenes count; conditions that are set are joined by "and".

    One of `scene_ids`; one of `place_ids`; at least one of `labels`; `captured_from` <= time <
    `captured_before`; the latest of each place; within `radius_m` of `near`; all of
    `required_modalities`; exactly these values of `metadata`.
    """

    scene_ids: tuple[str, ...] = ()
    place_ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    captured_from: datetime | None = None
    captured_before: datetime | None = None
    latest_only: bool = False
    near: GeoPoint | None = None
    radius_m: float | None = None
    required_modalities: tuple[Modality, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("scene_ids", "place_ids", "labels", "required_modalities"):
            require_several(getattr(self, name), name)
        require_aware(self.captured_from, "captured_from")
        require_aware(self.captured_before, "captured_before")


def require_aware(moment: datetime | None, name: str) -> None:
    """Refuses a time without a time zone, which means another moment on every machine."""
    if moment is not None and moment.utcoffset() is None:
        raise InvalidInput.at(name, f"{moment.isoformat()} has no time zone")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model that an answer was made with; an untrained one gives answers without meaning."""

    model_id: str
    bundle: str
    trained: bool


@dataclass(frozen=True, kw_only=True)
class ModalityOutcome:
    """How far one modality has come, and how many of its sentences, pictures, points or meshes were kept."""

    modality: Modality
    state: ModalityState
    reason: str = ""
    num_received: int = 0
    num_kept: int = 0


@dataclass(frozen=True, kw_only=True)
class IngestOutcome:
    """What became of an ingest."""

    scene_id: str
    revision: int
    model: ModelInfo
    outcomes: tuple[ModalityOutcome, ...]
    num_objects: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A stored scene; the mode of its header means nothing."""

    header: SceneHeader
    modalities: tuple[ModalityOutcome, ...]
    num_objects: int
    latest: bool
    model: ModelInfo


@dataclass(frozen=True, kw_only=True)
class SceneListing:
    """Asks for a page of scenes; without a size the server's default."""

    filter: SceneFilter = field(default_factory=SceneFilter)
    page_size: int | None = None
    page_token: str = ""

    def __post_init__(self) -> None:
        require_count(self.page_size, "page_size")


@dataclass(frozen=True, kw_only=True)
class ScenePage:
    """Scenes ordered by id; an empty token says that this was the last page."""

    scenes: tuple[Scene, ...]
    next_page_token: str = ""


@dataclass(frozen=True, kw_only=True)
class IngestItem:
    """One thing of a scene, or of one of its objects when `object_id` is set."""

    kind: ItemKind
    value: str | Image | PointCloud | Mesh | SceneObject
    object_id: str = ""


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """All that an ingest says about a scene."""

    header: SceneHeader
    content: SceneContent
    objects: tuple[SceneObject, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReindexOrder:
    """Asks for all scenes to be embedded with a bundle; the name makes a retry start nothing twice."""

    reindex_id: str
    bundle: str


@dataclass(frozen=True, kw_only=True)
class Reindex:
    """Progress of a reindex."""

    reindex_id: str
    state: RunState
    from_model_id: str
    to_model_id: str
    num_scenes: int
    num_done: int
    num_failed: int
    created_at: datetime
    updated_at: datetime
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ReindexEvent:
    """A step of a reindex; offsets count from 0 without gaps."""

    offset: int
    reindex: Reindex
    log: str = ""
