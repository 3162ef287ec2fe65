from xscene.v1 import annotations_pb2 as _annotations_pb2
from xscene.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FuseItem(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_common_pb2.Embedding]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_common_pb2.Embedding, _Mapping]]] = ...) -> None: ...

class FuseRequest(_message.Message):
    __slots__ = ("model_id", "items")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    items: _containers.RepeatedCompositeFieldContainer[FuseItem]
    def __init__(self, model_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[FuseItem, _Mapping]]] = ...) -> None: ...

class FusedItem(_message.Message):
    __slots__ = ("fused", "weights")
    FUSED_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    fused: _common_pb2.Embedding
    weights: _containers.RepeatedCompositeFieldContainer[ModalityWeight]
    def __init__(self, fused: _Optional[_Union[_common_pb2.Embedding, _Mapping]] = ..., weights: _Optional[_Iterable[_Union[ModalityWeight, _Mapping]]] = ...) -> None: ...

class ModalityWeight(_message.Message):
    __slots__ = ("modality", "weight")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    modality: _common_pb2.Modality
    weight: float
    def __init__(self, modality: _Optional[_Union[_common_pb2.Modality, str]] = ..., weight: _Optional[float] = ...) -> None: ...

class FuseResponse(_message.Message):
    __slots__ = ("model", "items")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    items: _containers.RepeatedCompositeFieldContainer[FusedItem]
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., items: _Optional[_Iterable[_Union[FusedItem, _Mapping]]] = ...) -> None: ...

class ObjectFeatures(_message.Message):
    __slots__ = ("modality", "rows", "features")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    modality: _common_pb2.Modality
    rows: _containers.RepeatedScalarFieldContainer[int]
    features: _common_pb2.Tensor
    def __init__(self, modality: _Optional[_Union[_common_pb2.Modality, str]] = ..., rows: _Optional[_Iterable[int]] = ..., features: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...

class EmbedObjectsRequest(_message.Message):
    __slots__ = ("model_id", "object_ids", "locations", "features")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    LOCATIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    object_ids: _containers.RepeatedScalarFieldContainer[str]
    locations: _common_pb2.Tensor
    features: _containers.RepeatedCompositeFieldContainer[ObjectFeatures]
    def __init__(self, model_id: _Optional[str] = ..., object_ids: _Optional[_Iterable[str]] = ..., locations: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ..., features: _Optional[_Iterable[_Union[ObjectFeatures, _Mapping]]] = ...) -> None: ...

class ObjectEmbeddings(_message.Message):
    __slots__ = ("modality", "rows", "embeddings")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    modality: _common_pb2.Modality
    rows: _containers.RepeatedScalarFieldContainer[int]
    embeddings: _common_pb2.Tensor
    def __init__(self, modality: _Optional[_Union[_common_pb2.Modality, str]] = ..., rows: _Optional[_Iterable[int]] = ..., embeddings: _Optional[_Union[_common_pb2.Tensor, _Mapping]] = ...) -> None: ...

class EmbedObjectsResponse(_message.Message):
    __slots__ = ("model", "objects", "summary")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    objects: _containers.RepeatedCompositeFieldContainer[ObjectEmbeddings]
    summary: _common_pb2.Embedding
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., objects: _Optional[_Iterable[_Union[ObjectEmbeddings, _Mapping]]] = ..., summary: _Optional[_Union[_common_pb2.Embedding, _Mapping]] = ...) -> None: ...
