"""ScanNet's RGB-D stream, `.sens` version 4: an index of its frames, which are read one at a time.

Opening walks over the heads of all frames and refuses a stream that does not end where it should. No
file is kept open, so that a stream may pass to other processes.

Shapes: K frames, H and W pixels.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.archives import inflated
from trainer.data.readers.files import file_bytes, picture_size
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Matrix
from xscene.geometry.projection import Intrinsics

VERSION = 4
PNG, JPEG = 1, 2
ZLIB_USHORT = 1
HEAD = struct.Struct("<64f2i4If")
HEAD_MATRICES = 4
FRAME = struct.Struct("<16f4Q")
IMU_BYTES = 15 * 8 + 8
COUNT = struct.Struct("<Q")


@dataclass(frozen=True, kw_only=True)
class SensLimits:
    """How much a stream may hold."""

    max_bytes: int = 256 << 30
    max_frames: int = 1_000_000
    max_name_bytes: int = 4096
    max_color_bytes: int = 64 << 20
    max_depth_pixels: int = 64 << 20
    max_packed_depth_bytes: int = 256 << 20


SENS_LIMITS = SensLimits()


@dataclass(frozen=True, eq=False)
class SensStream:
    """A stream whose frames all lie within its file."""

    path: Path
    sensor: str
    color_intrinsics: Intrinsics
    depth_intrinsics: Intrinsics
    depth_units_a_metre: float
    camera_to_world: Matrix
    """Poses (K,4,4); not finite where tracking was lost."""
    offsets: NDArray[np.int64]
    """Where the colour and the depth of each frame begin and end (K,3)."""

    def __len__(self) -> int:
        return len(self.offsets)

    def color(self, frame: int) -> bytes:
        """The picture of a frame as encoded."""
        start, end, _ = self.offsets[frame].tolist()
        data = self._bytes(start, end)
        size = picture_size(data, self._place(frame, "colour"))
        wanted = (self.color_intrinsics.width, self.color_intrinsics.height)
        if size != wanted:
            raise InvalidInput.at(
                self._place(frame, "colour"),
                f"{size[0]}x{size[1]} px, the stream says {wanted[0]}x{wanted[1]}",
            )
        return data

    def depth(self, frame: int) -> NDArray[np.float32]:
        """Depth (H,W) of a frame in metres, 0 for a hole."""
        _, start, end = self.offsets[frame].tolist()
        height, width = self.depth_intrinsics.height, self.depth_intrinsics.width
        num_bytes = 2 * height * width
        where = self._place(frame, "depth")
        try:
            data = inflated(self._bytes(start, end), num_bytes)
        except zlib.error as error:
            raise InvalidInput.at(where, f"cannot be unpacked: {error}") from error
        if len(data) != num_bytes:
            raise InvalidInput.at(
                where, f"unpacks to {len(data)} bytes or more, {width}x{height} px need {num_bytes}"
            )
        units = np.frombuffer(data, dtype="<u2").reshape(height, width)
        return (units / np.float32(self.depth_units_a_metre)).astype(np.float32)

    def _bytes(self, start: int, end: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def _place(self, frame: int, part: str) -> str:
        return f"{self.path.name}: {part} of frame {frame}"


def open_sens(path: Path, *, limits: SensLimits = SENS_LIMITS) -> SensStream:
    """The index of a stream."""
    size = file_bytes(path, max_bytes=limits.max_bytes)
    with path.open("rb") as file:
        name = path.name
        sensor = _sensor(file, name, limits)
        numbers = HEAD.unpack(_exactly(file, HEAD.size, name))
        color, depth = _cameras(numbers, name, limits)
        (count,) = COUNT.unpack(_exactly(file, COUNT.size, name))
        if count > limits.max_frames:
            raise LimitExceeded.of(name, value=count, limit=limits.max_frames, unit="frames")
        if count * FRAME.size > size - file.tell():
            raise InvalidInput.at(name, f"{count} frames do not fit in the {size - file.tell()} bytes left")
        poses, offsets = _index(file, count, size, name, limits)
        (num_imu,) = COUNT.unpack(_exactly(file, COUNT.size, name))
        left, needs = size - file.tell(), num_imu * IMU_BYTES
        if left != needs:
            raise InvalidInput.at(name, f"{left} bytes follow its frames, {num_imu} motions need {needs}")
    return SensStream(path, sensor, color, depth, numbers[-1], poses, offsets)


def _sensor(file: IO[bytes], name: str, limits: SensLimits) -> str:
    version, length = struct.unpack("<IQ", _exactly(file, 12, name))
    if version != VERSION:
        raise InvalidInput.at(name, f"of version {version}, needs {VERSION}")
    if length > limits.max_name_bytes:
        raise LimitExceeded.of(f"{name}: sensor", value=length, limit=limits.max_name_bytes, unit="bytes")
    return _exactly(file, length, name).decode("utf-8", errors="replace")


def _cameras(numbers: tuple[float, ...], name: str, limits: SensLimits) -> tuple[Intrinsics, Intrinsics]:
    """Intrinsics of colour and depth; of the four matrices, the extrinsics say nothing that is used."""
    color_codec, depth_codec, *sizes, units = numbers[16 * HEAD_MATRICES :]
    if color_codec not in (PNG, JPEG):
        raise InvalidInput.at(name, f"colour codec {color_codec}, needs {PNG} (png) or {JPEG} (jpeg)")
    if depth_codec != ZLIB_USHORT:
        raise InvalidInput.at(name, f"depth codec {depth_codec}, needs {ZLIB_USHORT} (zlib, ushort)")
    if not (np.isfinite(units) and units > 0):
        raise InvalidInput.at(name, f"{units} units of depth a metre, needs more than 0")
    width, height, depth_width, depth_height = (int(side) for side in sizes)
    if depth_width * depth_height > limits.max_depth_pixels:
        pixels = depth_width * depth_height
        raise LimitExceeded.of(f"{name}: depth", value=pixels, limit=limits.max_depth_pixels, unit="pixels")
    matrices = np.array(numbers[: 16 * HEAD_MATRICES]).reshape(HEAD_MATRICES, 4, 4)
    try:
        return (
            Intrinsics.from_matrix(matrices[0], width=width, height=height),
            Intrinsics.from_matrix(matrices[2], width=depth_width, height=depth_height),
        )
    except InvalidInput as error:
        raise InvalidInput.at(name, error.message) from error


def _index(
    file: IO[bytes], count: int, size: int, name: str, limits: SensLimits
) -> tuple[Matrix, NDArray[np.int64]]:
    poses, offsets = np.empty((count, 16), np.float64), np.empty((count, 3), np.int64)
    for frame in range(count):
        *poses[frame], _, _, color_bytes, depth_bytes = FRAME.unpack(_exactly(file, FRAME.size, name))
        for part, value, limit in (
            ("colour", color_bytes, limits.max_color_bytes),
            ("depth", depth_bytes, limits.max_packed_depth_bytes),
        ):
            if value > limit:
                where = f"{name}: {part} of frame {frame}"
                raise LimitExceeded.of(where, value=value, limit=limit, unit="bytes")
        start = file.tell()
        offsets[frame] = (start, start + color_bytes, start + color_bytes + depth_bytes)
        if offsets[frame, 2] > size:
            raise InvalidInput.at(name, f"was cut off within frame {frame} of {count}")
        file.seek(int(offsets[frame, 2]))
    return poses.reshape(count, 4, 4), offsets


def _exactly(file: IO[bytes], num_bytes: int, name: str) -> bytes:
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise InvalidInput.at(name, f"was cut off: {num_bytes} bytes are wanted, {len(data)} are left")
    return data
