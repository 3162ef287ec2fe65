"""Pictures and cameras: raw pixels against a slow reference, formats, calibrations and poses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xscene.codec import Limits, decode_image, encode_image
from xscene.codec.poses import decode_pose, encode_pose
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import pose
from xscene.types import Image, ImageFormat, Intrinsics
from xscene.v1 import content_pb2, sensors_pb2

JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0 jpeg", b"\x89PNG\r\n\x1a\n png", b"RIFF\4\0\0\0WEBP"
DEPTHS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2}
K = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
P = [400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0]


def compressed(data=JPEG, declared="", **changes):
    return content_pb2.Image(compressed=sensors_pb2.CompressedImage(data=data, format=declared), **changes)


def raw(data=bytes(24), width=4, height=2, encoding="rgb8", step=12, **changes):
    picture = sensors_pb2.RawImage(width=width, height=height, encoding=encoding, step=step, data=data)
    return content_pb2.Image(raw=picture, **changes)


def calibrated(**changes):
    values = {"width": 640, "height": 480, "k": K} | changes
    return compressed(calibration=sensors_pb2.CameraCalibration(**values))


def posed(**orientation):
    return compressed(camera_to_world=sensors_pb2.Pose(orientation=sensors_pb2.Quaternion(**orientation)))


def decode(message, limits=None):
    return decode_image(message, "images[2]", limits or Limits())


def refusal(message, limits=None):
    with pytest.raises(InvalidInput) as caught:
        decode(message, limits)
    return caught.value


def slow_rgb(picture):
    """RGB of each pixel, one by one."""
    depth = DEPTHS[picture.encoding]
    rows = []
    for row in range(picture.height):
        line = []
        for column in range(picture.width):
            start = row * picture.step + column * depth
            value = list(picture.data[start : start + depth])
            if picture.encoding == "mono8":
                value *= 3
            elif picture.encoding == "mono16":
                value = [(value[0] + 256 * value[1]) // 256] * 3
            elif picture.encoding.startswith("bgr"):
                value = value[2::-1]
            line.append(value[:3])
        rows.append(line)
    return rows


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(sorted(DEPTHS)),
    width=st.integers(1, 4),
    height=st.integers(1, 3),
    padding=st.integers(0, 3),
    data=st.data(),
)
def test_raw_pixels_of_any_encoding_become_rgb(encoding, width, height, padding, data):
    step = width * DEPTHS[encoding] + padding
    num_bytes = step * height
    message = raw(data.draw(st.binary(min_size=num_bytes, max_size=num_bytes)), width, height, encoding, step)
    pixels = decode(message).pixels
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.tolist() == slow_rgb(message.raw)


@pytest.mark.parametrize(
    ("data", "declared", "found"),
    [
        (JPEG, "", ImageFormat.JPEG),
        (JPEG, "jpeg", ImageFormat.JPEG),
        (JPEG, "JPG", ImageFormat.JPEG),
        (JPEG, "rgb8; jpeg compressed bgr8", ImageFormat.JPEG),
        (PNG, "png", ImageFormat.PNG),
        (PNG, "mono16; png compressed ", ImageFormat.PNG),
        (WEBP, "webp", ImageFormat.WEBP),
    ],
)
def test_encoded_pictures_stay_encoded(data, declared, found):
    image = decode(compressed(data, declared))
    assert (image.encoded, image.format, image.pixels) == (data, found, None)


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (content_pb2.Image(), "picture", "missing"),
        (compressed(b""), "compressed.data", "0 bytes"),
        (compressed(b"GIF89a"), "compressed.data", "6 bytes that are no JPEG, PNG or WebP"),
        (compressed(JPEG[:2]), "compressed.data", "no JPEG"),
        (compressed(JPEG, "png"), "compressed.format", "'png', but the bytes are jpeg"),
        (compressed(JPEG, "tiff"), "compressed.format", "'tiff', needs jpeg, png or webp"),
        (compressed(frame_id="a\nb"), "frame_id", "control character '\\n' at 1"),
        (raw(encoding="8UC3"), "raw.encoding", "'8UC3', needs one of rgb8"),
        (raw(encoding=""), "raw.encoding", "''"),
        (raw(width=0), "raw.width", "0 px"),
        (raw(height=0, data=b""), "raw.height", "0 px"),
        (raw(step=11), "raw.step", "11 bytes, 4 rgb8 pixels need 12"),
        (raw(step=0), "raw.step", "0 bytes"),
        (raw(data=bytes(23)), "raw.data", "23 bytes, 2 rows of 12 bytes need 24"),
        (raw(data=bytes(25)), "raw.data", "25 bytes"),
        (raw(data=b""), "raw.data", "0 bytes"),
        (raw(calibration=sensors_pb2.CameraCalibration(width=8, height=2, k=K)), "calibration", "of 8x2 px"),
        (calibrated(width=0), "calibration.width", "0 px"),
        (calibrated(k=K[:8]), "calibration.k", "8 numbers, needs 9"),
        (calibrated(k=[]), "calibration.k", "missing"),
        (calibrated(k=[0] * 9), "calibration.k", "uncalibrated"),
        (calibrated(k=[-1, *K[1:]]), "calibration.k", "fx is -1"),
        (calibrated(k=[*K[:4], 0, *K[5:]]), "calibration.k", "fy is 0"),
        (calibrated(k=[500.0, 3, *K[2:]]), "calibration.k", "other than"),
        (calibrated(k=[float("nan"), *K[1:]]), "calibration.k[0]", "nan"),
        (calibrated(p=[1.0] * 9), "calibration.p", "9 numbers, needs 12"),
        (calibrated(r=[1.0]), "calibration.r", "1 numbers"),
        (calibrated(d=[0.0] * 4), "calibration.d", "4 numbers, needs 0, 5 or 8"),
        (calibrated(d=[0, 0, 0, 0, float("inf")]), "calibration.d[4]", "inf"),
        (calibrated(d=[0.1, 0, 0, 0, 0]), "calibration.d", "not zero; rectify the picture, then leave d out"),
        (calibrated(d=[0] * 7 + [1e-9], p=[0] * 12), "calibration.d", "not zero"),
        (calibrated(p=[*P[:3], -40, *P[4:]]), "calibration.p[3]", "-40, needs 0; the camera's place"),
        (calibrated(p=[*P[:7], 0.5, *P[8:]]), "calibration.p[7]", "0.5, needs 0"),
        (calibrated(p=[*P[:11], 1]), "calibration.p[11]", "1, needs 0"),
        (calibrated(p=[-1, *P[1:]], k=[]), "calibration.p", "fx is -1"),
        (calibrated(distortion_model="equidistant"), "calibration.distortion_model", "'equidistant'"),
        (posed(w=float("nan")), "camera_to_world.orientation.w", "nan"),
        (posed(x=float("inf"), w=1), "camera_to_world.orientation.x", "inf"),
    ],
)
def test_a_picture_that_cannot_be_right_names_the_field(message, field, words):
    error = refusal(message)
    assert error.violations[0].field == f"images[2].{field}"
    assert words in error.violations[0].description


@pytest.mark.parametrize(
    ("message", "limits", "words"),
    [
        (compressed(), Limits(max_image_bytes=8), "images[2].compressed.data: 9 bytes, the limit is 8"),
        (raw(), Limits(max_image_pixels=7), "images[2].raw: 8 pixels, the limit is 7"),
        (raw(step=20, data=bytes(40)), Limits(max_image_bytes=39), "images[2].raw.data: 40 bytes"),
        (
            raw(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
            Limits(),
            "images[2].raw: 18446744065119617025 pixels, the limit is 33554432",
        ),
    ],
)
def test_a_picture_past_a_limit_names_limit_and_value(message, limits, words):
    error = refusal(message, limits)
    assert isinstance(error, LimitExceeded)
    assert words in str(error)


@pytest.mark.parametrize("k", [K, []])
def test_the_camera_of_a_rectified_picture_is_that_of_p_alone(k):
    turn = [0.0, -1, 0, 1, 0, 0, 0, 0, 1]
    raw_camera = {"k": k, "d": [0.1, 0, 0, 0, 0], "distortion_model": "plumb_bob", "r": turn}
    image = decode(calibrated(p=P, **raw_camera))
    assert image.intrinsics == Intrinsics(fx=400, fy=410, cx=300, cy=200, width=640, height=480)


def test_arrays_of_zeros_stand_for_what_was_not_calibrated():
    image = decode(calibrated(p=[0.0] * 12, r=[0.0] * 9, d=[0.0] * 5))
    assert image.intrinsics == Intrinsics(fx=500, fy=510, cx=320, cy=240, width=640, height=480)


numbers = st.floats(-1e3, 1e3)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[numbers] * 3),
    st.tuples(*[numbers] * 4).filter(lambda q: np.linalg.norm(q) > 1e-3),
    st.sampled_from([1.0, 1e-150, 1e150]),
)
def test_quaternions_of_any_length_are_normalised(position, turn, scale):
    x, y, z, w = (scale * part for part in turn)
    message = sensors_pb2.Pose(
        position=sensors_pb2.Vector3(x=position[0], y=position[1], z=position[2]),
        orientation=sensors_pb2.Quaternion(x=x, y=y, z=z, w=w),
    )
    matrix = decode_pose(message, "pose")
    np.testing.assert_allclose(matrix, pose(position, np.array(turn) / np.linalg.norm(turn)), atol=1e-12)
    np.testing.assert_allclose(decode_pose(encode_pose(matrix, "pose"), "pose"), matrix, atol=1e-12)


def test_a_quaternion_of_zeros_is_the_identity():
    message = sensors_pb2.Pose(position=sensors_pb2.Vector3(x=1, y=2, z=3))
    assert decode_pose(message, "pose").tolist() == [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "matrix", [np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 1, 1, 1]), np.full((4, 4), np.nan)]
)
def test_a_matrix_that_no_quaternion_stands_for_is_refused(matrix):
    with pytest.raises(InvalidInput, match="camera_to_world"):
        encode_image(Image(encoded=PNG, camera_to_world=matrix))


def test_pixels_need_not_lie_in_order_to_be_sent():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    turned = Image(pixels=pixels.transpose(1, 0, 2))
    assert decode(encode_image(turned)) == turned
