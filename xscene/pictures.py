"""Pictures as files: headers, checked before anything is decoded, and upright RGB pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import MARKER, JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from xscene.errors import InvalidInput, LimitExceeded

JPEG, PNG, WEBP = "JPEG", "PNG", "WebP"
_CLASSES: Mapping[str, type[ImageFile.ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
}
# Whatever the decoders raise for bytes that are no picture.
_FAULTS = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error, zlib.error)
_MAX_REASON_CHARS = 100

_START_OF_SCAN = b"\xff\xda"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_CHECKSUM_BYTES = 4
_PNG_NOTES = frozenset({b"iCCP", b"iTXt", b"zTXt", b"tEXt"})
_MARK = 0xFF
_NO_SEGMENT = ("", "", None)
_WEBP_HEADER_BYTES = 30

_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_IFD_ENTRY_BYTES = 12
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_SIDEWAYS = 5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes past which a picture is refused."""

    max_image_bytes: int
    max_image_pixels: int
    min_image_side: int
    max_jpeg_scans: int
    max_image_parts: int

    def check_size(self, field: str, width: int, height: int) -> None:
        """Refuse a picture that has too many pixels, or too few."""
        if width * height > self.max_image_pixels:
            raise LimitExceeded.of(
                field, value=width * height, limit=self.max_image_pixels, unit=f"pixels ({width}x{height})"
            )
        if min(width, height) < self.min_image_side:
            raise InvalidInput.at(field, f"{width}x{height} pixels, a side needs {self.min_image_side}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file whose header was checked; its pixels are not decoded yet."""

    field: str
    data: bytes
    kind: str
    stored_size: tuple[int, int]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= _FIRST_SIDEWAYS else (width, height)

    def pixels(self, least_px: int | None = None) -> Image.Image:
        """The upright picture in RGB.

        With `least_px`, a JPEG is decoded at the smallest of its sizes whose sides are no shorter.
        """
        with _named(self.field, self.kind), _CLASSES[self.kind](io.BytesIO(self.data)) as file:
            if file.size != self.stored_size:
                raise InvalidInput.at(self.field, f"damaged {self.kind}: its size changes")
            if least_px is not None:
                # Only JPEG has sizes that cost less; elsewhere this does nothing.
                file.draft(None, (least_px, least_px))
            file.load()
            rgb = _rgb(file)
        turn = _TURNS.get(self.orientation)
        return rgb if turn is None else rgb.transpose(turn)


def read_header(field: str, data: bytes, limits: Limits) -> Picture:
    """A picture by its header; what cannot be decoded within the limits is refused."""
    if not data:
        raise InvalidInput.at(field, "is empty")
    if len(data) > limits.max_image_bytes:
        raise LimitExceeded.of(field, value=len(data), limit=limits.max_image_bytes, unit="bytes")
    kind = _kind(field, data)
    if kind == WEBP:
        # Its decoder takes memory for all pixels as soon as it is made.
        limits.check_size(field, *_webp_size(field, data))
    _check_parts(field, data, kind, limits)
    data = without_notes(data)
    with _named(field, kind), _CLASSES[kind](io.BytesIO(data)) as file:
        size, exif = file.size, file.info.get("exif", b"")
        is_animated = bool(getattr(file, "is_animated", False))
    limits.check_size(field, *size)
    if is_animated:
        raise InvalidInput.at(field, f"an animated {kind}, a single picture is needed")
    # Each scan of a progressive JPEG is a pass over all pixels and may be a few bytes long.
    num_scans = data.count(_START_OF_SCAN) if kind == JPEG else 0
    if num_scans > limits.max_jpeg_scans:
        raise LimitExceeded.of(field, value=num_scans, limit=limits.max_jpeg_scans, unit="JPEG scans")
    return Picture(field=field, data=data, kind=kind, stored_size=size, orientation=_orientation(exif))


def _kind(field: str, data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(_PNG_MAGIC):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    raise InvalidInput.at(field, f"is none of {JPEG}, {PNG}, {WEBP}")


def _check_parts(field: str, data: bytes, kind: str, limits: Limits) -> None:
    """Refuse a file of countless small parts, through which the library steps one by one."""
    if kind == WEBP:
        return
    names = _jpeg_parts(data) if kind == JPEG else (name for name, _, _ in _png_chunks(data))
    num_parts = sum(
        1 for _ in islice((name for name in names if name != b"IDAT"), limits.max_image_parts + 1)
    )
    if num_parts > limits.max_image_parts:
        unit = f"parts of a {kind} besides its pixels, or more"
        raise LimitExceeded.of(field, value=num_parts, limit=limits.max_image_parts, unit=unit)


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    """The markers in front of the pixels; of bytes that belong to none, each."""
    position = len(_START_OF_SCAN)
    while position + 1 < len(data):
        marker = data[position : position + 2]
        if marker == _START_OF_SCAN:
            return
        yield marker
        position += 1
        if marker[0] == _MARK and marker[1] not in (0, _MARK):
            position += 1
            if MARKER.get(int.from_bytes(marker), _NO_SEGMENT)[2] is not None:
                position += max(int.from_bytes(data[position : position + 2]), 2)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk."""
    start, name = len(_PNG_MAGIC), b""
    while start + _PNG_CHUNK.size <= len(data) and name != b"IEND":
        num_bytes, name = _PNG_CHUNK.unpack_from(data, start)
        end = start + _PNG_CHUNK.size + num_bytes + _PNG_CHECKSUM_BYTES
        yield name, start, end
        start = end


def without_notes(data: bytes) -> bytes:
    """A file whose PNG has no text and no colour profile, of which a few bytes inflate to megabytes."""
    chunks = list(_png_chunks(data)) if data.startswith(_PNG_MAGIC) else []
    if not any(name in _PNG_NOTES for name, _, _ in chunks):
        return data
    return _PNG_MAGIC + b"".join(data[start:end] for name, start, end in chunks if name not in _PNG_NOTES)


def _webp_size(field: str, data: bytes) -> tuple[int, int]:
    """Width and height as the header has them."""
    head = data[:_WEBP_HEADER_BYTES].ljust(_WEBP_HEADER_BYTES, b"\0")
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise InvalidInput.at(field, f"damaged {WEBP}: its first chunk is unknown")


def _orientation(exif: object) -> int:
    """How the picture is turned; upright where EXIF does not say or cannot be read."""
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(num_entries):
            offset = start + 2 + index * _IFD_ENTRY_BYTES
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, offset)
            if tag == _ORIENTATION_TAG:
                return value if value in _TURNS else 1
    except struct.error:
        pass
    return 1


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent lies on white."""
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits, not scale them.
        deep, clear = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray((deep >> 8).astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


@contextlib.contextmanager
def _named(field: str, kind: str) -> Iterator[None]:
    """Name the item whose bytes a decoder refuses."""
    try:
        yield
    except _FAULTS as error:
        reason = str(error).partition("\n")[0][:_MAX_REASON_CHARS]
        raise InvalidInput.at(field, f"damaged {kind}: {reason}") from error
