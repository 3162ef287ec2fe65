"""Files of pictures: what they show comes out, whatever cannot be shown is refused by its header."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.image_backbones import encoded, picture
from tests.memory import growth_below
from xscene.errors import InvalidInput, LimitExceeded
from xscene.pictures import Limits, read_header

LIMITS = Limits(
    max_image_bytes=200_000, max_image_pixels=250_000, min_image_side=4, max_jpeg_scans=12, max_image_parts=40
)
PICTURE = picture()


def decode(data: bytes, least_px: int | None = None) -> np.ndarray:
    return np.asarray(read_header("image[3]", data, LIMITS).pixels(least_px))


def refused(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(data)
    assert [violation.field for violation in caught.value.violations] == ["image[3]"]
    return caught.value.message


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize("options", [{"kind": "PNG"}, {"kind": "WEBP", "lossless": True}])
def test_lossless_files_give_their_pixels(options):
    np.testing.assert_array_equal(decode(encoded(PICTURE, **options)), PICTURE)


@pytest.mark.parametrize(
    "options", [{"kind": "JPEG"}, {"kind": "WEBP"}, {"kind": "JPEG", "progressive": True}]
)
def test_lossy_files_give_nearly_their_pixels(options):
    found = decode(encoded(PICTURE, quality=95, **options))
    assert np.abs(found.astype(int) - PICTURE).mean() < 4


def test_grey_becomes_three_equal_channels():
    grey = Image.fromarray(PICTURE[..., 0])
    for data in (encoded(grey), encoded(grey, "JPEG", quality=100), encoded(grey.convert("1"))):
        found = decode(data)
        assert (found[..., 0] == found[..., 1]).all()
        assert (found[..., 0] == found[..., 2]).all()
    np.testing.assert_array_equal(decode(encoded(grey))[..., 0], PICTURE[..., 0])


def test_sixteen_bits_are_scaled_and_not_clipped():
    deep = PICTURE[..., 0].astype(np.uint16) << 8 | 0x7F
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep)))[..., 0], PICTURE[..., 0])


def test_sixteen_bits_of_a_transparent_shade_lie_on_white():
    deep = PICTURE[..., 0].astype(np.uint16) << 8 | 0x7F
    found = decode(encoded(Image.fromarray(deep), transparency=int(deep[3, 5])))
    assert 0 < (deep == deep[3, 5]).sum() < deep.size
    np.testing.assert_array_equal(found[..., 0], np.where(deep == deep[3, 5], 255, PICTURE[..., 0]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_lies_on_white(kind):
    alpha = np.zeros(PICTURE.shape[:2], np.uint8)
    alpha[:, 20:40], alpha[:, 40:] = 128, 255
    layered = Image.fromarray(np.dstack([PICTURE, alpha]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    share = alpha[..., None] / 255
    wanted = PICTURE * share + 255 * (1 - share)
    np.testing.assert_allclose(decode(encoded(layered, kind, **options)), wanted, atol=1)


def test_palettes_with_a_transparent_colour_lie_on_white_too():
    indexed = Image.fromarray(PICTURE).quantize(16)
    wanted = np.asarray(indexed.convert("RGB")).copy()
    np.testing.assert_array_equal(decode(encoded(indexed)), wanted)
    wanted[np.asarray(indexed) == 3] = 255
    np.testing.assert_array_equal(decode(encoded(indexed, transparency=3)), wanted)


def test_grey_with_alpha_lies_on_white():
    layered = Image.fromarray(np.dstack([PICTURE[..., 0], np.zeros_like(PICTURE[..., 0])]), "LA")
    assert (decode(encoded(layered)) == 255).all()


def test_four_colour_jpegs_become_rgb():
    found = decode(encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - PICTURE).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright_as_exif_says(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}[kind]
    data = encoded(PICTURE, kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as file:
        wanted = np.asarray(ImageOps.exif_transpose(file.convert("RGB") if kind == "WEBP" else file))
    header = read_header("image[0]", data, LIMITS)
    found = np.asarray(header.pixels())
    np.testing.assert_array_equal(found, wanted)
    assert header.size == found.shape[1::-1] == ((48, 64) if orientation > 4 else (64, 48))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",
        b"Exif\0\0II\x2a\0\xff\xff\xff\xff",
        b"Exif\0\0II\x2a\0\x08\0\0\0\xff\xff",
    ],
)
def test_exif_that_makes_no_sense_leaves_a_picture_as_it_is(exif):
    assert read_header("image[0]", encoded(PICTURE, exif=exif), LIMITS).orientation == 1


def test_a_large_jpeg_is_decoded_at_the_smallest_size_that_is_enough():
    data = encoded(picture(width=640, height=330), "JPEG", quality=95)
    whole, half, quarter = decode(data), decode(data, 110), decode(data, 80)
    assert [each.shape for each in (whole, half, quarter)] == [(330, 640, 3), (165, 320, 3), (83, 160, 3)]
    slow = whole.reshape(165, 2, 320, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - slow).mean() < 1.5


def test_only_jpegs_have_smaller_sizes():
    assert decode(encoded(PICTURE), 8).shape == PICTURE.shape


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(40), "is none of JPEG, PNG, WebP"),
        (b"BM" + bytes(40), "is none of JPEG, PNG, WebP"),
        (b"<svg></svg>", "is none of JPEG, PNG, WebP"),
        (b"RIFF\x10\0\0\0WEBPnope" + bytes(40), "damaged WebP: its first chunk is unknown"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG: "),
        (b"\xff\xd8\xff\xd9", "damaged JPEG: "),
        (b"\xff\xd8\xff\xe0" + b"\0" * 30, "damaged JPEG: "),
    ],
)
def test_bytes_that_are_no_picture_are_the_callers_fault(data, message):
    assert refused(data).startswith(f"image[3]: {message}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_is_cut_off_is_damaged(kind):
    data = encoded(PICTURE, kind)
    for share in (0.1, 0.5, 0.9):
        assert ": damaged " in refused(data[: int(len(data) * share)])


def test_too_many_bytes_name_the_limit():
    with pytest.raises(LimitExceeded, match=r"^image\[3\]: 200001 bytes, the limit is 200000$"):
        decode(encoded(PICTURE).ljust(200_001, b"\0"))


def vp8x(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def vp8l(width: int, height: int) -> bytes:
    body = b"VP8L" + struct.pack("<I", 5) + b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def vp8(width: int, height: int) -> bytes:
    body = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded(PICTURE, "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("claim", [vp8x, vp8l, vp8, jpeg_claiming, png_of])
def test_a_header_that_claims_too_many_pixels_is_refused_before_memory_is_taken(claim):
    data = claim(12_000, 12_000)
    with growth_below(4 << 20), pytest.raises(LimitExceeded) as caught:
        decode(data)
    assert caught.value.message == "image[3]: 144000000 pixels (12000x12000), the limit is 250000"


def test_a_real_bomb_is_refused_by_its_header():
    rows = zlib.compress(bytes(12_000 * 3 + 1) * 400)
    with growth_below(4 << 20):
        assert "the limit is 250000" in refused(png_of(12_000, 400, chunk(b"IDAT", rows)))


def test_the_largest_picture_that_is_allowed_takes_a_few_copies_of_its_pixels():
    layered = encoded(np.full((500, 500, 4), 128, np.uint8))
    with growth_below(24 << 20):
        assert decode(layered).shape == (500, 500, 3)


@pytest.mark.parametrize("size", [(3, 64), (64, 3), (1, 1)])
def test_a_side_that_is_too_short_is_named(size):
    message = f"image[3]: {size[0]}x{size[1]} pixels, a side needs 4"
    assert refused(encoded(Image.new("RGB", size))) == message


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind):
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert refused(data).startswith("image[3]: an animated")


def test_a_progressive_jpeg_of_countless_scans_is_refused():
    data = encoded(PICTURE, "JPEG", progressive=True)
    assert 1 < data.count(b"\xff\xda") <= 12
    last = data[data.rindex(b"\xff\xda") : -2]
    assert refused(data[:-2] + last * 9 + data[-2:]).endswith("JPEG scans, the limit is 12")


PIXELS = chunk(b"IDAT", zlib.compress(bytes(97 * 32)))
JPEG_FILE = encoded(PICTURE, "JPEG")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png_of(32, 32, *[chunk(b"tEXt", b"a\0b")] * 40, PIXELS), "PNG"),
        (png_of(32, 32, PIXELS, *[chunk(b"tEXt", b"a\0b")] * 40), "PNG"),
        (JPEG_FILE[:2] + b"\xff\xfe\0\2" * 41 + JPEG_FILE[2:], "JPEG"),
        (JPEG_FILE[:2] + b"\xff\xfe\0\0" * 41 + JPEG_FILE[2:], "JPEG"),
        (JPEG_FILE[:2] + b"\xff\xf0" * 41 + JPEG_FILE[2:], "JPEG"),
        (JPEG_FILE[:2] + b"\xff" * 41 + JPEG_FILE[2:], "JPEG"),
        (JPEG_FILE[:20] + b"\0" * 41 + JPEG_FILE[20:], "JPEG"),
    ],
)
def test_a_file_of_countless_small_parts_is_refused(data, kind):
    assert refused(data) == f"image[3]: 41 parts of a {kind} besides its pixels, or more, the limit is 40"


def test_pixels_may_come_in_any_number_of_chunks():
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PICTURE[:32, :32]))
    each = [chunk(b"IDAT", rows[start : start + 8]) for start in range(0, len(rows), 8)]
    assert len(each) > 40
    np.testing.assert_array_equal(decode(png_of(32, 32, *each)), PICTURE[:32, :32])


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_and_profiles_that_inflate_are_not_read(name):
    head = b"note\0\1\0\0\0" if name == b"iTXt" else b"note\0\0"
    notes = [chunk(name, head + zlib.compress(bytes(900_000), 9))] * 30
    with growth_below(1 << 20):
        assert decode(png_of(32, 32, *notes, PIXELS, *notes[:5])).shape == (32, 32, 3)


def shown(data: bytes) -> tuple[str, np.ndarray | None]:
    """The pixels of a file, or why it has none."""
    try:
        return "", decode(data)
    except InvalidInput as error:
        return error.message, None


FILES = [encoded(PICTURE, kind) for kind in ("JPEG", "PNG", "WEBP")]


# Pillow warns of odd EXIF and the like, which hinders nobody.
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 400),
)
@example(FILES[2], [(16, 255)], 0)
def test_damage_anywhere_is_shown_or_refused_and_nothing_else(data, changes, num_cut):
    damaged = bytearray(data[: len(data) - num_cut])
    for place, value in changes:
        damaged[place % len(damaged)] = value
    fault, found = shown(bytes(damaged))
    assert fault.startswith("image[3]: ") == (found is None)
    if found is not None:
        assert (found.ndim, found.dtype) == (3, np.uint8)
        assert found.shape[0] * found.shape[1] <= LIMITS.max_image_pixels


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 90), st.integers(4, 90), st.integers(0, 10**6), st.sampled_from(["PNG", "WEBP"]))
def test_pixels_of_any_size_survive_a_lossless_file(width, height, seed, kind):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(decode(encoded(image, kind, lossless=True)), image)
