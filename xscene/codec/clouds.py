"""Point clouds: packed points of any layout to arrays, and back.

Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.codec.arrays import check_finite
from xscene.codec.fields import FRAME, UP_AXIS, Data, check_count, decode_optional_time, join, require
from xscene.codec.limits import Limits
from xscene.codec.poses import decode_pose
from xscene.errors import InvalidInput
from xscene.geometry.frames import Frame, Matrix, UpAxis, apply
from xscene.types import PointCloud
from xscene.types.values import Float32Array, Uint8Array
from xscene.v1 import content_pb2, sensors_pb2

_DTYPES: dict[int, np.dtype[Any]] = {
    sensors_pb2.NUMERIC_TYPE_UINT8: np.dtype("u1"),
    sensors_pb2.NUMERIC_TYPE_INT8: np.dtype("i1"),
    sensors_pb2.NUMERIC_TYPE_UINT16: np.dtype("<u2"),
    sensors_pb2.NUMERIC_TYPE_INT16: np.dtype("<i2"),
    sensors_pb2.NUMERIC_TYPE_UINT32: np.dtype("<u4"),
    sensors_pb2.NUMERIC_TYPE_INT32: np.dtype("<i4"),
    sensors_pb2.NUMERIC_TYPE_FLOAT32: np.dtype("<f4"),
    sensors_pb2.NUMERIC_TYPE_FLOAT64: np.dtype("<f8"),
}
_AXES = ("x", "y", "z")
_CHANNELS = ("red", "green", "blue")
# Blue lies in the lowest byte of a packed colour, so red is two bytes on.
_PACKED_OFFSETS = {"red": 2, "green": 1, "blue": 0}
_POINTS_PER_BLOCK = 1 << 16
# Points with colours are padded to 16 bytes: aligned numbers are copied three times as fast as at 15.
_COLOURED_STRIDE = 16


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Where one number of each point lies."""

    offset: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class CloudLayout:
    """Where the numbers of a cloud lie, and how many points there are."""

    num_points: int
    stride: int
    axes: tuple[_Column, ...]
    channels: tuple[_Column, ...]


def decode_cloud(
    message: content_pb2.Cloud, path: str, limits: Limits, data: Data | None = None
) -> PointCloud:
    """A cloud with its pose applied; `data` stands in for the message's own when it came in chunks."""
    require(message, "points", path)
    points_path = join(path, "points")
    up_axis = UP_AXIS.decode(message.up_axis, join(path, "up_axis"), default=UpAxis.Z)
    frame = FRAME.decode(message.frame, join(path, "frame"), default=Frame.RAW)
    data = message.points.data if data is None else data
    layout = cloud_layout(message.points, len(data), points_path, limits)
    points = _read_points(layout, data, join(points_path, "data"))
    if message.points.HasField("pose"):
        points = _moved(points, decode_pose(message.points.pose, join(points_path, "pose")), points_path)
    return PointCloud(points=points, colors=_read_colors(layout, data), frame=frame, up_axis=up_axis)


