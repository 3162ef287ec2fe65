import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from xscene.v1 import common_pb2 as _common_pb2
from xscene.v1 import sensors_pb2 as _sensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MeshFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESH_FORMAT_UNSPECIFIED: _ClassVar[MeshFormat]
    MESH_FORMAT_GLB: _ClassVar[MeshFormat]
    MESH_FORMAT_PLY: _ClassVar[MeshFormat]
    MESH_FORMAT_OBJ: _ClassVar[MeshFormat]
MESH_FORMAT_UNSPECIFIED: MeshFormat
MESH_FORMAT_GLB: MeshFormat
MESH_FORMAT_PLY: MeshFormat
MESH_FORMAT_OBJ: MeshFormat

class Image(_message.Message):
    __slots__ = ("compressed", "raw", "frame_id", "camera_to_world", "calibration")
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_TO_WORLD_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    compressed: _sensors_pb2.CompressedImage
    raw: _sensors_pb2.RawImage
    frame_id: str
    camera_to_world: _sensors_pb2.Pose
    calibration: _sensors_pb2.CameraCalibration
    def __init__(self, compressed: _Optional[_Union[_sensors_pb2.CompressedImage, _Mapping]] = ..., raw: _Optional[_Union[_sensors_pb2.RawImage, _Mapping]] = ..., frame_id: _Optional[str] = ..., camera_to_world: _Optional[_Union[_sensors_pb2.Pose, _Mapping]] = ..., calibration: _Optional[_Union[_sensors_pb2.CameraCalibration, _Mapping]] = ...) -> None: ...

class Cloud(_message.Message):
    __slots__ = ("points", "up_axis", "frame")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    UP_AXIS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    points: _sensors_pb2.PointCloud
    up_axis: _common_pb2.UpAxis
    frame: _common_pb2.FrameKind
    def __init__(self, points: _Optional[_Union[_sensors_pb2.PointCloud, _Mapping]] = ..., up_axis: _Optional[_Union[_common_pb2.UpAxis, str]] = ..., frame: _Optional[_Union[_common_pb2.FrameKind, str]] = ...) -> None: ...

class Mesh(_message.Message):
    __slots__ = ("format", "data", "up_axis", "unit_m")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    UP_AXIS_FIELD_NUMBER: _ClassVar[int]
    UNIT_M_FIELD_NUMBER: _ClassVar[int]
    format: MeshFormat
    data: bytes
    up_axis: _common_pb2.UpAxis
    unit_m: float
    def __init__(self, format: _Optional[_Union[MeshFormat, str]] = ..., data: _Optional[bytes] = ..., up_axis: _Optional[_Union[_common_pb2.UpAxis, str]] = ..., unit_m: _Optional[float] = ...) -> None: ...

class ImageBox(_message.Message):
    __slots__ = ("left", "top", "right", "bottom")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    left: int
    top: int
    right: int
    bottom: int
    def __init__(self, left: _Optional[int] = ..., top: _Optional[int] = ..., right: _Optional[int] = ..., bottom: _Optional[int] = ...) -> None: ...

class FrameRegion(_message.Message):
    __slots__ = ("frame_id", "box", "mask_png")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    MASK_PNG_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    box: ImageBox
    mask_png: bytes
    def __init__(self, frame_id: _Optional[str] = ..., box: _Optional[_Union[ImageBox, _Mapping]] = ..., mask_png: _Optional[bytes] = ...) -> None: ...

class ObjectView(_message.Message):
    __slots__ = ("crop", "region")
    CROP_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    crop: Image
    region: FrameRegion
    def __init__(self, crop: _Optional[_Union[Image, _Mapping]] = ..., region: _Optional[_Union[FrameRegion, _Mapping]] = ...) -> None: ...

class SceneObject(_message.Message):
    __slots__ = ("object_id", "label", "box", "point_indices", "points", "views", "mesh", "referrals")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    POINT_INDICES_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    REFERRALS_FIELD_NUMBER: _ClassVar[int]
    object_id: str
    label: str
    box: _common_pb2.OrientedBox
    point_indices: bytes
    points: Cloud
    views: _containers.RepeatedCompositeFieldContainer[ObjectView]
    mesh: Mesh
    referrals: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, object_id: _Optional[str] = ..., label: _Optional[str] = ..., box: _Optional[_Union[_common_pb2.OrientedBox, _Mapping]] = ..., point_indices: _Optional[bytes] = ..., points: _Optional[_Union[Cloud, _Mapping]] = ..., views: _Optional[_Iterable[_Union[ObjectView, _Mapping]]] = ..., mesh: _Optional[_Union[Mesh, _Mapping]] = ..., referrals: _Optional[_Iterable[str]] = ...) -> None: ...

class SceneContent(_message.Message):
    __slots__ = ("texts", "images", "floorplan", "point_cloud", "mesh")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FLOORPLAN_FIELD_NUMBER: _ClassVar[int]
    POINT_CLOUD_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    floorplan: Image
    point_cloud: Cloud
    mesh: Mesh
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., floorplan: _Optional[_Union[Image, _Mapping]] = ..., point_cloud: _Optional[_Union[Cloud, _Mapping]] = ..., mesh: _Optional[_Union[Mesh, _Mapping]] = ...) -> None: ...

class ObjectContent(_message.Message):
    __slots__ = ("texts", "images", "point_cloud", "mesh")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    POINT_CLOUD_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    point_cloud: Cloud
    mesh: Mesh
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., point_cloud: _Optional[_Union[Cloud, _Mapping]] = ..., mesh: _Optional[_Union[Mesh, _Mapping]] = ...) -> None: ...

class GeoPoint(_message.Message):
    __slots__ = ("latitude_deg", "longitude_deg")
    LATITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    latitude_deg: float
    longitude_deg: float
    def __init__(self, latitude_deg: _Optional[float] = ..., longitude_deg: _Optional[float] = ...) -> None: ...

class SceneFilter(_message.Message):
    __slots__ = ("scene_ids", "place_ids", "labels", "captured_from", "captured_before", "latest_only", "near", "radius_m", "required_modalities", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCENE_IDS_FIELD_NUMBER: _ClassVar[int]
    PLACE_IDS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FROM_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LATEST_ONLY_FIELD_NUMBER: _ClassVar[int]
    NEAR_FIELD_NUMBER: _ClassVar[int]
    RADIUS_M_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    scene_ids: _containers.RepeatedScalarFieldContainer[str]
    place_ids: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.RepeatedScalarFieldContainer[str]
    captured_from: _timestamp_pb2.Timestamp
    captured_before: _timestamp_pb2.Timestamp
    latest_only: bool
    near: GeoPoint
    radius_m: float
    required_modalities: _containers.RepeatedScalarFieldContainer[_common_pb2.Modality]
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, scene_ids: _Optional[_Iterable[str]] = ..., place_ids: _Optional[_Iterable[str]] = ..., labels: _Optional[_Iterable[str]] = ..., captured_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., captured_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., latest_only: _Optional[bool] = ..., near: _Optional[_Union[GeoPoint, _Mapping]] = ..., radius_m: _Optional[float] = ..., required_modalities: _Optional[_Iterable[_Union[_common_pb2.Modality, str]]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
