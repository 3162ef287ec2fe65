"""Posed pictures of ScanNet: exported frames in either layout, and frames of the `.sens` stream.

A view reads its pose when it is taken from the sequence, and its pictures when they are asked for.

Shapes: H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import (
    MAX_PICTURE_BYTES,
    MAX_PICTURE_PIXELS,
    grey_pixels,
    picture_size,
    read_bytes,
    read_matrix,
)
from trainer.data.readers.sens import SENS_LIMITS, SensLimits, SensStream, open_sens
from trainer.data.scans import DepthImage, View
from xscene.errors import InvalidInput
from xscene.geometry.projection import Intrinsics

COLOR_SUFFIXES = (".jpg", ".png")
INTRINSICS = "intrinsics.txt"
# The principal point lies near the middle; further off, a file is for pictures of another size.
CENTRE_TOLERANCE = 0.1
# Sizes of one camera, such as 1296x968 and 640x480, are not quite of one proportion.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """How frames are read."""

    depth_units_a_metre: float = 1000.0
    """Of exported frames; a stream says its own."""
    sens_step: int = 20
    """Every so many frames of a stream are views, as exports do."""
    max_picture_bytes: int = MAX_PICTURE_BYTES
    max_picture_pixels: int = MAX_PICTURE_PIXELS
    sens: SensLimits = SENS_LIMITS

    def __post_init__(self) -> None:
        if self.sens_step < 1:
            raise InvalidInput.at("sens_step", f"{self.sens_step}, needs at least 1")
        if not self.depth_units_a_metre > 0:
            raise InvalidInput.at("depth_units_a_metre", f"{self.depth_units_a_metre}, needs more than 0")


FRAME_OPTIONS = FrameOptions()


class Views(Sequence[View]):
    """Views that are made one by one when they are taken."""

    def __init__(self, count: int, view: Callable[[int], View]) -> None:
        self._count = count
        self._view = view

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> View: ...
    @overload
    def __getitem__(self, at: slice) -> Views: ...
    def __getitem__(self, at: int | slice) -> View | Views:
        """A view, or some of them, still unread."""
        chosen = range(self._count)[at]
        if isinstance(chosen, int):
            return self._view(chosen)
        return Views(len(chosen), lambda number: self._view(chosen[number]))


@dataclass(frozen=True)
class ExportedFrames:
    """Folders of exported frames, whose files are named by their number."""

    folder: Path
    instances: Path
    color_matrix: Path
    depth_matrix: Path | None
    """None where one file is for both."""
    options: FrameOptions

    @cached_property
    def files(self) -> Mapping[int, Path]:
        """Pictures by number, in the order of numbers."""
        found = {}
        for suffix in reversed(COLOR_SUFFIXES):
            for path in (self.folder / "color").glob(f"*{suffix}"):
                if path.stem.isdecimal():
                    found[int(path.stem)] = path
        return dict(sorted(found.items()))

    @cached_property
    def intrinsics(self) -> Intrinsics:
        """Of the pictures, all of which are as large as the first."""
        first = next(iter(self.files.values()))
        data = read_bytes(first, max_bytes=self.options.max_picture_bytes)
        size = picture_size(data, first.name, max_pixels=self.options.max_picture_pixels)
        return read_intrinsics(self.color_matrix, *size)

    def depth_intrinsics(self, width: int, height: int) -> Intrinsics:
        """Of depth of that size."""
        if self.depth_matrix is not None:
            return read_intrinsics(self.depth_matrix, width, height)
        color = self.intrinsics
        if (width, height) == (color.width, color.height):
            return color
        if abs(width * color.height / (height * color.width) - 1) > ASPECT_TOLERANCE:
            raise InvalidInput.at(
                self.color_matrix.name,
                f"is for pictures of {color.width}x{color.height} px, depth is {width}x{height}",
            )
        return color.resized(width, height)

    def views(self) -> Views:
        """All frames."""
        paths = tuple(self.files.values())
        return Views(len(paths), lambda at: ExportedView(self, paths[at]))


def read_intrinsics(path: Path, width: int, height: int) -> Intrinsics:
    """A camera matrix of pictures of that size; refuses one that was written for another size."""
    matrix = read_matrix(path)
    try:
        found = Intrinsics.from_matrix(matrix, width=width, height=height)
    except InvalidInput as error:
        raise InvalidInput.at(path.name, error.message) from error
    for centre, side in ((found.cx, width), (found.cy, height)):
        if abs(2 * centre + 1 - side) > CENTRE_TOLERANCE * side:
            its = f"{2 * found.cx + 1:.0f}x{2 * found.cy + 1:.0f}"
            raise InvalidInput.at(path.name, f"is for pictures of about {its} px, these are {width}x{height}")
    return found


class ExportedView(View):
    """A frame of an export."""

    def __init__(self, frames: ExportedFrames, color: Path) -> None:
        self.view_id = color.stem
        self.intrinsics = frames.intrinsics
        self.camera_to_world = read_matrix(frames.folder / "pose" / f"{color.stem}.txt")
        self._frames = frames
        self._color = color

    def color(self) -> bytes:
        """The picture as encoded."""
        options = self._frames.options
        data = read_bytes(self._color, max_bytes=options.max_picture_bytes)
        size = picture_size(data, self._color.name, max_pixels=options.max_picture_pixels)
        if size != (wanted := (self.intrinsics.width, self.intrinsics.height)):
            raise InvalidInput.at(
                self._color.name, f"{size[0]}x{size[1]} px, the first is {wanted[0]}x{wanted[1]}"
            )
        return data

    def depth(self) -> DepthImage | None:
        """Depth in metres; None where there is no file."""
        path = self._frames.folder / "depth" / f"{self.view_id}.png"
        if not path.exists():
            return None
        units = _grey(path, self._frames.options)
        metres = (units / np.float32(self._frames.options.depth_units_a_metre)).astype(np.float32)
        height, width = metres.shape
        return DepthImage(metres, self._frames.depth_intrinsics(width, height))

    def object_pixels(self) -> NDArray[np.int32] | None:
        """Objects (H,W) at the picture's size."""
        path = self._frames.instances / f"{self.view_id}.png"
        return object_ids(path, self.intrinsics, self._frames.options)


