"""PNG files of one channel, written in half the time that a general encoder takes.

Every row holds its difference to the row above. A general encoder tries all filters on each row, which
takes longer than packing it, and saves nothing on depth and ids.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, DIFFERENCE_TO_ROW_ABOVE = 0, 2
LEVEL, WINDOW_BITS, MEMORY_LEVEL = 1, 15, 9


def write_png(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write values (H,W) as a grey picture of 8 or 16 bits."""
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, GREY, 0, 0, 0)
    # Run lengths only: noise packs no better otherwise, and takes several times as long.
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY_LEVEL, zlib.Z_RLE)
    packed = packer.compress(_filtered(values).data) + packer.flush()
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    path.write_bytes(SIGNATURE + b"".join(parts))


def _filtered(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of bytes, the highest first, each after the number of its filter."""
    rows = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(len(values), -1)
    filtered = np.empty((len(rows), rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = DIFFERENCE_TO_ROW_ABOVE
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
