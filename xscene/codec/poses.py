"""Poses, boxes and cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xscene.codec.fields import decode_number, decode_optional_time, join, require
from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix, pose, position_and_quaternion
from xscene.geometry.projection import MIN_SIDE_PX, Intrinsics
from xscene.types import ObjectBox
from xscene.v1 import common_pb2, sensors_pb2

_DISTORTION_MODELS = ("", "plumb_bob", "rational_polynomial")
_DISTORTION_LENGTHS = (0, 5, 8)


def decode_vector3(message: sensors_pb2.Vector3, path: str) -> Matrix:
    """Three finite numbers (3,)."""
    return np.array([decode_number(getattr(message, axis), join(path, axis)) for axis in "xyz"])


def decode_pose(message: sensors_pb2.Pose, path: str) -> Matrix:
    """The matrix (4,4); the quaternion is normalised, and all zero counts as the identity."""
    position = decode_vector3(message.position, join(path, "position"))
    orientation = message.orientation
    turn = np.array(
        [decode_number(getattr(orientation, part), join(path, f"orientation.{part}")) for part in "xyzw"]
    )
    largest = np.abs(turn).max()
    if largest == 0:
        turn[3] = largest = 1.0
    # Divided by the largest first, so that the norm of huge or tiny numbers neither overflows nor vanishes.
    turn /= largest
    return pose(position, turn / np.linalg.norm(turn), path)


def encode_pose(matrix: Matrix, path: str) -> sensors_pb2.Pose:
    """A rigid matrix (4,4) as position and quaternion."""
    position, turn = position_and_quaternion(matrix, path)
    x, y, z, w = turn.tolist()
    return sensors_pb2.Pose(
        position=encode_vector3(position), orientation=sensors_pb2.Quaternion(x=x, y=y, z=z, w=w)
    )


def encode_vector3(vector: NDArray[np.floating]) -> sensors_pb2.Vector3:
    """Three numbers (3,)."""
    x, y, z = vector.tolist()
    return sensors_pb2.Vector3(x=x, y=y, z=z)


def decode_box(message: common_pb2.OrientedBox, path: str) -> ObjectBox:
    """A box; its size must be there, flat is allowed."""
    require(message, "size", path)
    size = decode_vector3(message.size, join(path, "size"))
    for axis, edge_m in zip("xyz", size.tolist(), strict=True):
        decode_number(edge_m, join(path, f"size.{axis}"), low=0)
    return ObjectBox(pose=decode_pose(message.pose, join(path, "pose")), size=size)


def encode_box(box: ObjectBox) -> common_pb2.OrientedBox:
    """A box."""
    return common_pb2.OrientedBox(pose=encode_pose(box.pose, "box.pose"), size=encode_vector3(box.size))


def decode_intrinsics(message: sensors_pb2.CameraCalibration, path: str) -> Intrinsics:
    """The pinhole camera of the picture: that of P where given, the picture being rectified, else K.

    D and R take the raw camera to P's; with P they are not used. R and P count as absent when all zero:
    recordings hold them in arrays of fixed length.
    """
    decode_optional_time(message, "timestamp", path)
    _check_distortion(message, path)
    for side, size in (("width", message.width), ("height", message.height)):
        if size < MIN_SIDE_PX:
            raise InvalidInput.at(join(path, side), f"{size} px, needs at least {MIN_SIDE_PX}")
    _decode_matrix(message.r, (3, 3), join(path, "r"))
    camera = _decode_matrix(message.k, (3, 3), join(path, "k"))
    projection = _decode_matrix(message.p, (3, 4), join(path, "p"))
    if projection is not None:
        _check_offset(projection, join(path, "p"))
        return _decode_pinhole(projection[:, :3], message, join(path, "p"))
    if camera is None:
        raise InvalidInput.at(join(path, "k"), "missing; leave the calibration of an uncalibrated camera out")
    if any(message.d):
        raise InvalidInput.at(
            join(path, "d"), "not zero; rectify the picture, then leave d out or send p of the rectified one"
        )
    return _decode_pinhole(camera, message, join(path, "k"))


def _check_offset(projection: Matrix, path: str) -> None:
    """Refuses the fourth column of a second camera, whose pose would be off by it."""
    for row, offset in enumerate(projection[:, 3].tolist()):
        if offset:
            raise InvalidInput.at(
                f"{path}[{4 * row + 3}]", f"{offset:g}, needs 0; the camera's place belongs to its pose"
            )


def _decode_pinhole(matrix: Matrix, message: sensors_pb2.CameraCalibration, path: str) -> Intrinsics:
    for name, focal_px in (("fx", matrix[0, 0]), ("fy", matrix[1, 1])):
        if focal_px <= 0:
            raise InvalidInput.at(path, f"{name} is {focal_px:g}, needs more than 0")
    pinhole = np.array(((matrix[0, 0], 0, matrix[0, 2]), (0, matrix[1, 1], matrix[1, 2]), (0, 0, 1)))
    if not np.array_equal(matrix, pinhole):
        raise InvalidInput.at(path, "has entries other than fx, fy, cx, cy and 1")
    return Intrinsics.from_matrix(pinhole, width=message.width, height=message.height)


def _check_distortion(message: sensors_pb2.CameraCalibration, path: str) -> None:
    if message.distortion_model not in _DISTORTION_MODELS:
        raise InvalidInput.at(
            join(path, "distortion_model"),
            f"{message.distortion_model[:80]!r}, needs plumb_bob, rational_polynomial or nothing",
        )
    if len(message.d) not in _DISTORTION_LENGTHS:
        raise InvalidInput.at(join(path, "d"), f"{len(message.d)} numbers, needs 0, 5 or 8")
    for index, coefficient in enumerate(message.d):
        decode_number(coefficient, f"{join(path, 'd')}[{index}]")


def _decode_matrix(numbers: Sequence[float], shape: tuple[int, int], path: str) -> Matrix | None:
    """A matrix in row-major order; None when empty or all zero."""
    wanted = shape[0] * shape[1]
    if len(numbers) not in (0, wanted):
        raise InvalidInput.at(path, f"{len(numbers)} numbers, needs {wanted}")
    for index, number in enumerate(numbers):
        decode_number(number, f"{path}[{index}]")
    return np.array(numbers).reshape(shape) if any(numbers) else None


def encode_intrinsics(intrinsics: Intrinsics) -> sensors_pb2.CameraCalibration:
    """The calibration of an undistorted picture."""
    return sensors_pb2.CameraCalibration(
        width=intrinsics.width, height=intrinsics.height, k=intrinsics.matrix().ravel().tolist()
    )
