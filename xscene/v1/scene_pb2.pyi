import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from xscene.v1 import annotations_pb2 as _annotations_pb2
from xscene.v1 import common_pb2 as _common_pb2
from xscene.v1 import content_pb2 as _content_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_MODE_UNSPECIFIED: _ClassVar[IngestMode]
    INGEST_MODE_REPLACE: _ClassVar[IngestMode]
    INGEST_MODE_MERGE: _ClassVar[IngestMode]

class ModalityState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_STATE_UNSPECIFIED: _ClassVar[ModalityState]
    MODALITY_STATE_STORED: _ClassVar[ModalityState]
    MODALITY_STATE_PENDING: _ClassVar[ModalityState]
    MODALITY_STATE_FAILED: _ClassVar[ModalityState]

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_FUSED: _ClassVar[Strategy]
    STRATEGY_COMBINED: _ClassVar[Strategy]
    STRATEGY_RRF: _ClassVar[Strategy]
    STRATEGY_MAX: _ClassVar[Strategy]

class Calibration(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALIBRATION_UNSPECIFIED: _ClassVar[Calibration]
    CALIBRATION_FITTED: _ClassVar[Calibration]
    CALIBRATION_Z_SCORE: _ClassVar[Calibration]
INGEST_MODE_UNSPECIFIED: IngestMode
INGEST_MODE_REPLACE: IngestMode
INGEST_MODE_MERGE: IngestMode
MODALITY_STATE_UNSPECIFIED: ModalityState
MODALITY_STATE_STORED: ModalityState
MODALITY_STATE_PENDING: ModalityState
MODALITY_STATE_FAILED: ModalityState
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_FUSED: Strategy
STRATEGY_COMBINED: Strategy
STRATEGY_RRF: Strategy
STRATEGY_MAX: Strategy
CALIBRATION_UNSPECIFIED: Calibration
CALIBRATION_FITTED: Calibration
CALIBRATION_Z_SCORE: Calibration

class SceneHeader(_message.Message):
    __slots__ = ("scene_id", "place_id", "captured_at", "revision", "mode", "labels", "location", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    place_id: str
    captured_at: _timestamp_pb2.Timestamp
    revision: int
    mode: IngestMode
    labels: _containers.RepeatedScalarFieldContainer[str]
    location: _content_pb2.GeoPoint
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, scene_id: _Optional[str] = ..., place_id: _Optional[str] = ..., captured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ..., mode: _Optional[_Union[IngestMode, str]] = ..., labels: _Optional[_Iterable[str]] = ..., location: _Optional[_Union[_content_pb2.GeoPoint, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class IngestItem(_message.Message):
    __slots__ = ("payload_bytes", "object_id", "text", "image", "floorplan", "point_cloud", "mesh", "object")
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FLOORPLAN_FIELD_NUMBER: _ClassVar[int]
    POINT_CLOUD_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    payload_bytes: int
    object_id: str
    text: str
    image: _content_pb2.Image
    floorplan: _content_pb2.Image
    point_cloud: _content_pb2.Cloud
    mesh: _content_pb2.Mesh
    object: _content_pb2.SceneObject
    def __init__(self, payload_bytes: _Optional[int] = ..., object_id: _Optional[str] = ..., text: _Optional[str] = ..., image: _Optional[_Union[_content_pb2.Image, _Mapping]] = ..., floorplan: _Optional[_Union[_content_pb2.Image, _Mapping]] = ..., point_cloud: _Optional[_Union[_content_pb2.Cloud, _Mapping]] = ..., mesh: _Optional[_Union[_content_pb2.Mesh, _Mapping]] = ..., object: _Optional[_Union[_content_pb2.SceneObject, _Mapping]] = ...) -> None: ...

class IngestEnd(_message.Message):
    __slots__ = ("num_items",)
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    num_items: int
    def __init__(self, num_items: _Optional[int] = ...) -> None: ...

class IngestSceneRequest(_message.Message):
    __slots__ = ("header", "item", "chunk", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: SceneHeader
    item: IngestItem
    chunk: bytes
    end: IngestEnd
    def __init__(self, header: _Optional[_Union[SceneHeader, _Mapping]] = ..., item: _Optional[_Union[IngestItem, _Mapping]] = ..., chunk: _Optional[bytes] = ..., end: _Optional[_Union[IngestEnd, _Mapping]] = ...) -> None: ...

class ModalityOutcome(_message.Message):
    __slots__ = ("modality", "state", "reason", "num_received", "num_kept")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NUM_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    NUM_KEPT_FIELD_NUMBER: _ClassVar[int]
    modality: _common_pb2.Modality
    state: ModalityState
    reason: str
    num_received: int
    num_kept: int
    def __init__(self, modality: _Optional[_Union[_common_pb2.Modality, str]] = ..., state: _Optional[_Union[ModalityState, str]] = ..., reason: _Optional[str] = ..., num_received: _Optional[int] = ..., num_kept: _Optional[int] = ...) -> None: ...

class IngestSceneResponse(_message.Message):
    __slots__ = ("scene_id", "revision", "model", "outcomes", "num_objects")
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    NUM_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    revision: int
    model: _common_pb2.ModelInfo
    outcomes: _containers.RepeatedCompositeFieldContainer[ModalityOutcome]
    num_objects: int
    def __init__(self, scene_id: _Optional[str] = ..., revision: _Optional[int] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., outcomes: _Optional[_Iterable[_Union[ModalityOutcome, _Mapping]]] = ..., num_objects: _Optional[int] = ...) -> None: ...

class Scene(_message.Message):
    __slots__ = ("header", "modalities", "num_objects", "latest", "model")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    NUM_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    header: SceneHeader
    modalities: _containers.RepeatedCompositeFieldContainer[ModalityOutcome]
    num_objects: int
    latest: bool
    model: _common_pb2.ModelInfo
    def __init__(self, header: _Optional[_Union[SceneHeader, _Mapping]] = ..., modalities: _Optional[_Iterable[_Union[ModalityOutcome, _Mapping]]] = ..., num_objects: _Optional[int] = ..., latest: _Optional[bool] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class GetSceneRequest(_message.Message):
    __slots__ = ("scene_id",)
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    def __init__(self, scene_id: _Optional[str] = ...) -> None: ...

class GetSceneResponse(_message.Message):
    __slots__ = ("scene",)
    SCENE_FIELD_NUMBER: _ClassVar[int]
    scene: Scene
    def __init__(self, scene: _Optional[_Union[Scene, _Mapping]] = ...) -> None: ...

class ListScenesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: _content_pb2.SceneFilter
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[_content_pb2.SceneFilter, _Mapping]] = ...) -> None: ...

class ListScenesResponse(_message.Message):
    __slots__ = ("scenes", "next_page_token")
    SCENES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    scenes: _containers.RepeatedCompositeFieldContainer[Scene]
    next_page_token: str
    def __init__(self, scenes: _Optional[_Iterable[_Union[Scene, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteSceneRequest(_message.Message):
    __slots__ = ("scene_id",)
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    def __init__(self, scene_id: _Optional[str] = ...) -> None: ...

class DeleteSceneResponse(_message.Message):
    __slots__ = ("num_objects",)
    NUM_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    num_objects: int
    def __init__(self, num_objects: _Optional[int] = ...) -> None: ...

class PairWeight(_message.Message):
    __slots__ = ("query", "target", "weight")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    query: _common_pb2.Modality
    target: _common_pb2.Modality
    weight: float
    def __init__(self, query: _Optional[_Union[_common_pb2.Modality, str]] = ..., target: _Optional[_Union[_common_pb2.Modality, str]] = ..., weight: _Optional[float] = ...) -> None: ...

class PairScore(_message.Message):
    __slots__ = ("query", "target", "cosine", "evidence")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    query: _common_pb2.Modality
    target: _common_pb2.Modality
    cosine: float
    evidence: float
    def __init__(self, query: _Optional[_Union[_common_pb2.Modality, str]] = ..., target: _Optional[_Union[_common_pb2.Modality, str]] = ..., cosine: _Optional[float] = ..., evidence: _Optional[float] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("targets", "strategy", "weights", "limit", "min_score")
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    strategy: Strategy
    weights: _containers.RepeatedCompositeFieldContainer[PairWeight]
    limit: int
    min_score: float
    def __init__(self, targets: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., weights: _Optional[_Iterable[_Union[PairWeight, _Mapping]]] = ..., limit: _Optional[int] = ..., min_score: _Optional[float] = ...) -> None: ...

class SearchReport(_message.Message):
    __slots__ = ("model", "strategy", "calibration", "query_modalities", "degraded")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    QUERY_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    strategy: Strategy
    calibration: Calibration
    query_modalities: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    degraded: _containers.RepeatedCompositeFieldContainer[_common_pb2.Degradation]
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., calibration: _Optional[_Union[Calibration, str]] = ..., query_modalities: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., degraded: _Optional[_Iterable[_Union[_common_pb2.Degradation, _Mapping]]] = ...) -> None: ...

class SearchScenesRequest(_message.Message):
    __slots__ = ("content", "embeddings", "model_id", "options", "filter")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    content: _content_pb2.SceneContent
    embeddings: _containers.RepeatedCompositeFieldContainer[_common_pb2.Embedding]
    model_id: str
    options: SearchOptions
    filter: _content_pb2.SceneFilter
    def __init__(self, content: _Optional[_Union[_content_pb2.SceneContent, _Mapping]] = ..., embeddings: _Optional[_Iterable[_Union[_common_pb2.Embedding, _Mapping]]] = ..., model_id: _Optional[str] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ..., filter: _Optional[_Union[_content_pb2.SceneFilter, _Mapping]] = ...) -> None: ...

class SceneHit(_message.Message):
    __slots__ = ("scene", "score", "pairs", "missing")
    SCENE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    scene: Scene
    score: float
    pairs: _containers.RepeatedCompositeFieldContainer[PairScore]
    missing: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    def __init__(self, scene: _Optional[_Union[Scene, _Mapping]] = ..., score: _Optional[float] = ..., pairs: _Optional[_Iterable[_Union[PairScore, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ...) -> None: ...

class SearchScenesResponse(_message.Message):
    __slots__ = ("hits", "report")
    HITS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[SceneHit]
    report: SearchReport
    def __init__(self, hits: _Optional[_Iterable[_Union[SceneHit, _Mapping]]] = ..., report: _Optional[_Union[SearchReport, _Mapping]] = ...) -> None: ...

class SearchObjectsRequest(_message.Message):
    __slots__ = ("content", "embeddings", "model_id", "options", "filter", "labels")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    content: _content_pb2.ObjectContent
    embeddings: _containers.RepeatedCompositeFieldContainer[_common_pb2.Embedding]
    model_id: str
    options: SearchOptions
    filter: _content_pb2.SceneFilter
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, content: _Optional[_Union[_content_pb2.ObjectContent, _Mapping]] = ..., embeddings: _Optional[_Iterable[_Union[_common_pb2.Embedding, _Mapping]]] = ..., model_id: _Optional[str] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ..., filter: _Optional[_Union[_content_pb2.SceneFilter, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class ObjectHit(_message.Message):
    __slots__ = ("scene_id", "object_id", "label", "box", "score", "pairs", "missing")
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    object_id: str
    label: str
    box: _common_pb2.OrientedBox
    score: float
    pairs: _containers.RepeatedCompositeFieldContainer[PairScore]
    missing: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    def __init__(self, scene_id: _Optional[str] = ..., object_id: _Optional[str] = ..., label: _Optional[str] = ..., box: _Optional[_Union[_common_pb2.OrientedBox, _Mapping]] = ..., score: _Optional[float] = ..., pairs: _Optional[_Iterable[_Union[PairScore, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ...) -> None: ...

class SearchObjectsResponse(_message.Message):
    __slots__ = ("hits", "report")
    HITS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[ObjectHit]
    report: SearchReport
    def __init__(self, hits: _Optional[_Iterable[_Union[ObjectHit, _Mapping]]] = ..., report: _Optional[_Union[SearchReport, _Mapping]] = ...) -> None: ...

class MatchObjectsRequest(_message.Message):
    __slots__ = ("source_scene_id", "target_scene_id", "source_modalities", "target_modalities", "min_score")
    SOURCE_SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    source_scene_id: str
    target_scene_id: str
    source_modalities: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    target_modalities: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    min_score: float
    def __init__(self, source_scene_id: _Optional[str] = ..., target_scene_id: _Optional[str] = ..., source_modalities: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., target_modalities: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., min_score: _Optional[float] = ...) -> None: ...

class ObjectMatch(_message.Message):
    __slots__ = ("source_object_id", "target_object_id", "score", "pairs")
    SOURCE_OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    source_object_id: str
    target_object_id: str
    score: float
    pairs: _containers.RepeatedCompositeFieldContainer[PairScore]
    def __init__(self, source_object_id: _Optional[str] = ..., target_object_id: _Optional[str] = ..., score: _Optional[float] = ..., pairs: _Optional[_Iterable[_Union[PairScore, _Mapping]]] = ...) -> None: ...

class MatchObjectsResponse(_message.Message):
    __slots__ = ("matches", "unmatched_source_ids", "unmatched_target_ids", "model", "calibration")
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_SOURCE_IDS_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_TARGET_IDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    matches: _containers.RepeatedCompositeFieldContainer[ObjectMatch]
    unmatched_source_ids: _containers.RepeatedScalarFieldContainer[str]
    unmatched_target_ids: _containers.RepeatedScalarFieldContainer[str]
    model: _common_pb2.ModelInfo
    calibration: Calibration
    def __init__(self, matches: _Optional[_Iterable[_Union[ObjectMatch, _Mapping]]] = ..., unmatched_source_ids: _Optional[_Iterable[str]] = ..., unmatched_target_ids: _Optional[_Iterable[str]] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, str]] = ...) -> None: ...

class LocalizeOptions(_message.Message):
    __slots__ = ("filter", "targets", "memory", "limit")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    filter: _content_pb2.SceneFilter
    targets: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    memory: float
    limit: int
    def __init__(self, filter: _Optional[_Union[_content_pb2.SceneFilter, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., memory: _Optional[float] = ..., limit: _Optional[int] = ...) -> None: ...

class LocalizeRequest(_message.Message):
    __slots__ = ("options", "observation")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    options: LocalizeOptions
    observation: _content_pb2.SceneContent
    def __init__(self, options: _Optional[_Union[LocalizeOptions, _Mapping]] = ..., observation: _Optional[_Union[_content_pb2.SceneContent, _Mapping]] = ...) -> None: ...

class SceneBelief(_message.Message):
    __slots__ = ("scene_id", "place_id", "probability")
    SCENE_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_ID_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    scene_id: str
    place_id: str
    probability: float
    def __init__(self, scene_id: _Optional[str] = ..., place_id: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class LocalizeResponse(_message.Message):
    __slots__ = ("observation", "beliefs", "unknown_probability", "degraded", "model")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    BELIEFS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    observation: int
    beliefs: _containers.RepeatedCompositeFieldContainer[SceneBelief]
    unknown_probability: float
    degraded: _containers.RepeatedCompositeFieldContainer[_common_pb2.Degradation]
    model: _common_pb2.ModelInfo
    def __init__(self, observation: _Optional[int] = ..., beliefs: _Optional[_Iterable[_Union[SceneBelief, _Mapping]]] = ..., unknown_probability: _Optional[float] = ..., degraded: _Optional[_Iterable[_Union[_common_pb2.Degradation, _Mapping]]] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("scene", "object")
    SCENE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    scene: _content_pb2.SceneContent
    object: _content_pb2.ObjectContent
    def __init__(self, scene: _Optional[_Union[_content_pb2.SceneContent, _Mapping]] = ..., object: _Optional[_Union[_content_pb2.ObjectContent, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings", "model", "degraded")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_common_pb2.Embedding]
    model: _common_pb2.ModelInfo
    degraded: _containers.RepeatedCompositeFieldContainer[_common_pb2.Degradation]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_common_pb2.Embedding, _Mapping]]] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., degraded: _Optional[_Iterable[_Union[_common_pb2.Degradation, _Mapping]]] = ...) -> None: ...

class Reindex(_message.Message):
    __slots__ = ("reindex_id", "state", "from_model_id", "to_model_id", "num_scenes", "num_done", "num_failed", "created_at", "updated_at", "error")
    REINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FROM_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TO_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_SCENES_FIELD_NUMBER: _ClassVar[int]
    NUM_DONE_FIELD_NUMBER: _ClassVar[int]
    NUM_FAILED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    reindex_id: str
    state: _common_pb2.RunState
    from_model_id: str
    to_model_id: str
    num_scenes: int
    num_done: int
    num_failed: int
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    error: str
    def __init__(self, reindex_id: _Optional[str] = ..., state: _Optional[_Union[_common_pb2.RunState, str]] = ..., from_model_id: _Optional[str] = ..., to_model_id: _Optional[str] = ..., num_scenes: _Optional[int] = ..., num_done: _Optional[int] = ..., num_failed: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class StartReindexRequest(_message.Message):
    __slots__ = ("reindex_id", "bundle")
    REINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    reindex_id: str
    bundle: str
    def __init__(self, reindex_id: _Optional[str] = ..., bundle: _Optional[str] = ...) -> None: ...

class StartReindexResponse(_message.Message):
    __slots__ = ("reindex",)
    REINDEX_FIELD_NUMBER: _ClassVar[int]
    reindex: Reindex
    def __init__(self, reindex: _Optional[_Union[Reindex, _Mapping]] = ...) -> None: ...

class GetReindexRequest(_message.Message):
    __slots__ = ("reindex_id",)
    REINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    reindex_id: str
    def __init__(self, reindex_id: _Optional[str] = ...) -> None: ...

class GetReindexResponse(_message.Message):
    __slots__ = ("reindex",)
    REINDEX_FIELD_NUMBER: _ClassVar[int]
    reindex: Reindex
    def __init__(self, reindex: _Optional[_Union[Reindex, _Mapping]] = ...) -> None: ...

class WatchReindexRequest(_message.Message):
    __slots__ = ("reindex_id", "offset")
    REINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    reindex_id: str
    offset: int
    def __init__(self, reindex_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class WatchReindexResponse(_message.Message):
    __slots__ = ("offset", "reindex", "log")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REINDEX_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    offset: int
    reindex: Reindex
    log: str
    def __init__(self, offset: _Optional[int] = ..., reindex: _Optional[_Union[Reindex, _Mapping]] = ..., log: _Optional[str] = ...) -> None: ...

class CancelReindexRequest(_message.Message):
    __slots__ = ("reindex_id",)
    REINDEX_ID_FIELD_NUMBER: _ClassVar[int]
    reindex_id: str
    def __init__(self, reindex_id: _Optional[str] = ...) -> None: ...

class CancelReindexResponse(_message.Message):
    __slots__ = ("reindex",)
    REINDEX_FIELD_NUMBER: _ClassVar[int]
    reindex: Reindex
    def __init__(self, reindex: _Optional[_Union[Reindex, _Mapping]] = ...) -> None: ...
