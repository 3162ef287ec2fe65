"""Questions to the store and their answers: search, match, localise, embed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from xscene.types.content import ObjectBox, ObjectContent, SceneContent
from xscene.types.scenes import ModelInfo, Scene, SceneFilter
from xscene.types.values import Float32Array, Value, require_array, require_count, require_several
from xscene.types.vocabulary import Calibration, Modality, Space, Strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding(Value):
    """One vector (D,) float32 of one modality."""

    modality: Modality
    space: Space
    values: Float32Array

    def __post_init__(self) -> None:
        require_array(self.values, np.float32, (None,), "values")

    @classmethod
    def of(cls, modality: Modality, space: Space, values: ArrayLike) -> Self:
        """An embedding of any numbers (D,)."""
        return cls(modality=modality, space=space, values=np.asarray(values, np.float32))


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search.

    `targets` are the stored modalities to compare with, FUSED when empty. `weights` are of pairs
    (query, target), 1 where not named. Without `limit` the server's default counts; hits below
    `min_score` are left out.
    """

    targets: tuple[Modality, ...] = ()
    strategy: Strategy = Strategy.COMBINED
    weights: Mapping[tuple[Modality, Modality], float] = field(default_factory=dict)
    limit: int | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        require_several(self.targets, "targets")
        require_count(self.limit, "limit")


@dataclass(frozen=True, kw_only=True)
class SceneQuery:
    """Asks for scenes by content, ready vectors of space SCENE, or both; vectors need their `model_id`."""

    content: SceneContent = field(default_factory=SceneContent)
    embeddings: tuple[Embedding, ...] = ()
    model_id: str = ""
    options: SearchOptions = field(default_factory=SearchOptions)
    filter: SceneFilter = field(default_factory=SceneFilter)

    def __post_init__(self) -> None:
        require_several(self.embeddings, "embeddings")


@dataclass(frozen=True, kw_only=True)
class ObjectQuery:
    """Asks for objects by content, ready vectors of space OBJECT, or both; vectors need their `model_id`.

    Only objects with one of `labels` count; without labels, all.
    """

    content: ObjectContent = field(default_factory=ObjectContent)
    embeddings: tuple[Embedding, ...] = ()
    model_id: str = ""
    options: SearchOptions = field(default_factory=SearchOptions)
    filter: SceneFilter = field(default_factory=SceneFilter)
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_several(self.embeddings, "embeddings")
        require_several(self.labels, "labels")


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """Cosine and calibrated evidence of one pair of modalities; positive evidence speaks for a match."""

    query: Modality
    target: Modality
    cosine: float
    evidence: float


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """A modality that was left out of an answer, and why."""

    modality: Modality
    reason: str


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What was done to answer a search; without calibration no evidence was computed.

    `strategy` and `calibration` are also None where a newer server names one that this version does not know.
    """

    model: ModelInfo
    strategy: Strategy | None
    calibration: Calibration | None
    query_modalities: tuple[Modality, ...]
    degraded: tuple[Degradation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SceneHit:
    """A scene found; `missing` names the targets that it does not have."""

    scene: Scene
    score: float
    pairs: tuple[PairScore, ...] = ()
    missing: tuple[Modality, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SceneHits:
    """Scenes found, best first."""

    hits: tuple[SceneHit, ...]
    report: SearchReport


@dataclass(frozen=True, kw_only=True)
class ObjectHit:
    """An object found; `missing` names the targets that it does not have."""

    scene_id: str
    object_id: str
    score: float
    label: str = ""
    box: ObjectBox | None = None
    pairs: tuple[PairScore, ...] = ()
    missing: tuple[Modality, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObjectHits:
    """Objects found, best first."""

    hits: tuple[ObjectHit, ...]
    report: SearchReport


@dataclass(frozen=True, kw_only=True)
class MatchQuery:
    """Asks which objects of one stored scene are which of another; without modalities, FUSED."""

    source_scene_id: str
    target_scene_id: str
    source_modalities: tuple[Modality, ...] = ()
    target_modalities: tuple[Modality, ...] = ()
    min_score: float | None = None

    def __post_init__(self) -> None:
        require_several(self.source_modalities, "source_modalities")
        require_several(self.target_modalities, "target_modalities")


@dataclass(frozen=True, kw_only=True)
class ObjectMatch:
    """Two objects that are taken for one."""

    source_object_id: str
    target_object_id: str
    score: float
    pairs: tuple[PairScore, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObjectMatches:
    """Objects paired one to one, best first, and those left over; `calibration` as in a `SearchReport`."""

    matches: tuple[ObjectMatch, ...]
    unmatched_source_ids: tuple[str, ...]
    unmatched_target_ids: tuple[str, ...]
    model: ModelInfo
    calibration: Calibration | None


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """How to localise; `memory` is the share of the evidence kept between observations, above 0 to 1.

    Without `memory` or `limit` the server's default counts.
    """

    filter: SceneFilter = field(default_factory=SceneFilter)
    targets: tuple[Modality, ...] = ()
    memory: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        require_several(self.targets, "targets")
        require_count(self.limit, "limit")


@dataclass(frozen=True, kw_only=True)
class SceneBelief:
    """How likely one scene is, 0 to 1."""

    scene_id: str
    place_id: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Belief:
    """The belief after one observation: scenes, likeliest first, and the chance that it is none of them."""

    observation: int
    beliefs: tuple[SceneBelief, ...]
    unknown_probability: float
    model: ModelInfo
    degraded: tuple[Degradation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """Embeddings of what was sent, one for each modality that was embedded, and FUSED."""

    embeddings: tuple[Embedding, ...]
    model: ModelInfo
    degraded: tuple[Degradation, ...] = ()
