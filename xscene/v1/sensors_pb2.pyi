import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NumericType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NUMERIC_TYPE_UNSPECIFIED: _ClassVar[NumericType]
    NUMERIC_TYPE_UINT8: _ClassVar[NumericType]
    NUMERIC_TYPE_INT8: _ClassVar[NumericType]
    NUMERIC_TYPE_UINT16: _ClassVar[NumericType]
    NUMERIC_TYPE_INT16: _ClassVar[NumericType]
    NUMERIC_TYPE_UINT32: _ClassVar[NumericType]
    NUMERIC_TYPE_INT32: _ClassVar[NumericType]
    NUMERIC_TYPE_FLOAT32: _ClassVar[NumericType]
    NUMERIC_TYPE_FLOAT64: _ClassVar[NumericType]
NUMERIC_TYPE_UNSPECIFIED: NumericType
NUMERIC_TYPE_UINT8: NumericType
NUMERIC_TYPE_INT8: NumericType
NUMERIC_TYPE_UINT16: NumericType
NUMERIC_TYPE_INT16: NumericType
NUMERIC_TYPE_UINT32: NumericType
NUMERIC_TYPE_INT32: NumericType
NUMERIC_TYPE_FLOAT32: NumericType
NUMERIC_TYPE_FLOAT64: NumericType

class Vector3(_message.Message):
    __slots__ = ("x", "y", "z")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    z: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., z: _Optional[float] = ...) -> None: ...

class Quaternion(_message.Message):
    __slots__ = ("x", "y", "z", "w")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    z: float
    w: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., z: _Optional[float] = ..., w: _Optional[float] = ...) -> None: ...

class Pose(_message.Message):
    __slots__ = ("position", "orientation")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ORIENTATION_FIELD_NUMBER: _ClassVar[int]
    position: Vector3
    orientation: Quaternion
    def __init__(self, position: _Optional[_Union[Vector3, _Mapping]] = ..., orientation: _Optional[_Union[Quaternion, _Mapping]] = ...) -> None: ...

class PackedElementField(_message.Message):
    __slots__ = ("name", "offset", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    offset: int
    type: NumericType
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ..., type: _Optional[_Union[NumericType, str]] = ...) -> None: ...

class PointCloud(_message.Message):
    __slots__ = ("timestamp", "frame_id", "pose", "point_stride", "fields", "data")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    POSE_FIELD_NUMBER: _ClassVar[int]
    POINT_STRIDE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    frame_id: str
    pose: Pose
    point_stride: int
    fields: _containers.RepeatedCompositeFieldContainer[PackedElementField]
    data: bytes
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., frame_id: _Optional[str] = ..., pose: _Optional[_Union[Pose, _Mapping]] = ..., point_stride: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[PackedElementField, _Mapping]]] = ..., data: _Optional[bytes] = ...) -> None: ...

class CompressedImage(_message.Message):
    __slots__ = ("timestamp", "frame_id", "data", "format")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    frame_id: str
    data: bytes
    format: str
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., frame_id: _Optional[str] = ..., data: _Optional[bytes] = ..., format: _Optional[str] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("timestamp", "frame_id", "width", "height", "encoding", "step", "data")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    frame_id: str
    width: int
    height: int
    encoding: str
    step: int
    data: bytes
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., frame_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., encoding: _Optional[str] = ..., step: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class CameraCalibration(_message.Message):
    __slots__ = ("timestamp", "frame_id", "width", "height", "distortion_model", "d", "k", "r", "p")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DISTORTION_MODEL_FIELD_NUMBER: _ClassVar[int]
    D_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    frame_id: str
    width: int
    height: int
    distortion_model: str
    d: _containers.RepeatedScalarFieldContainer[float]
    k: _containers.RepeatedScalarFieldContainer[float]
    r: _containers.RepeatedScalarFieldContainer[float]
    p: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., frame_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., distortion_model: _Optional[str] = ..., d: _Optional[_Iterable[float]] = ..., k: _Optional[_Iterable[float]] = ..., r: _Optional[_Iterable[float]] = ..., p: _Optional[_Iterable[float]] = ...) -> None: ...