def cloud_layout(message: sensors_pb2.PointCloud, num_bytes: int, path: str, limits: Limits) -> CloudLayout:
    """Where things lie in that many bytes; refuses all that needs no look at the bytes themselves."""
    decode_optional_time(message, "timestamp", path)
    stride = message.point_stride
    if stride == 0:
        raise InvalidInput.at(
            join(path, "point_stride"), "0 bytes, needs the bytes from one point to the next"
        )
    columns = _columns(message, path, limits)
    num_points = -(-num_bytes // stride)
    if num_points * stride != num_bytes:
        raise InvalidInput.at(
            join(path, "data"),
            f"{num_bytes} bytes, {num_points} points of {stride} bytes need {num_points * stride}",
        )
    if num_points == 0:
        raise InvalidInput.at(join(path, "data"), "0 bytes, needs at least one point")
    check_count(num_points, join(path, "data"), limits.max_points, "points")
    fields = join(path, "fields")
    return CloudLayout(
        num_points=num_points,
        stride=stride,
        axes=_axes(columns, fields),
        channels=_channels(columns, fields),
    )


def _columns(message: sensors_pb2.PointCloud, path: str, limits: Limits) -> dict[str, _Column]:
    check_count(len(message.fields), join(path, "fields"), limits.max_point_fields, "fields")
    columns: dict[str, _Column] = {}
    for index, field in enumerate(message.fields):
        where = f"{join(path, 'fields')}[{index}]"
        dtype = _DTYPES.get(field.type)
        if dtype is None:
            raise InvalidInput.at(f"{where}.type", f"{field.type or 'unset'}, needs a NumericType")
        if field.name in columns:
            raise InvalidInput.at(f"{where}.name", f"{field.name[:80]!r} is there already")
        end = field.offset + dtype.itemsize
        if end > message.point_stride:
            raise InvalidInput.at(
                f"{where}.offset",
                f"{field.name[:80]!r} ends at byte {end}, past the stride of {message.point_stride}",
            )
        columns[field.name] = _Column(offset=field.offset, dtype=dtype)
    return columns


def _axes(columns: Mapping[str, _Column], path: str) -> tuple[_Column, ...]:
    if missing := [name for name in _AXES if name not in columns]:
        raise InvalidInput.at(path, f"{', '.join(missing)} missing, needs x, y and z")
    axes = tuple(columns[name] for name in _AXES)
    if axes[0].dtype.kind != "f" or any(axis.dtype != axes[0].dtype for axis in axes):
        found = ", ".join(str(axis.dtype) for axis in axes)
        raise InvalidInput.at(path, f"x, y, z are {found}, need one floating type")
    return axes


def _channels(columns: Mapping[str, _Column], path: str) -> tuple[_Column, ...]:
    """Red, green and blue, from fields of their own or from a packed one; empty without colours."""
    named = [name for name in _CHANNELS if name in columns]
    packed = [name for name in ("rgb", "rgba") if name in columns]
    if len(packed) + bool(named) > 1:
        raise InvalidInput.at(path, f"colours twice: {', '.join(named + packed)}")
    if packed:
        column = columns[packed[0]]
        if column.dtype not in (np.dtype("<f4"), np.dtype("<u4")):
            raise InvalidInput.at(path, f"{packed[0]} is {column.dtype}, needs FLOAT32 or UINT32")
        return tuple(
            _Column(offset=column.offset + _PACKED_OFFSETS[name], dtype=np.dtype("u1")) for name in _CHANNELS
        )
    if named and len(named) < len(_CHANNELS):
        raise InvalidInput.at(path, f"only {', '.join(named)}, needs red, green and blue or none")
    for name in named:
        if columns[name].dtype != np.uint8:
            raise InvalidInput.at(path, f"{name} is {columns[name].dtype}, needs UINT8")
    return tuple(columns[name] for name in named)


def _column(layout: CloudLayout, column: _Column, data: Data) -> NDArray[Any]:
    """View (P,) of one number of each point."""
    return np.ndarray(
        (layout.num_points,), column.dtype, buffer=data, offset=column.offset, strides=(layout.stride,)
    )


def _read_points(layout: CloudLayout, data: Data, path: str) -> Float32Array:
    plain = layout.stride == 12 and [axis.offset for axis in layout.axes] == [0, 4, 8]
    if plain and layout.axes[0].dtype == np.float32:
        points = np.frombuffer(data, "<f4").reshape(-1, 3)
    else:
        points = np.empty((layout.num_points, 3), np.float32)
        # A double past the range of a float becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            for axis, column in enumerate(layout.axes):
                points[:, axis] = _column(layout, column, data)
    check_finite(points, path, "points")
    return points


def _read_colors(layout: CloudLayout, data: Data) -> Uint8Array | None:
    if not layout.channels:
        return None
    colors = np.empty((layout.num_points, 3), np.uint8)
    for channel, column in enumerate(layout.channels):
        colors[:, channel] = _column(layout, column, data)
    return colors


def _moved(points: Float32Array, pose: Matrix, path: str) -> Float32Array:
    """The points moved by the pose, block by block, as the work is done in double precision."""
    if np.array_equal(pose, np.eye(4)):
        return points
    moved = np.empty_like(points)
    with np.errstate(over="ignore"):
        for start in range(0, len(points), _POINTS_PER_BLOCK):
            block = slice(start, start + _POINTS_PER_BLOCK)
            moved[block] = apply(pose, points[block])
    check_finite(moved, join(path, "pose"), "moved points")
    return moved


def encode_cloud(cloud: PointCloud) -> content_pb2.Cloud:
    """A cloud, its points packed."""
    message = describe_cloud(cloud)
    message.points.data = bytes(pack_points(cloud))
    return message


def describe_cloud(cloud: PointCloud) -> content_pb2.Cloud:
    """The cloud's message without its data."""
    number = sensors_pb2.NUMERIC_TYPE_FLOAT32
    fields = [
        sensors_pb2.PackedElementField(name=name, offset=4 * axis, type=number)
        for axis, name in enumerate(_AXES)
    ]
    if cloud.colors is not None:
        byte = sensors_pb2.NUMERIC_TYPE_UINT8
        fields += [
            sensors_pb2.PackedElementField(name=name, offset=12 + channel, type=byte)
            for channel, name in enumerate(_CHANNELS)
        ]
    stride = 12 if cloud.colors is None else _COLOURED_STRIDE
    return content_pb2.Cloud(
        points=sensors_pb2.PointCloud(point_stride=stride, fields=fields),
        up_axis=UP_AXIS.encode(cloud.up_axis),
        frame=FRAME.encode(cloud.frame),
    )


def pack_points(cloud: PointCloud) -> memoryview:
    """The cloud's data as `describe_cloud` lays it out; without colours no copy is made."""
    packed = np.ascontiguousarray(cloud.points, "<f4")
    if cloud.colors is not None:
        packed = np.zeros((len(cloud), _COLOURED_STRIDE // 4), "<f4")
        # Column by column, which is twice as fast as rows of three.
        for axis in range(3):
            packed[:, axis] = cloud.points[:, axis]
            packed.view(np.uint8)[:, 12 + axis] = cloud.colors[:, axis]
    return packed.view(np.uint8).reshape(-1).data
