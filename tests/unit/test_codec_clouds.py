"""Point clouds of any packed layout, read as struct reads them point by point, and refused where they lie."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xscene.codec import Limits, decode_cloud, encode_cloud
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import pose
from xscene.types import Frame, PointCloud, UpAxis
from xscene.v1 import content_pb2, sensors_pb2

F32, F64 = sensors_pb2.NUMERIC_TYPE_FLOAT32, sensors_pb2.NUMERIC_TYPE_FLOAT64
U8, U32 = sensors_pb2.NUMERIC_TYPE_UINT8, sensors_pb2.NUMERIC_TYPE_UINT32
CODES = {F32: "f", F64: "d", U8: "B", U32: "I", sensors_pb2.NUMERIC_TYPE_UINT16: "H"}
XYZ = [("x", 0, F32), ("y", 4, F32), ("z", 8, F32)]


def message(fields=XYZ, stride=12, data=bytes(24), **changes):
    points = sensors_pb2.PointCloud(
        point_stride=stride,
        fields=[sensors_pb2.PackedElementField(name=n, offset=o, type=t) for n, o, t in fields],
        data=data,
    )
    return content_pb2.Cloud(points=points, **changes)


def decode(cloud, limits=None):
    return decode_cloud(cloud, "point_cloud", limits or Limits())


def refusal(cloud, limits=None):
    with pytest.raises(InvalidInput) as caught:
        decode(cloud, limits)
    return caught.value


def slow_numbers(cloud, names):
    """The named numbers of each point, one struct at a time."""
    rows = []
    for start in range(0, len(cloud.points.data), cloud.points.point_stride):
        fields = {field.name: field for field in cloud.points.fields}
        row = []
        for name in names:
            field = fields[name]
            row.append(
                struct.unpack_from("<" + CODES[field.type], cloud.points.data, start + field.offset)[0]
            )
        rows.append(row)
    return rows


def test_a_small_cloud_has_these_bytes():
    cloud = PointCloud.from_arrays([[1, -2, 0.5]], [[1, 2, 255]], frame=Frame.ALIGNED)
    assert encode_cloud(cloud).SerializeToString().hex() == (
        # Stride 16; fields x (at 0, which is not written), y, z, red, green, blue; the data; up axis, frame.
        "0a63"
        "2510000000"
        "2a050a0178" + "1807"
        "2a0a0a01791504000000" + "1807"
        "2a0a0a017a1508000000" + "1807"
        "2a0c0a03726564150c000000" + "1801"
        "2a0e0a05677265656e150d000000" + "1801"
        "2a0d0a04626c7565150e000000" + "1801"
        "3210" + "0000803f" + "000000c0" + "0000003f" + "0102ff00" + "1003" + "1802"
    )


def test_colourless_points_take_twelve_bytes():
    cloud = encode_cloud(PointCloud.from_arrays([[1, 2, 3], [4, 5, 6]]))
    assert (cloud.points.point_stride, len(cloud.points.data)) == (12, 24)


def test_a_plain_cloud_is_read_without_a_copy():
    cloud = message(data=struct.pack("<6f", *range(6)))
    data = cloud.points.data
    points = decode_cloud(cloud, "point_cloud", Limits(), data).points
    assert np.shares_memory(points, np.frombuffer(data, np.uint8))
    assert points.tolist() == [[0, 1, 2], [3, 4, 5]]


@st.composite
def layouts(draw):
    """Fields in any order, with gaps between and behind, and data that holds finite coordinates."""
    axis_type = draw(st.sampled_from([F32, F64]))
    fields = [(name, axis_type) for name in "xyz"]
    fields += draw(st.sampled_from([[], [(name, U8) for name in ("red", "green", "blue")], [("rgb", U32)]]))
    fields += draw(st.sampled_from([[], [("intensity", F32)], [("ring", sensors_pb2.NUMERIC_TYPE_UINT16)]]))
    placed, offset = [], 0
    for name, kind in draw(st.permutations(fields)):
        offset += draw(st.integers(0, 3))
        placed.append((name, offset, kind))
        offset += struct.calcsize(CODES[kind])
    stride = offset + draw(st.integers(0, 5))
    number = st.floats(-1e4, 1e4, width=32)
    data = bytearray(draw(st.binary(min_size=stride * 3, max_size=stride * 3)))
    for start in range(0, len(data), stride):
        for name, at, kind in placed:
            if name in "xyz":
                struct.pack_into("<" + CODES[kind], data, start + at, draw(number))
    return message(placed, stride, bytes(data))


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_any_layout_is_read_as_struct_reads_it(cloud):
    decoded = decode(cloud)
    names = [field.name for field in cloud.points.fields]
    assert decoded.points.flags.c_contiguous
    assert decoded.points.dtype == np.float32
    assert decoded.points.tolist() == slow_numbers(cloud, "xyz")
    if "red" in names:
        assert decoded.colors.tolist() == slow_numbers(cloud, ("red", "green", "blue"))
    elif "rgb" in names:
        expected = [[v >> 16 & 255, v >> 8 & 255, v & 255] for (v,) in slow_numbers(cloud, ("rgb",))]
        assert decoded.colors.tolist() == expected
    else:
        assert decoded.colors is None


@pytest.mark.parametrize(("name", "kind"), [("rgb", F32), ("rgba", F32), ("rgb", U32), ("rgba", U32)])
def test_packed_colours_may_be_of_either_type(name, kind):
    # 0x00ff8001 is red 255, green 128, blue 1, and 0x7fc00000 is NaN, whose bytes are a colour all the same.
    data = b"".join(struct.pack("<3fI", 0, 0, 0, word) for word in (0x00FF8001, 0x7FC00000))
    decoded = decode(message([*XYZ, (name, 12, kind)], 16, data))
    assert decoded.colors.tolist() == [[255, 128, 1], [192, 0, 0]]


def test_the_pose_moves_the_points():
    points = np.random.default_rng(0).normal(size=(70_000, 3)).astype(np.float32)
    cloud = encode_cloud(PointCloud(points=points))
    x, y, z, w = turn = np.array([1.0, -2, 3, 4]) / np.sqrt(30)
    cloud.points.pose.position.x = 5.0
    cloud.points.pose.orientation.CopyFrom(sensors_pb2.Quaternion(x=x, y=y, z=z, w=w))
    matrix = pose([5, 0, 0], turn)
    expected = np.array([matrix[:3, :3] @ point + matrix[:3, 3] for point in points.astype(np.float64)])
    np.testing.assert_allclose(decode(cloud).points, expected, atol=1e-6)


def test_a_pose_without_a_turn_or_shift_changes_nothing():
    cloud = message(data=struct.pack("<3f", 1, 2, 3))
    cloud.points.pose.orientation.w = 1
    assert decode(cloud).points.tolist() == [[1, 2, 3]]


def test_frame_and_up_axis_are_kept_and_have_defaults():
    assert (decode(message()).frame, decode(message()).up_axis) == (Frame.RAW, UpAxis.Z)
    decoded = decode(message(up_axis="UP_AXIS_Y", frame="FRAME_KIND_CANONICAL"))
    assert (decoded.frame, decoded.up_axis) == (Frame.CANONICAL, UpAxis.Y)


def coloured(*fields):
    return [*XYZ, *fields]


@pytest.mark.parametrize(
    ("cloud", "field", "words"),
    [
        (content_pb2.Cloud(), "points", "missing"),
        (message(stride=0), "points.point_stride", "0 bytes"),
        (message(data=b""), "points.data", "at least one point"),
        (message(data=bytes(12280)), "points.data", "12280 bytes, 1024 points of 12 bytes need 12288"),
        (message([]), "points.fields", "x, y, z missing"),
        (message(XYZ[:2]), "points.fields", "z missing"),
        (message([*XYZ, ("x", 0, F32)]), "points.fields[3].name", "'x' is there already"),
        (
            message([*XYZ[:2], ("z", 9, F32)]),
            "points.fields[2].offset",
            "ends at byte 13, past the stride of 12",
        ),
        (message([*XYZ[:2], ("z", 2**32 - 1, F32)]), "points.fields[2].offset", "past the stride"),
        (message([*XYZ[:2], ("z", 8, 0)]), "points.fields[2].type", "unset"),
        (message([*XYZ[:2], ("z", 8, 99)]), "points.fields[2].type", "99"),
        (
            message([("x", 0, F64), *XYZ[1:]]),
            "points.fields",
            "float64, float32, float32, need one floating type",
        ),
        (message([(name, at, U32) for name, at, _ in XYZ]), "points.fields", "uint32"),
        (message(coloured(("red", 0, U8))), "points.fields", "only red"),
        (
            message(coloured(("red", 0, F32), ("green", 4, F32), ("blue", 8, F32))),
            "points.fields",
            "red is float32, needs UINT8",
        ),
        (message(coloured(("rgb", 8, U8))), "points.fields", "rgb is uint8"),
        (message(coloured(("rgb", 8, F32), ("rgba", 8, U32))), "points.fields", "colours twice: rgb, rgba"),
        (
            message(coloured(("rgb", 8, F32), ("red", 0, U8), ("green", 0, U8), ("blue", 0, U8))),
            "points.fields",
            "colours twice",
        ),
        (message(up_axis=9), "up_axis", "9"),
        (message(frame=9), "frame", "9"),
    ],
)
def test_a_cloud_that_cannot_be_read_names_the_field(cloud, field, words):
    error = refusal(cloud)
    assert error.violations[0].field == f"point_cloud.{field}"
    assert words in error.violations[0].description


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_point_that_is_not_finite_is_named(bad):
    points = np.zeros((5, 3), np.float32)
    points[3, 1] = points[4, 0] = points[4, 2] = bad
    error = refusal(message(data=points.tobytes()))
    assert str(error) == "point_cloud.points.data: 2 of 5 points are not finite, the first at 3"


def test_a_double_past_the_range_of_a_float_is_not_finite():
    data = struct.pack("<3d", 0, 1e300, 0)
    error = refusal(message([("x", 0, F64), ("y", 8, F64), ("z", 16, F64)], 24, data))
    assert "1 of 1 points are not finite" in str(error)


def test_a_pose_that_throws_points_out_of_range_is_refused():
    cloud = message()
    cloud.points.pose.position.y = 1e300
    assert refusal(cloud).violations[0].field == "point_cloud.points.pose"


@pytest.mark.parametrize("part", ["position.x", "orientation.z"])
def test_a_pose_with_a_number_that_is_not_finite_is_refused(part):
    cloud = message()
    name, axis = part.split(".")
    setattr(getattr(cloud.points.pose, name), axis, float("nan"))
    assert refusal(cloud).violations[0].field == f"point_cloud.points.pose.{part}"


def test_too_many_points_or_fields_name_the_limit():
    error = refusal(message(), Limits(max_points=1))
    assert isinstance(error, LimitExceeded)
    assert str(error) == "point_cloud.points.data: 2 points, the limit is 1"
    error = refusal(message(), Limits(max_point_fields=2))
    assert str(error) == "point_cloud.points.fields: 3 fields, the limit is 2"


def test_a_timestamp_out_of_range_is_refused():
    cloud = message()
    cloud.points.timestamp.nanos = -1
    assert refusal(cloud).violations[0].field == "point_cloud.points.timestamp.nanos"


def test_ten_million_points_are_accepted_by_default_and_one_more_is_not():
    data = bytes(12 * 10_000_001)
    assert len(decode_cloud(message(), "", Limits(), memoryview(data)[12:])) == 10_000_000
    with pytest.raises(LimitExceeded, match="10000001 points, the limit is 10000000"):
        decode_cloud(message(), "", Limits(), data)