def object_ids(path: Path, intrinsics: Intrinsics, options: FrameOptions) -> NDArray[np.int32] | None:
    """Objects (H,W) of a picture; the file holds ids plus one and 0 for none. None without a file."""
    return (
        resized_ids(_grey(path, options), intrinsics.height, intrinsics.width) - 1 if path.exists() else None
    )


def _grey(path: Path, options: FrameOptions) -> NDArray[np.int32]:
    data = read_bytes(path, max_bytes=options.max_picture_bytes)
    return grey_pixels(data, f"{path.parent.name}/{path.name}", max_pixels=options.max_picture_pixels)


def resized_ids(ids: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    """Ids (H,W) at another size, each the nearest one's."""
    rows = (2 * np.arange(height) + 1) * ids.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * ids.shape[1] // (2 * width)
    resized: NDArray[np.int32] = ids[rows[:, None], columns]
    return resized


class SensView(View):
    """A frame of a stream."""

    def __init__(self, stream: SensStream, frame: int, instances: Path, options: FrameOptions) -> None:
        self.view_id = str(frame)
        self.intrinsics = stream.color_intrinsics
        self.camera_to_world = stream.camera_to_world[frame]
        self._stream = stream
        self._frame = frame
        self._instances = instances
        self._options = options

    def color(self) -> bytes:
        """The picture as encoded."""
        return self._stream.color(self._frame)

    def depth(self) -> DepthImage | None:
        """Depth in metres."""
        return DepthImage(self._stream.depth(self._frame), self._stream.depth_intrinsics)

    def object_pixels(self) -> NDArray[np.int32] | None:
        """Objects (H,W) at the picture's size."""
        path = self._instances / f"{self.view_id}.png"
        return object_ids(path, self.intrinsics, self._options)


def scan_views(
    folder: Path, scan_id: str, exports: Path, *, options: FrameOptions = FRAME_OPTIONS
) -> Sequence[View]:
    """Frames exported into the scan's folder, else those under `exports`, else those of the stream."""
    data, apart = folder / "data", exports / scan_id
    instances = next((of / "instance-filt" for of in (data, apart) if (of / "instance-filt").is_dir()), None)
    instances = instances or folder / "instance-filt"
    if (data / "color").is_dir():
        color, depth = (data / "intrinsic" / f"intrinsic_{kind}.txt" for kind in ("color", "depth"))
        color = color if color.exists() else folder / INTRINSICS
        return ExportedFrames(data, instances, color, depth if depth.exists() else None, options).views()
    if (apart / "color").is_dir():
        return ExportedFrames(apart, instances, exports / INTRINSICS, None, options).views()
    if (path := folder / f"{scan_id}.sens").exists():
        stream = open_sens(path, limits=options.sens)
        frames = range(0, len(stream), options.sens_step)
        return Views(len(frames), lambda at: SensView(stream, frames[at], instances, options))
    return ()
