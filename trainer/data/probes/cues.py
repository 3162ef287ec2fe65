"""Cheap cues of a prepared scene: what tells rooms apart without any understanding of them.

Shapes: N samples of colour, B bins of a histogram, S cells along a side of a footprint.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.data.probes.trials import Mask
from xscene.geometry.frames import Floats, Matrix
from xscene.prepared.scene import Scene

BINS = 8
# Of each picture every so many pixels along a side are looked at.
PIXEL_STEP = 4
CELL_M, SIDE_CELLS = 0.1, 128
WHITE_FROM = 250
EXTENT_PERCENT = (0.5, 99.5)
# Of a mean: a channel that is nowhere lit is divided by no less.
DARKEST = 1 / 255
OUTSIDE, INK, UNKNOWN = 0, 1, 2

Words = frozenset[str]


class Source(StrEnum):
    """What a cue is taken from."""

    VIEWS = "views"
    CLOUD = "cloud"
    FLOORPLAN = "floorplan"
    SENTENCES = "sentences"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cues:
    """All cheap cues of a scene, by what each was taken from."""

    means: Mapping[Source, Floats]
    """Mean colour (3,), 0 to 1."""
    histograms: Mapping[Source, Floats]
    """Share of samples in each bin (B,)."""
    balanced: Mapping[Source, Floats]
    """The same after exposure and white balance were taken out: each channel over its mean."""
    footprints: Mapping[Source, Mask]
    """What the room covers from above (S,S), its middle in the middle."""
    num_objects: Mapping[Source, int]
    words: Mapping[Source, Words]
    """Of the sentences; of the cloud, those of its objects' labels."""


def cues_of(scene: Scene) -> Cues:
    """The cues of a scene that has views, a coloured cloud, floorplans and sentences."""
    cloud, record = scene.cloud(), scene.record
    assert cloud.colors is not None
    plans = [_decoded(data) for data in scene.floorplans()]
    colors = {
        Source.VIEWS: _samples([_decoded(data) for data in scene.views()]),
        Source.CLOUD: cloud.colors / 255,
        Source.FLOORPLAN: _samples(plans),
    }
    named = {referral.target_id for referral in record.referrals}
    matrix = record.floorplans[0].pixels_from_aligned
    assert matrix is not None
    return Cues(
        means={source: each.mean(axis=0) for source, each in colors.items()},
        histograms={source: histogram(each) for source, each in colors.items()},
        balanced={
            source: histogram(each / np.maximum(2 * each.mean(axis=0), DARKEST))
            for source, each in colors.items()
        },
        footprints={
            Source.FLOORPLAN: plan_footprint(plans[0], np.array(matrix)),
            Source.CLOUD: cloud_footprint(cloud.points.xyz),
        },
        num_objects={
            Source.VIEWS: len(scene.sightings_of),
            Source.CLOUD: len(record.objects),
            Source.SENTENCES: len(named),
        },
        words={
            Source.SENTENCES: words_of(referral.text for referral in record.referrals),
            Source.CLOUD: words_of(each.label for each in record.objects),
        },
    )


def histogram(colors: Matrix) -> Floats:
    """Share of colours (N,3) in each of the bins (B,) of red, green and blue; 1 and more are last."""
    cells = np.clip(colors * BINS, 0, BINS - 1).astype(np.int64)
    index = (cells[:, 0] * BINS + cells[:, 1]) * BINS + cells[:, 2]
    return np.bincount(index, minlength=BINS**3) / len(colors)


def words_of(texts: Iterable[str]) -> Words:
    """Every word of some texts."""
    return frozenset(re.findall(r"[a-z]+", " ".join(texts).lower()))


def plan_footprint(plan: Image.Image, pixels_from_aligned: Matrix) -> Mask:
    """What the walls of a plan enclose (S,S)."""
    ink = np.asarray(plan.convert("L")) < WHITE_FROM
    inside = enclosed(ink)
    rows, columns = np.nonzero(inside)
    middle = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    px_per_cell = abs(pixels_from_aligned[0, 0]) * CELL_M
    steps = (np.arange(SIDE_CELLS) - (SIDE_CELLS - 1) / 2) * px_per_cell
    at_column = np.floor(middle[0] + steps).astype(int)
    at_row = np.floor(middle[1] + steps).astype(int)
    footprint = np.zeros((SIDE_CELLS, SIDE_CELLS), dtype=bool)
    rows_in = (at_row >= 0) & (at_row < inside.shape[0])
    columns_in = (at_column >= 0) & (at_column < inside.shape[1])
    footprint[np.ix_(rows_in, columns_in)] = inside[np.ix_(at_row[rows_in], at_column[columns_in])]
    return footprint


def cloud_footprint(xyz: Floats) -> Mask:
    """What a cloud (N,3) covers from above, holes filled (S,S); rows go down as y goes up."""
    low, high = np.percentile(xyz[:, :2], EXTENT_PERCENT, axis=0)
    offsets = (xyz[:, :2] - (low + high) / 2) / CELL_M + SIDE_CELLS / 2
    cells = np.floor(offsets).astype(int)
    cells = cells[((cells >= 0) & (cells < SIDE_CELLS)).all(axis=1)]
    covered = np.zeros((SIDE_CELLS, SIDE_CELLS), dtype=bool)
    covered[SIDE_CELLS - 1 - cells[:, 1], cells[:, 0]] = True
    return enclosed(covered)


def enclosed(ink: Mask) -> Mask:
    """Ink and all that cannot be reached from the border without crossing it."""
    framed = np.pad(np.where(ink, INK, UNKNOWN).astype(np.uint8), 1, constant_values=UNKNOWN)
    # Filling writes nothing into an image that still shares the array's memory.
    image = Image.fromarray(framed).copy()
    ImageDraw.floodfill(image, (0, 0), OUTSIDE)
    found: NDArray[np.bool_] = np.asarray(image)[1:-1, 1:-1] != OUTSIDE
    return found


def footprint_iou(first: Mask, second: Mask) -> float:
    """Overlap of two footprints, at the best of four quarter turns."""
    return max(_iou(first, np.rot90(second, turns)) for turns in range(4))


def word_weights(documents: Sequence[Words]) -> dict[str, float]:
    """What a word tells: the logarithm of one over the share of documents that have it."""
    every = frozenset[str]().union(*documents)
    return {word: log(len(documents) / sum(word in each for each in documents)) for word in sorted(every)}


def word_likeness(first: Words, second: Words, weights: Mapping[str, float]) -> float:
    """Cosine of two bags of words; a word without a weight counts for nothing."""

    def square(words: Words) -> float:
        return sum(weights.get(word, 0.0) ** 2 for word in words)

    length = (square(first) * square(second)) ** 0.5
    return square(first & second) / length if length else 0.0


def _iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


def _decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _samples(pictures: Sequence[Image.Image]) -> Matrix:
    """Colours (N,3) of some pixels of every picture, 0 to 1."""
    pixels = [np.asarray(each)[::PIXEL_STEP, ::PIXEL_STEP].reshape(-1, 3) for each in pictures]
    return np.concatenate(pixels) / 255
