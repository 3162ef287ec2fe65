"""Made-up inputs, the same for every target and every run: sentences, clouds, images."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import ExtraMissing

# What the servers offer, by the names that callers use.
TEXT_MODEL, TEXT_INPUT, TEXT_OUTPUT = "text", "text", "scene_embedding"
IMAGE_MODEL = "image"
NULL_MODEL = "null"
BYTES_SERVICE = "xscene.bench.Bytes"
BYTES_METHOD = f"/{BYTES_SERVICE}/Call"
REGION_PREFIX = "xscene_bench_"

SEED = 20261121
NUM_SENTENCES = 256
NUM_PICTURES = 64
# As robots' cameras give them.
PICTURE_HEIGHT, PICTURE_WIDTH = 480, 640
MAX_BATCH_IMAGES = 4
NUM_POINTS = 200_000
HEIGHT, WIDTH = 1080, 1920
JPEG_QUALITY = 90

SGEMM_SIZE = 1024
COPY_BYTES = 64 << 20

_OPENINGS = ("there is", "I remember", "look for", "we scanned", "the plan shows", "somebody moved")
_SIZES = ("a small", "a large", "an old", "a low", "a folding", "a narrow", "a heavy")
_COLOURS = ("white", "dark green", "wooden", "grey", "red", "glass", "worn leather")
_THINGS = ("table", "sofa", "bookshelf", "office chair", "floor lamp", "wardrobe", "kitchen sink", "plant")
_PLACES = ("under the window", "beside the door", "in the far corner", "next to the stairs", "along the wall")
_ROOMS = ("the meeting room", "the kitchen", "a bedroom on the second floor", "the hall", "the library")
# Thirds of short, middling and long descriptions, as people type them and as annotators write them.
_NUM_PARTS = (1, 1, 2, 3, 5, 8)


@functools.cache
def sentences() -> tuple[str, ...]:
    """English sentences of mixed length, each different from the others."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    found: dict[str, None] = {}
    while len(found) < NUM_SENTENCES:
        found[_sentence(chance)] = None
    return tuple(found)


def _sentence(chance: random.Random) -> str:
    parts = [
        f"{chance.choice(_SIZES)} {chance.choice(_COLOURS)} {chance.choice(_THINGS)} {chance.choice(_PLACES)}"
        for _ in range(chance.choice(_NUM_PARTS))
    ]
    text = f"{chance.choice(_OPENINGS)} {', '.join(parts)} in {chance.choice(_ROOMS)}."
    return text[0].upper() + text[1:]


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """JPEG files of pictures, each different from the others."""
    rng = np.random.default_rng(SEED)
    return tuple(_jpeg(_image(rng, PICTURE_HEIGHT, PICTURE_WIDTH)) for _ in range(NUM_PICTURES))


def inputs(model: str) -> Sequence[bytes]:
    """All that a model is asked for, one item a call."""
    return pictures() if model == IMAGE_MODEL else [text.encode() for text in sentences()]


def batch(index: int, size: int, model: str = TEXT_MODEL) -> list[bytes]:
    """The items of a batch; batches follow each other through the list."""
    values = inputs(model)
    return [values[(index * size + offset) % len(values)] for offset in range(size)]


Payload = Mapping[str, tuple[str, NDArray[Any]]]
"""Input name to its type in the Open Inference Protocol and its values."""

CLOUD, CLOUD_FLOAT, JPEG, PIXELS, EMPTY = "cloud", "cloud_float", "jpeg", "pixels", "empty"


@functools.cache
def payload(name: str) -> Payload:
    """The inputs of one request."""
    rng = np.random.default_rng(SEED)
    if name == EMPTY:
        return {"value": ("FP32", np.zeros(1, np.float32))}
    if name in (CLOUD, CLOUD_FLOAT):
        xyz = rng.uniform(0, 10, (NUM_POINTS, 3)).astype(np.float32)
        rgb = rng.integers(0, 256, (NUM_POINTS, 3), np.uint8)
        if name == CLOUD:
            return {"points": ("FP32", xyz), "colors": ("UINT8", rgb)}
        return {"points": ("FP32", np.hstack([xyz, rgb.astype(np.float32) / 255]))}
    pixels = _image(rng, HEIGHT, WIDTH)
    if name == PIXELS:
        return {"pixels": ("UINT8", pixels[None])}
    assert name == JPEG, name
    return {"image": ("BYTES", np.array([_jpeg(pixels)], np.object_))}


def as_bytes(inputs: Payload) -> bytes:
    """The same values without any protocol."""
    return b"".join(
        b"".join(array.tolist()) if datatype == "BYTES" else array.tobytes()
        for datatype, array in inputs.values()
    )


def _image(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth shades with some noise, about as compressible as a photograph."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shades = [128 + 80 * np.sin(x / (90 + 40 * c)) * np.cos(y / (120 - 30 * c)) for c in range(3)]
    noisy = np.stack(shades, axis=-1) + rng.normal(0, 6, (height, width, 1))
    return noisy.clip(0, 255).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    try:
        from PIL import Image  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        raise ExtraMissing.named("the image payload", "bench") from error
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()
