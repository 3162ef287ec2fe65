"""Posed pictures whose files are read when they are asked for.

Shapes: H and W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import picture_size, read_bytes
from trainer.data.readers.limits import ScanLimits
from trainer.data.scans import DepthImage, View
from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix, rigid
from xscene.geometry.projection import Intrinsics

MM_PER_M = 1000.0


class Snapshot(View):
    """A view that keeps its pose and intrinsics once they were read, and no pixels."""

    limits: ScanLimits

    @abstractmethod
    def read_pose(self) -> Matrix:
        """Camera to world (4,4), or not finite."""

    @abstractmethod
    def read_intrinsics(self) -> Intrinsics:
        """Of the size that the data set says."""

    # The interface has attributes, which these are once they were asked for.
    @cached_property
    def camera_to_world(self) -> Matrix:  # type: ignore[override]
        """Pose (4,4) in the raw frame; not a number where tracking was lost."""
        return self.read_pose()

    @cached_property
    def intrinsics(self) -> Intrinsics:  # type: ignore[override]
        """Of the colour picture as it is."""
        size = picture_size(self.color(), self.view_id, max_pixels=self.limits.max_picture_pixels)
        return sized(self.read_intrinsics(), *size)


def lost_pose() -> Matrix:
    """The pose of a picture whose tracking was lost."""
    return np.full((4, 4), np.nan)


def tracked_pose(matrix: Matrix, where: str) -> Matrix:
    """A pose that is rigid, or a lost one where any number is not finite."""
    return rigid(matrix, where) if np.isfinite(matrix).all() else lost_pose()


def sized(intrinsics: Intrinsics, width: int, height: int) -> Intrinsics:
    """Intrinsics of the picture's true size."""
    if (intrinsics.width, intrinsics.height) == (width, height):
        return intrinsics
    return intrinsics.resized(width, height)


def depth_image(pixels: NDArray[np.int32], intrinsics: Intrinsics, *, per_m: float = MM_PER_M) -> DepthImage:
    """Depth from whole numbers (H,W), so many of which are a metre."""
    height, width = pixels.shape
    return DepthImage((pixels / per_m).astype(np.float32), sized(intrinsics, width, height))


def camera(where: str, make: Callable[..., Intrinsics], *args: Any, **kwargs: Any) -> Intrinsics:
    """Intrinsics made so; what is wrong with them is said of this file."""
    try:
        return make(*args, **kwargs)
    except InvalidInput as error:
        raise InvalidInput.at(where, error.message) from error


def picture_bytes(path: Path, limits: ScanLimits) -> bytes:
    """A picture as encoded."""
    return read_bytes(path, max_bytes=limits.max_picture_bytes)
