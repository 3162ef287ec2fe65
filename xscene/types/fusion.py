"""What the fusion service takes and gives.

Shapes: N objects, M of them with one modality, F backbone width, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xscene.types.scenes import ModelInfo
from xscene.types.values import Float32Array, Uint32Array, Value, require_array, require_several
from xscene.types.vocabulary import Modality

FuseItem: TypeAlias = Mapping[Modality, Float32Array]
"""The embeddings (D,) of one scene, by modality."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FuseQuery(Value):
    """Items to fuse with one model; without `model_id`, the one loaded last."""

    items: tuple[FuseItem, ...]
    model_id: str = ""

    def __post_init__(self) -> None:
        require_several(self.items, "items")


@dataclass(frozen=True, kw_only=True, eq=False)
class FusedItem(Value):
    """The fused vector (D,) of one scene, and the share of each modality; shares sum to 1."""

    fused: Float32Array
    weights: Mapping[Modality, float]

    def __post_init__(self) -> None:
        require_array(self.fused, np.float32, (None,), "fused")


@dataclass(frozen=True, kw_only=True)
class FuseResult:
    """Fused vectors in the order of the items sent."""

    items: tuple[FusedItem, ...]
    model: ModelInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectFeatures(Value):
    """Backbone features (M,F) of the objects at `rows` (M,), ascending, that have one modality."""

    modality: Modality
    rows: Uint32Array
    features: Float32Array

    def __post_init__(self) -> None:
        require_array(self.rows, np.uint32, (None,), "rows")
        require_array(self.features, np.float32, (len(self.rows), None), "features")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectsQuery(Value):
    """The objects of one scene: N names, and where they are.

    `locations` (N,6) holds the mean of the points and the box size in metres, aligned frame; without it
    no location is used. Without `model_id` the model loaded last is taken.
    """

    object_ids: tuple[str, ...]
    features: tuple[ObjectFeatures, ...]
    locations: Float32Array | None = None
    model_id: str = ""

    def __post_init__(self) -> None:
        require_several(self.object_ids, "object_ids")
        require_several(self.features, "features")
        if self.locations is not None:
            require_array(self.locations, np.float32, (len(self.object_ids), 6), "locations")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectEmbeddings(Value):
    """Instance embeddings (M,D) of the objects at `rows` (M,), ascending, that have one modality."""

    modality: Modality
    rows: Uint32Array
    embeddings: Float32Array

    def __post_init__(self) -> None:
        require_array(self.rows, np.uint32, (None,), "rows")
        require_array(self.embeddings, np.float32, (len(self.rows), None), "embeddings")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectsResult(Value):
    """Instance embeddings by modality, FUSED among them, and the summary (D,) of the scene, F_S."""

    objects: tuple[ObjectEmbeddings, ...]
    summary: Float32Array
    model: ModelInfo

    def __post_init__(self) -> None:
        require_array(self.summary, np.float32, (None,), "summary")
