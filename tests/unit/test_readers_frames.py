"""Frames of ScanNet, exported and in the stream: whole, torn and hostile."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.allocation import allocates_at_most
from tests.fixtures_scannet import (
    SCAN,
    jpeg,
    matrix_text,
    millimetres,
    sens_bytes,
    write_dataset,
    write_export,
    write_scan_frames,
)
from tests.fixtures_scene import INTRINSICS, synthetic_scene
from trainer.data.readers.scannet import ScanNet, ScanNetOptions
from trainer.data.readers.scannet_frames import FrameOptions, resized_ids
from trainer.data.readers.sens import SensLimits, open_sens
from xscene.errors import InvalidInput, LimitExceeded, NotFound

SCENE = synthetic_scene()
HEADER_BYTES = 12 + len("synthetic") + 256 + 28 + 8


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path)
    return tmp_path / "scans" / SCAN


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "scene.sens"
    path.write_bytes(sens_bytes(SCENE))
    return path


def views(folder, **options):
    dataset = ScanNet(folder.parent.parent, options=ScanNetOptions(frames=FrameOptions(**options)))
    (entry,) = dataset.entries()
    return dataset.open(entry).views()


def write_stream(folder, scene):
    (folder / f"{SCAN}.sens").write_bytes(sens_bytes(scene))


def write_apart(folder, scene):
    write_export(folder.parent.parent / "scannet_2d", scene)


def write_inside(folder, scene):
    write_scan_frames(folder, scene, instances=True)


@pytest.mark.parametrize("write", [write_stream, write_apart, write_inside])
def test_every_layout_of_frames_holds_the_same(folder, write):
    write(folder, SCENE)
    found = views(folder, sens_step=1)
    assert len(found) == 3
    for at, view in enumerate(found):
        assert view.color() == jpeg(SCENE, at)
        depth = view.depth()
        np.testing.assert_allclose(depth.metres, millimetres(SCENE, at) / 1000, rtol=1e-6)
        for camera in (view.intrinsics, depth.intrinsics):
            np.testing.assert_allclose(camera.matrix(), INTRINSICS.matrix(), rtol=1e-6)
            assert (camera.width, camera.height) == (64, 48)
    for at in range(2):
        np.testing.assert_allclose(found[at].camera_to_world, SCENE.camera_to_world[at], atol=1e-6)
    assert [view.is_tracked for view in found] == [True, True, False]


@pytest.mark.parametrize("option", ["sens_step", "depth_units_a_metre"])
def test_options_that_cannot_be_are_refused(option):
    with pytest.raises(InvalidInput, match=rf"^{option}: 0, needs"):
        FrameOptions(**{option: 0})


def test_a_scan_without_frames_has_no_views(folder):
    assert len(views(folder)) == 0


def test_frames_are_ordered_by_number_and_may_be_sliced(folder):
    write_scan_frames(folder, SCENE, numbers=(100, 0, 20))
    assert [view.view_id for view in views(folder)] == ["0", "20", "100"]
    assert [view.view_id for view in views(folder)[1:]] == ["20", "100"]
    assert views(folder)[-1].view_id == "100"
    with pytest.raises(IndexError):
        views(folder)[3]


def test_every_so_many_frames_of_a_stream_are_views(folder):
    (folder / f"{SCAN}.sens").write_bytes(sens_bytes(SCENE, repeat=14))
    assert [view.view_id for view in views(folder)] == ["0", "20", "40"]
    assert len(views(folder, sens_step=7)) == 6


@pytest.mark.parametrize("write", [write_stream, write_inside])
def test_pixels_name_the_objects_of_the_aggregation(folder, write):
    write(folder, SCENE)
    if write is write_stream:
        (folder / "instance-filt").mkdir()
        for at in range(3):
            ids = Image.fromarray((SCENE.pixel_instances[at] + 1).astype(np.uint8))
            ids.save(folder / f"instance-filt/{at}.png")
    for at, view in enumerate(views(folder, sens_step=1)):
        np.testing.assert_array_equal(view.object_pixels(), SCENE.pixel_instances[at])


def test_what_was_not_exported_is_not_there(folder):
    write_scan_frames(folder, SCENE)
    (folder / "data/depth/20.png").unlink()
    view = views(folder)[1]
    assert view.depth() is None
    assert view.object_pixels() is None
    (folder / "data/pose/20.txt").unlink()
    with pytest.raises(NotFound, match=r"^20\.txt: there is no such file"):
        views(folder)[1]


def test_a_camera_that_was_written_for_another_size_is_refused(folder):
    write_apart(folder, SCENE)
    path = folder.parent.parent / "scannet_2d/intrinsics.txt"
    path.write_text("28 0 15.5 0\n0 28 11.5 0\n0 0 1 0\n0 0 0 1\n")
    with pytest.raises(InvalidInput, match=r"^intrinsics\.txt: is for pictures of about 32x24 px"):
        views(folder)[0]


def enlarge(folder, width, height):
    """Pictures in the scan's folder at another size, with one camera file for them and depth."""
    for path in (folder / "data/color").iterdir():
        Image.open(path).resize((width, height)).save(path)
    camera = np.eye(4)
    camera[:3, :3] = INTRINSICS.resized(width, height).matrix()
    (folder / "intrinsics.txt").write_text(matrix_text(camera))
    shutil.rmtree(folder / "data/intrinsic")


