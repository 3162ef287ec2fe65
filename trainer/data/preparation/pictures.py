"""Pictures: decoded within bounds, reduced, cut into crops, encoded."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainer.data.preparation.settings import Settings
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.projection import Intrinsics

FORMATS = ("JPEG", "PNG", "WEBP")
BoxPx = tuple[int, int, int, int]


def decoded(encoded: bytes, where: str, max_pixels: int) -> Image.Image:
    """The picture in RGB; refused before its pixels are read where it is too large."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if (count := image.width * image.height) > max_pixels:
            raise LimitExceeded.of(where, value=count, limit=max_pixels, unit="pixels")
        return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput.at(where, f"is no picture that can be read: {error}") from error


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def fitting(image: Image.Image, max_side_px: int) -> Image.Image:
    """The picture, reduced where its longest side is longer than this."""
    longest = max(image.size)
    if longest <= max_side_px:
        return image
    width, height = (max(round(side * max_side_px / longest), 2) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def stored_view(
    encoded: bytes, intrinsics: Intrinsics, where: str, settings: Settings
) -> tuple[bytes, Intrinsics]:
    """A view as it is kept: its own bytes where they are small enough, and intrinsics that fit."""
    image = decoded(encoded, where, settings.max_picture_pixels)
    if image.size != (intrinsics.width, intrinsics.height):
        raise InvalidInput.at(
            where, f"is {image.width}x{image.height}, its intrinsics {intrinsics.width}x{intrinsics.height}"
        )
    small = fitting(image, settings.max_view_px)
    if small is image:
        return encoded, intrinsics
    return jpeg(small, settings.jpeg_quality), intrinsics.resized(*small.size)


def crops(image: Image.Image, box_px: BoxPx, settings: Settings) -> Iterator[bytes]:
    """An object's crops, the tightest first, each a square picture of the whole box."""
    for level in range(settings.num_crop_levels):
        grown = grown_box(box_px, level * settings.crop_growth, image.size)
        side = (settings.crop_px, settings.crop_px)
        square = image.resize(side, Image.Resampling.BICUBIC, box=grown)
        yield jpeg(square, settings.jpeg_quality)


def grown_box(box_px: BoxPx, share: float, size_px: tuple[int, int]) -> BoxPx:
    """The box grown by a share of each side on both of its ends, within the picture."""
    low, high = np.array(box_px[:2]), np.array(box_px[2:])
    grow = np.rint((high - low) * share).astype(int)
    left, top = np.maximum(low - grow, 0).tolist()
    right, bottom = np.minimum(high + grow, size_px).tolist()
    return left, top, right, bottom
