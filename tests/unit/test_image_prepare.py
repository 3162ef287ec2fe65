"""Pictures of a request: every fault has its name, crops are what they say, work is not done twice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders_2d.prepare import GROUPS, Resizing, decode_squares, num_rows
from tests.image_backbones import LIMITS, encoded, picture, request
from xscene import pictures
from xscene.errors import InvalidInput, LimitExceeded

RESIZING = Resizing(side_px=28, jpeg_margin=2)
PICTURES = [picture(seed) for seed in range(3)]
FILES = [encoded(each) for each in PICTURES]


def rows(tensors) -> list[np.ndarray]:
    found = decode_squares(tensors, LIMITS, RESIZING)
    return [found.squares[place] for place in found.places]


def refused(message, tensors, limits=LIMITS):
    with pytest.raises(InvalidInput) as caught:
        decode_squares(tensors, limits, RESIZING)
    assert caught.value.message == message


def cubic(x: float) -> float:
    """The bicubic kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def slow_axis(image: np.ndarray, side: int) -> np.ndarray:
    """The first axis resized, number by number; the kernel is as wide as a new pixel where that is wider."""
    num = len(image)
    scale = num / side
    width = max(scale, 1.0)
    out = []
    for index in range(side):
        centre = (index + 0.5) * scale
        weights = np.array([cubic((each + 0.5 - centre) / width) for each in range(num)])
        out.append(np.tensordot(weights / weights.sum(), image, axes=(0, 0)))
    return np.stack(out)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (20, 70), (28, 28), (9, 11)])
def test_squares_are_bicubic_and_antialiased(width, height):
    image = picture(5, width, height)
    across = slow_axis(image.astype(np.float64).transpose(1, 0, 2), 28).transpose(1, 0, 2)
    wanted = slow_axis(across, 28).clip(0, 255)
    (found,) = rows(request(image[None]))
    assert found.shape == (28, 28, 3)
    assert np.abs(found - wanted).max() <= 2


def test_a_fine_pattern_becomes_grey_and_not_a_coarse_one():
    lines = np.zeros((280, 280, 3), np.uint8)
    lines[::2] = 255
    (found,) = rows(request(lines[None]))
    assert found.min() > 120
    assert found.max() < 135


def test_pixels_and_lossless_files_give_the_same():
    for pixels, file in zip(rows(request(np.stack(PICTURES))), rows(request(FILES)), strict=True):
        np.testing.assert_array_equal(pixels, file)


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(0, 60), st.integers(0, 44), st.integers(4, 64), st.integers(4, 48)), st.booleans()
)
def test_a_crop_is_the_square_of_the_cropped_picture(corner, from_pixels):
    left, top, width, height = corner
    right, bottom = min(left + width, 64), min(top + height, 48)
    box = (min(left, right - 4), min(top, bottom - 4), right, bottom)
    source = PICTURES[0][None] if from_pixels else FILES[:1]
    cropped = PICTURES[0][box[1] : box[3], box[0] : box[2]]
    np.testing.assert_array_equal(rows(request(source, [box]))[0], rows(request(cropped[None]))[0])


def test_boxes_are_in_the_upright_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(PICTURES[0], exif=exif)
    upright = np.rot90(PICTURES[0], -1)
    found = rows(request([file], [(10, 20, 40, 60)]))
    np.testing.assert_array_equal(found[0], rows(request(upright[None, 20:60, 10:40].copy()))[0])
    refused(
        "boxes[0]: [0, 0, 64, 48] is no box in a picture of 48x64 pixels", request([file], [(0, 0, 64, 48)])
    )


def test_crops_of_a_large_jpeg_are_cut_from_all_its_pixels():
    large = picture(2, 640, 480)
    file = encoded(large, "JPEG", quality=95)
    whole = pictures.read_header("image[0]", file, LIMITS).pixels()
    (found,) = rows(request([file], [(100, 50, 140, 90)]))
    np.testing.assert_array_equal(found, RESIZING.square(whole, (100, 50, 140, 90)))


def test_a_large_jpeg_as_a_whole_is_decoded_small_and_looks_the_same():
    file = encoded(picture(2, 640, 480), "JPEG", quality=95)
    whole = pictures.read_header("image[0]", file, LIMITS).pixels()
    (found,) = rows(request([file]))
    difference = np.abs(found.astype(int) - RESIZING.square(whole, None))
    assert 0 < difference.max() <= 12
    assert difference.mean() < 1