@pytest.mark.parametrize(("size", "rtol"), [((64, 48), 1e-6), ((128, 96), 1e-6), ((129, 96), 0.01)])
def test_one_camera_for_pictures_and_smaller_depth_is_brought_to_the_size_of_each(folder, size, rtol):
    write_scan_frames(folder, SCENE)
    enlarge(folder, *size)
    view = views(folder)[0]
    depth = view.depth()
    assert (view.intrinsics.width, view.intrinsics.height) == size
    assert depth.metres.shape == (48, 64)
    np.testing.assert_allclose(depth.intrinsics.matrix(), INTRINSICS.matrix(), rtol=rtol)


def test_one_camera_for_depth_of_other_proportions_is_refused(folder):
    write_scan_frames(folder, SCENE)
    enlarge(folder, 136, 96)
    with pytest.raises(InvalidInput, match=r"^intrinsics\.txt: is for pictures of 136x96 px, depth is 64x48"):
        views(folder)[0].depth()


def test_a_picture_of_another_size_than_the_first_is_refused(folder):
    write_scan_frames(folder, SCENE)
    Image.new("RGB", (32, 24)).save(folder / "data/color/20.jpg")
    with pytest.raises(InvalidInput, match=r"^20\.jpg: 32x24 px, the first is 64x48"):
        views(folder)[1].color()


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a" + bytes(40)])
def test_what_is_no_picture_is_refused(folder, data):
    write_scan_frames(folder, SCENE)
    (folder / "data/depth/0.png").write_bytes(data)
    with pytest.raises(InvalidInput, match=rf"^depth/0\.png: {len(data)} bytes that are no"):
        views(folder)[0].depth()


def test_a_torn_depth_picture_is_refused(folder):
    write_scan_frames(folder, SCENE)
    path = folder / "data/depth/0.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidInput, match=r"^depth/0\.png: cannot be decoded"):
        views(folder)[0].depth()


def test_a_picture_past_the_limit_is_refused_before_it_is_decoded(folder):
    write_scan_frames(folder, SCENE)
    Image.new("I;16", (4000, 4000)).save(folder / "data/depth/0.png")
    with allocates_at_most(4 << 20):
        with pytest.raises(LimitExceeded, match=r"depth/0\.png: 16000000 pixels, the limit is 4000"):
            views(folder, max_picture_pixels=4000)[0].depth()


@given(
    ids=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4),
    grow=st.integers(1, 4),
)
def test_ids_that_were_enlarged_come_back(ids, grow):
    small = np.array(ids, dtype=np.int32)
    large = small.repeat(grow, axis=0).repeat(grow, axis=1)
    np.testing.assert_array_equal(resized_ids(large, *small.shape), small)
    np.testing.assert_array_equal(resized_ids(small, *large.shape), large)


def test_a_stream_is_read_whole_with_motions_behind_it(tmp_path):
    path = tmp_path / "scene.sens"
    path.write_bytes(sens_bytes(SCENE, num_imu=5))
    found = open_sens(path)
    assert (len(found), found.sensor) == (3, "synthetic")
    np.testing.assert_allclose(found.depth(1), millimetres(SCENE, 1) / 1000, rtol=1e-6)


def test_a_stream_may_pass_to_another_process(stream):
    again = pickle.loads(pickle.dumps(open_sens(stream)))
    assert again.color(1) == jpeg(SCENE, 1)


