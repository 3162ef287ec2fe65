"""Pictures: encoded ones checked by their first bytes, raw ones turned into RGB pixels.

Shapes: H and W pixels.
"""

from __future__ import annotations

import re

import numpy as np

from xscene.codec.fields import Data, check_count, decode_optional_name, decode_optional_time, join
from xscene.codec.limits import Limits
from xscene.codec.poses import decode_intrinsics, decode_pose, encode_intrinsics, encode_pose
from xscene.errors import InvalidInput
from xscene.types import Image, ImageFormat
from xscene.types.values import Uint8Array
from xscene.v1 import content_pb2, sensors_pb2

_BYTES_PER_PIXEL = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2}


def decode_image(message: content_pb2.Image, path: str, limits: Limits, data: Data | None = None) -> Image:
    """A picture; `data` stands in for the message's own when it came in chunks."""
    kind = picture_kind(message, path)
    encoded, pixels = b"", None
    if kind == "compressed":
        encoded = _read_encoded(message.compressed, join(path, kind), limits, data)
    else:
        pixels = _read_pixels(message.raw, join(path, kind), limits, data)
    intrinsics = None
    if message.HasField("calibration"):
        intrinsics = decode_intrinsics(message.calibration, join(path, "calibration"))
        size = (intrinsics.height, intrinsics.width)
        if pixels is not None and pixels.shape[:2] != size:
            raise InvalidInput.at(
                join(path, "calibration"), f"of {size[1]}x{size[0]} px, {_size(message.raw)}"
            )
    pose = None
    if message.HasField("camera_to_world"):
        pose = decode_pose(message.camera_to_world, join(path, "camera_to_world"))
    return Image(
        encoded=encoded,
        pixels=pixels,
        frame_id=decode_optional_name(message.frame_id, join(path, "frame_id"), limits),
        camera_to_world=pose,
        intrinsics=intrinsics,
    )


def picture_kind(message: content_pb2.Image, path: str) -> str:
    """Which of its two forms the picture has."""
    kind: str | None = message.WhichOneof("picture")
    if kind is None:
        raise InvalidInput.at(join(path, "picture"), "missing, needs compressed or raw")
    return kind


def check_picture_size(message: content_pb2.Image, num_bytes: int, path: str, limits: Limits) -> None:
    """Refuses a picture of that many bytes by what its message says, before the bytes are there."""
    kind = picture_kind(message, path)
    if kind == "raw":
        _check_raw(message.raw, num_bytes, join(path, kind), limits)
    else:
        check_count(num_bytes, join(path, f"{kind}.data"), limits.max_image_bytes, "bytes")


def _read_encoded(
    message: sensors_pb2.CompressedImage, path: str, limits: Limits, data: Data | None
) -> bytes:
    decode_optional_time(message, "timestamp", path)
    encoded = message.data if data is None else bytes(data)
    where = join(path, "data")
    if not encoded:
        raise InvalidInput.at(where, "0 bytes, needs a picture")
    check_count(len(encoded), where, limits.max_image_bytes, "bytes")
    found = ImageFormat.of(encoded)
    if found is None:
        raise InvalidInput.at(where, f"{len(encoded)} bytes that are no JPEG, PNG or WebP")
    _check_declared(message.format, found, join(path, "format"))
    return encoded


def _check_declared(declared: str, found: ImageFormat, path: str) -> None:
    """Refuses a format that the bytes contradict; ROS writes `rgb8; jpeg compressed bgr8`."""
    words = re.findall("[a-z]+", declared.lower().replace("jpg", "jpeg"))
    if declared and not set(words) & set(ImageFormat):
        raise InvalidInput.at(path, f"{declared[:80]!r}, needs jpeg, png or webp")
    if declared and found not in words:
        raise InvalidInput.at(path, f"{declared[:80]!r}, but the bytes are {found}")


def _check_raw(message: sensors_pb2.RawImage, num_bytes: int, path: str, limits: Limits) -> None:
    decode_optional_time(message, "timestamp", path)
    if message.encoding not in _BYTES_PER_PIXEL:
        known = ", ".join(_BYTES_PER_PIXEL)
        raise InvalidInput.at(join(path, "encoding"), f"{message.encoding[:80]!r}, needs one of {known}")
    for side, size in (("width", message.width), ("height", message.height)):
        if size == 0:
            raise InvalidInput.at(join(path, side), "0 px, needs at least 1")
    check_count(message.width * message.height, path, limits.max_image_pixels, "pixels")
    check_count(num_bytes, join(path, "data"), limits.max_image_bytes, "bytes")
    row_bytes = message.width * _BYTES_PER_PIXEL[message.encoding]
    if message.step < row_bytes:
        raise InvalidInput.at(
            join(path, "step"),
            f"{message.step} bytes, {message.width} {message.encoding} pixels need {row_bytes}",
        )
    wanted = message.height * message.step
    if num_bytes != wanted:
        raise InvalidInput.at(
            join(path, "data"),
            f"{num_bytes} bytes, {message.height} rows of {message.step} bytes need {wanted}",
        )


def _read_pixels(message: sensors_pb2.RawImage, path: str, limits: Limits, data: Data | None) -> Uint8Array:
    """RGB pixels (H,W,3)."""
    data = message.data if data is None else data
    _check_raw(message, len(data), path, limits)
    depth = _BYTES_PER_PIXEL[message.encoding]
    pixels: Uint8Array = np.ndarray(
        (message.height, message.width, depth), np.uint8, buffer=data, strides=(message.step, depth, 1)
    )
    if message.encoding.startswith("mono"):
        # The last byte of a little-endian number is its high byte.
        return np.repeat(pixels[:, :, -1:], 3, axis=2)
    order = slice(2, None, -1) if message.encoding.startswith("bgr") else slice(3)
    return np.ascontiguousarray(pixels[:, :, order])


def _size(message: sensors_pb2.RawImage) -> str:
    return f"the picture has {message.width}x{message.height}"


def encode_image(image: Image) -> content_pb2.Image:
    """A picture."""
    message = describe_image(image)
    data = picture_data(image)
    if image.pixels is None:
        message.compressed.data = bytes(data)
    else:
        message.raw.data = bytes(data)
    return message


def picture_data(image: Image) -> Data:
    """The picture's data as `describe_image` lays it out."""
    return image.encoded if image.pixels is None else np.ascontiguousarray(image.pixels).reshape(-1).data


def describe_image(image: Image) -> content_pb2.Image:
    """The picture's message without its data."""
    message = content_pb2.Image(frame_id=image.frame_id)
    if image.pixels is None:
        message.compressed.format = str(image.format)
    else:
        height, width, _ = image.pixels.shape
        message.raw.CopyFrom(
            sensors_pb2.RawImage(width=width, height=height, encoding="rgb8", step=3 * width)
        )
    if image.camera_to_world is not None:
        message.camera_to_world.CopyFrom(encode_pose(image.camera_to_world, "camera_to_world"))
    if image.intrinsics is not None:
        message.calibration.CopyFrom(encode_intrinsics(image.intrinsics))
    return message
