"""How much the files of a scan may hold, for readers that take all limits as one."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.readers.archives import ARCHIVE_LIMITS, ArchiveLimits
from trainer.data.readers.documents import MAX_JSON_BYTES
from trainer.data.readers.files import MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS, MAX_TEXT_BYTES
from trainer.data.readers.ply import PLY_LIMITS, PlyLimits


@dataclass(frozen=True, kw_only=True)
class ScanLimits:
    """Limits of each kind of file."""

    ply: PlyLimits = PLY_LIMITS
    """Of meshes, OBJ files as well."""
    archive: ArchiveLimits = ARCHIVE_LIMITS
    max_json_bytes: int = MAX_JSON_BYTES
    max_text_bytes: int = MAX_TEXT_BYTES
    max_picture_bytes: int = MAX_PICTURE_BYTES
    max_picture_pixels: int = MAX_PICTURE_PIXELS


SCAN_LIMITS = ScanLimits()
