"""Plain files of data sets: bytes, text, keyed text, matrices and pictures; each is bounded.

Whatever is wrong is refused by the file's name. Shapes: H and W pixels.
"""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.geometry.frames import Matrix

MAX_TEXT_BYTES = 16 << 20
MAX_PICTURE_BYTES = 64 << 20
MAX_PICTURE_PIXELS = 64 << 20
NAME_CHARS = 80
PICTURES = ("JPEG", "PNG", "WEBP", "PPM")
GREY_MODES = ("L", "I", "I;16", "I;16B")


def file_bytes(path: Path, *, max_bytes: int) -> int:
    """Size of a plain file; refuses one that is missing, no file, or larger than the limit."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path.name}: there is no such file") from error
    # A pipe would be waited for.
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput.at(path.name, "is no plain file")
    if found.st_size > max_bytes:
        raise LimitExceeded.of(path.name, value=found.st_size, limit=max_bytes, unit="bytes")
    return found.st_size


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The whole of a file."""
    num_bytes = file_bytes(path, max_bytes=max_bytes)
    with path.open("rb") as file:
        return file.read(num_bytes)


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The whole of a text in UTF-8."""
    return text_of(read_bytes(path, max_bytes=max_bytes), path.name)


def text_of(data: bytes, where: str) -> str:
    """Bytes as UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput.at(where, f"byte {error.start} is no UTF-8") from error


def read_lines(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> tuple[str, ...]:
    """Lines without the space around them; empty ones are left out."""
    return tuple(line.strip() for line in read_text(path, max_bytes=max_bytes).splitlines() if line.strip())


def read_table(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> list[dict[str, str]]:
    """Rows of a tab-separated table under the names of its first line."""
    lines = read_text(path, max_bytes=max_bytes).splitlines()
    names = lines[0].split("\t") if lines else []
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) > len(names):
            raise InvalidInput.at(
                f"{path.name}, line {number}", f"{len(cells)} cells under {len(names)} names"
            )
        if line.strip():
            rows.append(dict(zip(names, cells, strict=False)))
    return rows


def numbers(text: str, where: str, count: int | None = None) -> Matrix:
    """Numbers apart by space (count,), which may be infinite or not numbers."""
    words = text.split()
    if count not in (None, len(words)):
        raise InvalidInput.at(where, f"{len(words)} numbers, needs {count}")
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise InvalidInput.at(where, f"{shown(text)} is not all numbers") from error


def read_matrix(path: Path, shape: tuple[int, int] = (4, 4), *, max_bytes: int = MAX_TEXT_BYTES) -> Matrix:
    """A matrix of that shape, row after row; a lost pose is not finite."""
    text = read_text(path, max_bytes=max_bytes)
    return numbers(text, path.name, math.prod(shape)).reshape(shape)


def shown(text: str) -> str:
    """A text as messages quote it, cut off where it is long."""
    return repr(text[:NAME_CHARS])


@dataclass(frozen=True)
class KeyedText:
    """Lines `key = value` of a file."""

    name: str
    values: Mapping[str, str]

    def text(self, key: str) -> str:
        """The value of a key that must be there."""
        if key not in self.values:
            raise InvalidInput.at(self.name, f"has no {key}")
        return self.values[key]

    def numbers(self, key: str, count: int) -> Matrix:
        """So many numbers."""
        return numbers(self.text(key), f"{self.name}: {key}", count)

    def number(self, key: str) -> float:
        """A finite number."""
        (found,) = self.numbers(key, 1).tolist()
        if not math.isfinite(found):
            raise InvalidInput.at(f"{self.name}: {key}", f"{found}, needs a finite number")
        return float(found)

    def integer(self, key: str) -> int:
        """A whole number."""
        found = self.number(key)
        if found != int(found):
            raise InvalidInput.at(f"{self.name}: {key}", f"{found}, needs a whole number")
        return int(found)


def read_keyed(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> KeyedText:
    """A file of lines `key = value`."""
    return keyed_text(read_text(path, max_bytes=max_bytes), path.name)


def keyed_text(text: str, name: str) -> KeyedText:
    """Lines `key = value`; refuses any other line, and a key given twice."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not (key and equals) or key in values:
            fault = "given twice" if key in values else "is no `key = value`"
            raise InvalidInput.at(f"{name}, line {number}", f"{shown(line)} {fault}")
        values[key] = value
    return KeyedText(name, values)


def picture_size(data: bytes, where: str, *, max_pixels: int = MAX_PICTURE_PIXELS) -> tuple[int, int]:
    """Width and height from the head of a JPEG, PNG, WebP or PGM."""
    return _picture(data, where, max_pixels)[1]


def grey_pixels(data: bytes, where: str, *, max_pixels: int = MAX_PICTURE_PIXELS) -> NDArray[np.int32]:
    """Whole numbers (H,W) of a picture with one channel of 8 or 16 bits, such as depth or ids."""
    picture, _ = _picture(data, where, max_pixels)
    if picture.mode not in GREY_MODES:
        raise InvalidInput.at(where, f"has channels {picture.mode}, needs one of 8 or 16 bits")
    try:
        return np.asarray(picture).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput.at(where, f"cannot be decoded: {error}") from error


def _picture(data: bytes, where: str, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """A picture of which only the head was read, and its size."""
    try:
        picture = Image.open(io.BytesIO(data), formats=PICTURES)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInput.at(where, f"{error}; the limit is {max_pixels} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput.at(where, f"{len(data)} bytes that are no JPEG, PNG, WebP or PGM") from error
    if (pixels := picture.width * picture.height) > max_pixels:
        raise LimitExceeded.of(where, value=pixels, limit=max_pixels, unit="pixels")
    return picture, picture.size
