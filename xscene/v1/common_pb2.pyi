from xscene.v1 import sensors_pb2 as _sensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]
    MODALITY_FLOORPLAN: _ClassVar[Modality]
    MODALITY_POINT_CLOUD: _ClassVar[Modality]
    MODALITY_MESH: _ClassVar[Modality]
    MODALITY_OBJECTS: _ClassVar[Modality]
    MODALITY_FUSED: _ClassVar[Modality]

class Space(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_UNSPECIFIED: _ClassVar[Space]
    SPACE_SCENE: _ClassVar[Space]
    SPACE_OBJECT: _ClassVar[Space]

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]

class UpAxis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UP_AXIS_UNSPECIFIED: _ClassVar[UpAxis]
    UP_AXIS_X: _ClassVar[UpAxis]
    UP_AXIS_Y: _ClassVar[UpAxis]
    UP_AXIS_Z: _ClassVar[UpAxis]

class FrameKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_KIND_UNSPECIFIED: _ClassVar[FrameKind]
    FRAME_KIND_RAW: _ClassVar[FrameKind]
    FRAME_KIND_ALIGNED: _ClassVar[FrameKind]
    FRAME_KIND_CANONICAL: _ClassVar[FrameKind]

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_QUEUED: _ClassVar[RunState]
    RUN_STATE_RUNNING: _ClassVar[RunState]
    RUN_STATE_SUCCEEDED: _ClassVar[RunState]
    RUN_STATE_FAILED: _ClassVar[RunState]
    RUN_STATE_CANCELLED: _ClassVar[RunState]
MODALITY_UNSPECIFIED: Modality
MODALITY_TEXT: Modality
MODALITY_IMAGE: Modality
MODALITY_FLOORPLAN: Modality
MODALITY_POINT_CLOUD: Modality
MODALITY_MESH: Modality
MODALITY_OBJECTS: Modality
MODALITY_FUSED: Modality
SPACE_UNSPECIFIED: Space
SPACE_SCENE: Space
SPACE_OBJECT: Space
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT64: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_INT64: DataType
UP_AXIS_UNSPECIFIED: UpAxis
UP_AXIS_X: UpAxis
UP_AXIS_Y: UpAxis
UP_AXIS_Z: UpAxis
FRAME_KIND_UNSPECIFIED: FrameKind
FRAME_KIND_RAW: FrameKind
FRAME_KIND_ALIGNED: FrameKind
FRAME_KIND_CANONICAL: FrameKind
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_QUEUED: RunState
RUN_STATE_RUNNING: RunState
RUN_STATE_SUCCEEDED: RunState
RUN_STATE_FAILED: RunState
RUN_STATE_CANCELLED: RunState

class Tensor(_message.Message):
    __slots__ = ("data_type", "shape", "data")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("modality", "space", "values")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    modality: Modality
    space: Space
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., space: _Optional[_Union[Space, str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model_id", "bundle", "trained")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    bundle: str
    trained: bool
    def __init__(self, model_id: _Optional[str] = ..., bundle: _Optional[str] = ..., trained: _Optional[bool] = ...) -> None: ...

class OrientedBox(_message.Message):
    __slots__ = ("pose", "size")
    POSE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    pose: _sensors_pb2.Pose
    size: _sensors_pb2.Vector3
    def __init__(self, pose: _Optional[_Union[_sensors_pb2.Pose, _Mapping]] = ..., size: _Optional[_Union[_sensors_pb2.Vector3, _Mapping]] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("modality", "reason")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    modality: Modality
    reason: str
    def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., reason: _Optional[str] = ...) -> None: ...
