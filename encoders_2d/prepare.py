"""Pictures as they come: their checks, crops and groups, and the squares that a backbone takes."""

# S side of a square

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xscene import pictures
from xscene.errors import InvalidInput, LimitExceeded
from xscene.nn.groups import Ends
from xscene.pictures import read_header

IMAGE, PIXELS, BOXES, GROUP_ENDS = "image", "pixels", "boxes", "group_ends"
GROUPS = Ends(field=GROUP_ENDS, group="group", item="picture")
Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom are just outside."""
Square: TypeAlias = NDArray[np.uint8]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Limits(pictures.Limits):
    """Sizes past which a request is refused."""

    max_items: int
    max_request_pixels: int


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """How a picture becomes a square."""

    side_px: int
    jpeg_margin: int
    """A JPEG is decoded no smaller than this many times the square."""

    def square(self, image: Image.Image, box: Box | None) -> Square:
        """The picture, or a crop of it, squeezed to a square with bicubic filtering: [S, S, 3]."""
        crop = image if box is None else image.crop(box)
        side = (self.side_px, self.side_px)
        return np.asarray(crop.resize(side, Image.Resampling.BICUBIC))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A picture of the request: its upright size, and how to get its pixels."""

    size: tuple[int, int]
    pixels: Callable[[int | None], Image.Image]


@dataclass(frozen=True)
class Squares:
    """The different squares of a request, and the one on each of its rows."""

    squares: Sequence[Square]
    places: Sequence[int]


def decode_squares(inputs: Tensors, limits: Limits, resizing: Resizing) -> Squares:
    """The pictures of a request, every size checked before the first is decoded.

    A picture that stands on several rows is decoded once, a crop that does is made once.
    """
    sources, rows = _sources(inputs, limits)
    boxes = _boxes(inputs, [sources[row].size for row in rows], limits)
    wanted: dict[int, dict[Box | None, list[int]]] = {}
    for row, (source, box) in enumerate(zip(rows, boxes, strict=True)):
        wanted.setdefault(source, {}).setdefault(box, []).append(row)
    squares: list[Square] = []
    places = [0] * len(rows)
    for source, crops in wanted.items():
        least_px = resizing.side_px * resizing.jpeg_margin if set(crops) == {None} else None
        image = sources[source].pixels(least_px)
        for box, each in crops.items():
            for row in each:
                places[row] = len(squares)
            squares.append(resizing.square(image, box))
    return Squares(squares, places)


def num_rows(inputs: Tensors, limits: Limits) -> int:
    """Pictures of a request, which come in one of two inputs."""
    given = [name for name in (IMAGE, PIXELS) if name in inputs]
    if len(given) != 1:
        found = "both are there" if given else "neither is there"
        raise InvalidInput.at("inputs", f"{IMAGE} or {PIXELS} is needed, {found}")
    num = len(inputs[given[0]])
    if not num:
        raise InvalidInput.at(given[0], "is empty, at least one picture is needed")
    if num > limits.max_items:
        raise LimitExceeded.of(given[0], value=num, limit=limits.max_items, unit="pictures")
    return num


def _sources(inputs: Tensors, limits: Limits) -> tuple[list[_Source], list[int]]:
    """The different pictures of a request, and the one on each row."""
    num = num_rows(inputs, limits)
    if PIXELS in inputs:
        sources = list(_pixel_sources(inputs[PIXELS], limits))
        rows = list(range(num))
    else:
        positions: dict[bytes, int] = {}
        rows = [positions.setdefault(data, len(positions)) for data in inputs[IMAGE]]
        sources = [
            _file_source(f"{IMAGE}[{rows.index(position)}]", data, limits)
            for data, position in positions.items()
        ]
    total = sum(source.size[0] * source.size[1] for source in sources)
    if total > limits.max_request_pixels:
        name = PIXELS if PIXELS in inputs else IMAGE
        raise LimitExceeded.of(name, value=total, limit=limits.max_request_pixels, unit="pixels in all")
    return sources, rows


def _pixel_sources(pixels_NHW3: NDArray[Any], limits: Limits) -> Iterator[_Source]:
    height, width = pixels_NHW3.shape[1:3]
    limits.check_size(f"{PIXELS}[0]", width, height)
    for array in pixels_NHW3:
        yield _Source(size=(width, height), pixels=partial(_unscaled, array))


def _unscaled(array: Square, least_px: int | None) -> Image.Image:
    """Pixels that came as such, in their own size."""
    return Image.fromarray(array)


def _file_source(field: str, data: bytes, limits: Limits) -> _Source:
    picture = read_header(field, data, limits)
    return _Source(size=picture.size, pixels=picture.pixels)


def _boxes(inputs: Tensors, sizes: Sequence[tuple[int, int]], limits: Limits) -> list[Box | None]:
    """The crop of each row; None where the whole picture is meant."""
    if BOXES not in inputs:
        return [None] * len(sizes)
    boxes_N4 = inputs[BOXES]
    if len(boxes_N4) != len(sizes):
        raise InvalidInput.at(BOXES, f"{len(boxes_N4)} boxes, there are {len(sizes)} pictures")
    return [_box(index, boxes_N4[index], size, limits) for index, size in enumerate(sizes)]


def _box(index: int, values: NDArray[Any], size: tuple[int, int], limits: Limits) -> Box:
    left, top, right, bottom = (int(value) for value in values)
    width, height = size
    field, shown = f"{BOXES}[{index}]", f"[{left}, {top}, {right}, {bottom}]"
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InvalidInput.at(field, f"{shown} is no box in a picture of {width}x{height} pixels")
    if min(right - left, bottom - top) < limits.min_image_side:
        raise InvalidInput.at(field, f"{shown}, a side needs {limits.min_image_side} pixels")
    return left, top, right, bottom