def test_a_stream_that_was_cut_off_anywhere_is_refused(tmp_path):
    data = sens_bytes(SCENE, num_imu=1)
    path = tmp_path / "scene.sens"
    path.write_bytes(data)
    for cut in reversed(range(len(data))):
        os.truncate(path, cut)
        with pytest.raises(InvalidInput, match=r"^scene\.sens: "):
            open_sens(path)


def test_a_stream_that_goes_on_is_refused(stream):
    stream.write_bytes(stream.read_bytes() + b"\0")
    with pytest.raises(InvalidInput, match="1 bytes follow its frames, 0 motions need 0"):
        open_sens(stream)


def changed(path, offset, layout, *values):
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(data)


COUNT_AT = HEADER_BYTES - 8
CODECS_AT = COUNT_AT - 28


@pytest.mark.parametrize(
    ("offset", "layout", "values", "message"),
    [
        (0, "<I", (3,), "of version 3, needs 4"),
        (4, "<Q", (1 << 62,), "sensor: 4611686018427387904 bytes, the limit is 4096"),
        (CODECS_AT, "<i", (0,), "colour codec 0"),
        (CODECS_AT + 4, "<i", (2,), "depth codec 2"),
        (CODECS_AT + 16, "<II", (1 << 20, 1 << 20), "1099511627776 pixels, the limit is"),
        (CODECS_AT + 24, "<f", (0.0,), "0.0 units of depth"),
        (CODECS_AT + 24, "<f", (float("nan"),), "nan units of depth"),
        (CODECS_AT - 256, "<f", (float("inf"),), "values are not finite"),
        (COUNT_AT, "<Q", (999_999,), "999999 frames do not fit"),
        (COUNT_AT, "<Q", (1 << 63,), "frames, the limit is 1000000"),
        (HEADER_BYTES + 80, "<Q", (1 << 63,), "colour of frame 0: 9223372036854775808 bytes, the limit is"),
        (HEADER_BYTES + 88, "<Q", (1 << 20,), "was cut off within frame 0 of 3"),
    ],
)
def test_a_stream_that_lies_is_refused_before_anything_is_allocated(stream, offset, layout, values, message):
    changed(stream, offset, layout, *values)
    with allocates_at_most(1 << 20):
        with pytest.raises(InvalidInput, match=rf"^scene\.sens.*{message}"):
            open_sens(stream)


def packed(scene, depth):
    """The scene's stream with something else as depth of its first frame."""
    data, old = sens_bytes(scene), zlib.compress(millimetres(scene, 0).tobytes())
    data = data.replace(old, depth, 1)
    return data[: HEADER_BYTES + 88] + struct.pack("<Q", len(depth)) + data[HEADER_BYTES + 96 :]


@pytest.mark.parametrize("num_bytes", [0, 64 * 48 * 2 - 1, 64 * 48 * 2 + 1, 200 << 20])
def test_depth_that_unpacks_to_another_size_is_refused_in_bounded_memory(stream, num_bytes):
    stream.write_bytes(packed(SCENE, zlib.compress(bytes(num_bytes))))
    found = open_sens(stream)
    with allocates_at_most(2 << 20):
        with pytest.raises(InvalidInput, match=r"scene\.sens: depth of frame 0: unpacks to \d+ bytes"):
            found.depth(0)


def test_depth_that_is_not_packed_is_refused(stream):
    stream.write_bytes(packed(SCENE, b"not packed"))
    with pytest.raises(InvalidInput, match=r"depth of frame 0: cannot be unpacked"):
        open_sens(stream).depth(0)


def test_a_stream_is_read_a_frame_at_a_time(tmp_path):
    path = tmp_path / "scene.sens"
    path.write_bytes(sens_bytes(SCENE, repeat=400))
    found = open_sens(path)
    with allocates_at_most(path.stat().st_size // 4):
        for frame in range(0, len(found), 50):
            found.depth(frame)
            found.color(frame)
    with pytest.raises(LimitExceeded, match="1200 frames, the limit is 100"):
        open_sens(path, limits=SensLimits(max_frames=100))


def test_a_picture_of_a_stream_has_the_size_that_the_stream_says(stream):
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "JPEG")
    old, data = jpeg(SCENE, 0), stream.read_bytes()
    padded = small.getvalue() + bytes(len(old) - len(small.getvalue()))
    stream.write_bytes(data.replace(old, padded, 1))
    with pytest.raises(InvalidInput, match="colour of frame 0: 8x8 px, the stream says 64x48"):
        open_sens(stream).color(0)
