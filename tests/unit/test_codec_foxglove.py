"""Bytes that foxglove's own messages write parse with ours, and the other way round."""

import numpy as np
import pytest
from foxglove_schemas_protobuf import (
    CameraCalibration_pb2,
    CompressedImage_pb2,
    PackedElementField_pb2,
    PointCloud_pb2,
    RawImage_pb2,
)
from google.protobuf.timestamp_pb2 import Timestamp

from xscene.codec import Limits, decode_cloud, decode_image, encode_cloud, encode_image
from xscene.types import Image, Intrinsics, PointCloud
from xscene.v1 import content_pb2, sensors_pb2

STAMP = Timestamp(seconds=1_700_000_000, nanos=999_999_999)
JPEG = b"\xff\xd8\xff\xe0 jpeg"


def foxglove_cloud():
    kinds = PackedElementField_pb2.PackedElementField
    fields = [("x", 0, kinds.FLOAT32), ("y", 4, kinds.FLOAT32), ("z", 8, kinds.FLOAT32)]
    fields += [(name, 12 + i, kinds.UINT8) for i, name in enumerate(("red", "green", "blue", "alpha"))]
    data = np.array([[1, 2, 3, 0], [4, 5, 6, 0]], np.float32)
    data.view(np.uint8)[:, 12:] = [[9, 8, 7, 255], [6, 5, 4, 255]]
    message = PointCloud_pb2.PointCloud(
        timestamp=STAMP,
        frame_id="velodyne",
        point_stride=16,
        fields=[kinds(name=name, offset=offset, type=kind) for name, offset, kind in fields],
        data=data.tobytes(),
    )
    message.pose.position.z = 10
    message.pose.orientation.w = 1
    return message


def foxglove_calibration():
    message = CameraCalibration_pb2.CameraCalibration(
        timestamp=STAMP, frame_id="camera", width=640, height=480, distortion_model="plumb_bob"
    )
    message.D.extend([0.1, 0.01, 0, 0, 0])
    message.K.extend([500, 0, 320, 0, 510, 240, 0, 0, 1])
    message.R.extend(np.eye(3).ravel())
    message.P.extend([500, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0])
    return message


SAMPLES = [
    (foxglove_cloud(), sensors_pb2.PointCloud),
    (foxglove_calibration(), sensors_pb2.CameraCalibration),
    (
        CompressedImage_pb2.CompressedImage(timestamp=STAMP, frame_id="camera", data=JPEG, format="jpeg"),
        sensors_pb2.CompressedImage,
    ),
    (
        RawImage_pb2.RawImage(
            timestamp=STAMP, frame_id="camera", width=2, height=1, encoding="bgr8", step=6, data=b"bgrBGR"
        ),
        sensors_pb2.RawImage,
    ),
]


@pytest.mark.parametrize(("theirs", "ours"), SAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_byte_of_theirs_is_a_known_field_of_ours_and_back(theirs, ours):
    wire = theirs.SerializeToString(deterministic=True)
    parsed = ours.FromString(wire)
    parsed.DiscardUnknownFields()
    assert parsed.SerializeToString(deterministic=True) == wire
    back = type(theirs).FromString(parsed.SerializeToString())
    back.DiscardUnknownFields()
    assert back == theirs


def test_a_recorded_cloud_is_read():
    points = sensors_pb2.PointCloud.FromString(foxglove_cloud().SerializeToString())
    cloud = decode_cloud(content_pb2.Cloud(points=points), "cloud", Limits())
    assert cloud == PointCloud.from_arrays([[1, 2, 13], [4, 5, 16]], [[9, 8, 7], [6, 5, 4]])


def test_a_recorded_raw_picture_is_read():
    picture = sensors_pb2.RawImage.FromString(SAMPLES[3][0].SerializeToString())
    image = decode_image(content_pb2.Image(raw=picture), "image", Limits())
    assert image.pixels.tobytes() == b"rgbRGB"


def test_a_recorded_jpeg_with_its_calibration_is_read():
    picture = sensors_pb2.CompressedImage.FromString(SAMPLES[2][0].SerializeToString())
    camera = sensors_pb2.CameraCalibration.FromString(foxglove_calibration().SerializeToString())
    image = decode_image(content_pb2.Image(compressed=picture, calibration=camera), "image", Limits())
    assert image.encoded == JPEG
    assert image.intrinsics == Intrinsics(fx=500, fy=510, cx=320, cy=240, width=640, height=480)


def test_foxglove_reads_the_cloud_that_we_write():
    ours = encode_cloud(PointCloud.from_arrays([[1, 2, 3]], [[4, 5, 6]]))
    theirs = PointCloud_pb2.PointCloud.FromString(ours.points.SerializeToString())
    kinds = PackedElementField_pb2.PackedElementField
    assert [(f.name, f.offset, f.type) for f in theirs.fields] == [
        ("x", 0, kinds.FLOAT32),
        ("y", 4, kinds.FLOAT32),
        ("z", 8, kinds.FLOAT32),
        ("red", 12, kinds.UINT8),
        ("green", 13, kinds.UINT8),
        ("blue", 14, kinds.UINT8),
    ]
    assert (theirs.point_stride, theirs.data[12:15]) == (16, bytes([4, 5, 6]))


def test_foxglove_reads_the_pictures_that_we_write():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    theirs = RawImage_pb2.RawImage.FromString(encode_image(Image(pixels=pixels)).raw.SerializeToString())
    assert (theirs.width, theirs.height, theirs.encoding, theirs.step) == (2, 2, "rgb8", 6)
    assert theirs.data == pixels.tobytes()
    intrinsics = Intrinsics(fx=500, fy=510, cx=320, cy=240, width=640, height=480)
    ours = encode_image(Image(encoded=JPEG, intrinsics=intrinsics))
    encoded = CompressedImage_pb2.CompressedImage.FromString(ours.compressed.SerializeToString())
    assert (encoded.data, encoded.format) == (JPEG, "jpeg")
    camera = CameraCalibration_pb2.CameraCalibration.FromString(ours.calibration.SerializeToString())
    assert (camera.width, camera.height, list(camera.K)) == (640, 480, [500, 0, 320, 0, 510, 240, 0, 0, 1])