def test_a_picture_that_stands_on_several_rows_is_decoded_once(monkeypatch):
    decoded = []
    pixels = pictures.Picture.pixels
    monkeypatch.setattr(
        pictures.Picture, "pixels", lambda self, least: (decoded.append(self.field), pixels(self, least))[1]
    )
    boxes = [(0, 0, 32, 32), (0, 0, 64, 48), (8, 8, 32, 32), (0, 0, 32, 32)]
    files = [FILES[0], FILES[1], FILES[0], FILES[0]]
    found = decode_squares(request(files, boxes), LIMITS, RESIZING)
    assert decoded == ["image[0]", "image[1]"]
    assert len(found.squares) == 3
    assert found.places[0] == found.places[3]
    for row, place in enumerate(found.places):
        np.testing.assert_array_equal(found.squares[place], rows(request([files[row]], [boxes[row]]))[0])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "inputs: image or pixels is needed, neither is there"),
        (request(FILES) | request(np.stack(PICTURES)), "inputs: image or pixels is needed, both are there"),
        (request([]), "image: is empty, at least one picture is needed"),
        (request(FILES * 6), "image: 18 pictures, the limit is 16"),
        (request(np.zeros((0, 8, 8, 3), np.uint8)), "pixels: is empty, at least one picture is needed"),
        (request(np.zeros((17, 8, 8, 3), np.uint8)), "pixels: 17 pictures, the limit is 16"),
        (request(np.zeros((1, 3, 8, 3), np.uint8)), "pixels[0]: 8x3 pixels, a side needs 4"),
        (request(np.zeros((1, 0, 0, 3), np.uint8)), "pixels[0]: 0x0 pixels, a side needs 4"),
        (request([*FILES, b"nothing"]), "image[3]: is none of JPEG, PNG, WebP"),
        (request([FILES[0], b"", b""]), "image[1]: is empty"),
        (request(FILES, [(0, 0, 8, 8)]), "boxes: 1 boxes, there are 3 pictures"),
        (request(FILES[:1], [(0, 0, 3, 8)]), "boxes[0]: [0, 0, 3, 8], a side needs 4 pixels"),
    ],
)
def test_what_cannot_be_is_named(tensors, message):
    refused(message, tensors)


@pytest.mark.parametrize(
    "box",
    [(-1, 0, 8, 8), (0, 0, 65, 8), (0, 0, 8, 49), (8, 0, 8, 8), (9, 0, 8, 8), (0, 2**31 - 1, 8, -(2**31))],
)
def test_a_box_outside_its_picture_is_named(box):
    message = f"boxes[1]: {list(box)} is no box in a picture of 64x48 pixels"
    refused(message, request(FILES[:2], [(0, 0, 64, 48), box]))


def test_too_many_pixels_are_named_for_one_picture_and_for_all():
    tight = replace(LIMITS, max_image_pixels=3071)
    refused("image[0]: 3072 pixels (64x48), the limit is 3071", request(FILES), tight)
    refused("pixels[0]: 3072 pixels (64x48), the limit is 3071", request(PICTURES[0][None]), tight)
    tight = replace(LIMITS, max_request_pixels=9215)
    refused("image: 9216 pixels in all, the limit is 9215", request(FILES), tight)
    refused("pixels: 9216 pixels in all, the limit is 9215", request(np.stack(PICTURES)), tight)
    with pytest.raises(LimitExceeded):
        decode_squares(request(FILES), tight, RESIZING)


def test_nothing_is_decoded_before_every_header_was_read(monkeypatch):
    monkeypatch.setattr(pictures.Picture, "pixels", lambda *_: pytest.fail("decoded"))
    refused("image[3]: is none of JPEG, PNG, WebP", request([*FILES, b"nothing"]))
    refused(
        "boxes[2]: [0, 0, 99, 9] is no box in a picture of 64x48 pixels",
        request(FILES, [(0, 0, 9, 9), (0, 0, 9, 9), (0, 0, 99, 9)]),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "group_ends: is empty, at least one group is needed"),
        ((0, 5), "group_ends[0]: 0, needs more than 0: a group holds at least one picture"),
        ((2, 2, 5), "group_ends[1]: 2, needs more than 2: a group holds at least one picture"),
        ((3, 2, 5), "group_ends[1]: 2, needs more than 3: a group holds at least one picture"),
        ((2, 6), "group_ends[1]: 6, there are 5 pictures"),
        ((2, 4), "group_ends[1]: 4, the last group must end at 5, the last picture"),
    ],
)
def test_group_ends_that_cannot_be_are_named(values, message):
    with pytest.raises(InvalidInput) as caught:
        GROUPS.decode(np.array(values, np.int32), 5)
    assert caught.value.message == message


def test_group_ends_that_can_be_are_taken():
    assert GROUPS.decode(np.array([1, 4, 5], np.int32), 5) == [1, 4, 5]
    assert num_rows(request(FILES), LIMITS) == 3
