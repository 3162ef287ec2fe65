"""Binary PGM pictures of 8 or 16 bits, whose numbers come out as they are.

Not read with Pillow, which stretches pictures whose largest number is below 65535. Shapes: H and W pixels.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput, LimitExceeded

# Comments may stand between the words of the header; one space ends it.
GAP = rb"(?:\s|#[^\n]*\n)+"
HEADER = re.compile(rb"P5" + 3 * (GAP + rb"(\d{1,9})") + rb"\s")
MAX_VALUE = 65535


def pgm_pixels(data: bytes, where: str, *, max_pixels: int) -> NDArray[np.int32]:
    """Whole numbers (H,W)."""
    header = HEADER.match(data)
    if header is None:
        raise InvalidInput.at(where, "is no binary PGM")
    width, height, most = (int(word) for word in header.groups())
    if width * height > max_pixels:
        raise LimitExceeded.of(where, value=width * height, limit=max_pixels, unit="pixels")
    if not 0 < most <= MAX_VALUE:
        raise InvalidInput.at(where, f"largest number {most}, needs 1 to {MAX_VALUE}")
    # More than one byte: the most significant comes first.
    kind = np.dtype(">u2" if most > 255 else "u1")
    num_bytes = width * height * kind.itemsize
    if len(data) - header.end() != num_bytes:
        raise InvalidInput.at(
            where, f"{width}x{height} pixels need {num_bytes} bytes, got {len(data) - header.end()}"
        )
    found = np.frombuffer(data, dtype=kind, offset=header.end()).astype(np.int32)
    return found.reshape(height, width)
