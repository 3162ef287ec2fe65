"""Frames of a 3RScan sequence, from a folder or from the zip file that it comes in."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from trainer.data.readers.archives import open_archive
from trainer.data.readers.files import KeyedText, keyed_text, numbers, read_bytes, text_of
from trainer.data.readers.limits import ScanLimits
from trainer.data.readers.pgm import pgm_pixels
from trainer.data.readers.snapshots import Snapshot, camera, depth_image, lost_pose, tracked_pose
from trainer.data.scans import DepthImage
from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix, matrix_from_numbers
from xscene.geometry.projection import Intrinsics

FOLDER, ARCHIVE, INFO = "sequence", "sequence.zip", "_info.txt"
FRAME = re.compile(r"frame-([0-9]{1,9})\.color\.jpg")


class Files(Protocol):
    """Files by name; an archive is such a thing too."""

    @property
    def members(self) -> Collection[str]:
        """Names."""

    def read(self, name: str) -> bytes:
        """A file whole."""


@dataclass(frozen=True)
class Folder:
    """A folder of files, none larger than the limit."""

    path: Path
    max_bytes: int

    @cached_property
    def members(self) -> frozenset[str]:
        """Names of the files."""
        return frozenset(found.name for found in self.path.iterdir())

    def read(self, name: str) -> bytes:
        """A file whole."""
        return read_bytes(self.path / name, max_bytes=self.max_bytes)


@dataclass(eq=False)
class RscanView(Snapshot):
    """A frame as it was taken; the device was held upright, so pictures lie on their side."""

    view_id: str
    files: Files
    info: KeyedText
    limits: ScanLimits

    def color(self) -> bytes:
        """A JPEG."""
        return self.files.read(f"frame-{self.view_id}.color.jpg")

    def depth(self) -> DepthImage | None:
        """Depth as measured, smaller than the picture."""
        name = f"frame-{self.view_id}.depth.pgm"
        if name not in self.files.members:
            return None
        pixels = pgm_pixels(self.files.read(name), name, max_pixels=self.limits.max_picture_pixels)
        per_m = self.info.number("m_depthShift")
        if per_m <= 0:
            raise InvalidInput.at(f"{self.info.name}: m_depthShift", f"{per_m}, needs more than 0")
        return depth_image(pixels, _calibration(self.info, "Depth"), per_m=per_m)

    def read_pose(self) -> Matrix:
        """Lost where there is no pose."""
        name = f"frame-{self.view_id}.pose.txt"
        if name not in self.files.members:
            return lost_pose()
        found = numbers(text_of(self.files.read(name), name), name, 16)
        return tracked_pose(matrix_from_numbers(found, order="row", field=name), name)

    def read_intrinsics(self) -> Intrinsics:
        """Of the colour picture."""
        return _calibration(self.info, "Color")


def _calibration(info: KeyedText, kind: str) -> Intrinsics:
    key = f"m_calibration{kind}Intrinsic"
    name = kind.lower()
    return camera(
        f"{info.name}: {key}",
        Intrinsics.from_matrix,
        info.numbers(key, 16).reshape(4, 4),
        width=info.integer(f"m_{name}Width"),
        height=info.integer(f"m_{name}Height"),
    )


def sequence_views(scan: Path, limits: ScanLimits) -> tuple[RscanView, ...]:
    """Frames of a scan in the order they were taken; an unpacked sequence goes before its archive."""
    files: Files
    if (scan / FOLDER).is_dir():
        files = Folder(scan / FOLDER, limits.max_picture_bytes)
    elif (scan / ARCHIVE).exists():
        files = open_archive(scan / ARCHIVE, limits=limits.archive)
    else:
        return ()
    info = keyed_text(text_of(files.read(INFO), INFO), INFO)
    found = [match.group(1) for name in files.members if (match := FRAME.fullmatch(name))]
    return tuple(RscanView(number, files, info, limits) for number in sorted(found, key=int))
