"""Vision backbones for tests: the fetched one and one of a few random numbers; and pictures."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from deploy.backbones import MOBILENET, ensure
from encoders_2d.backbones import (
    ImageBackbone,
    Recipe,
    dinov2,
    image_backbone,
    reference,
    registry,
    write_dinov2,
)
from encoders_2d.heads import ImageHeads
from encoders_2d.model import Limits, VisionFactory, VisionModel
from xscene.nn.backbones import Backbone, Registry
from xscene.nn.bundle_writer import BundleContent, write_bundle
from xscene.nn.devices import Compute

BACKBONES_DIR = Path(__file__).resolve().parents[1] / "var" / "backbones"
TINY = dinov2(width=32, num_blocks=4, num_heads=4, block=2, image_px=70, side_px=28)
LIMITS = Limits(
    max_items=16,
    max_image_bytes=1 << 20,
    max_image_pixels=1 << 20,
    max_request_pixels=4 << 20,
    min_image_side=4,
    max_jpeg_scans=16,
    max_image_parts=64,
    max_answer_bytes=1 << 20,
    max_batch_images=4,
)
CPU = Compute(torch.device("cpu"))


@cache
def mobilenet_directory() -> Path:
    """The fetched files; fetched where they are not."""
    return ensure(MOBILENET, BACKBONES_DIR)[0]


@cache
def mobilenet() -> ImageBackbone:
    """The fetched network."""
    loaded = registry().get(MOBILENET).loader(mobilenet_directory())
    assert isinstance(loaded, ImageBackbone)
    return loaded


def tiny_network(recipe: Recipe = TINY, seed: int = 0) -> Dinov2Model:
    """DINOv2 with random weights, whole."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Dinov2Model(Dinov2Config(**recipe.config))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def write_tiny(directory: Path, recipe: Recipe = TINY, seed: int = 0) -> Path:
    """A backbone's directory, converted from one that transformers wrote."""
    original = directory.with_name(f"{directory.name}-original")
    tiny_network(recipe, seed).save_pretrained(original)
    directory.mkdir(parents=True)
    write_dinov2(str(original), recipe, directory)
    return directory


def registry_of(*entries: Backbone) -> Registry:
    """A registry of these entries."""
    found = Registry()
    for entry in entries:
        found.register(entry)
    return found


def write_image_bundle(
    directory: Path, entry: Backbone, backbone_dir: Path | None, *, width: int = 8, seed: int = 0
) -> Path:
    """A bundle of untrained heads on a backbone."""
    made_for = reference(entry, backbone_dir)
    assert made_for is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"feature_width": entry.widths["cls"], "frame_width": 24, "hidden_width": 16}
        heads = ImageHeads(**sizes, width=width)
    content = BundleContent(
        name=directory.name,
        preset="test",
        width=width,
        trained=False,
        sections={
            each.section_name: each.section(made_for, entry.preprocessing)
            for each in (heads, heads.floorplan())
        },
    )
    return write_bundle(content, directory).directory


def tiny_factory(folder: Path, limits: Limits = LIMITS, compute: Compute = CPU) -> tuple[VisionFactory, Path]:
    """A factory that knows the tiny network, and a bundle on it, both in a folder."""
    entry = image_backbone("tiny", TINY, licence="none")
    backbone_dir = write_tiny(folder / "backbones" / "tiny")
    bundle = write_image_bundle(folder / "bundles" / "one", entry, backbone_dir)
    return VisionFactory(folder / "backbones", limits, compute, registry_of(entry)), bundle


def tiny_model(folder: Path, name: str = "image", limits: Limits = LIMITS) -> VisionModel:
    """A model on the tiny network, written to a folder and loaded from there."""
    factory, bundle = tiny_factory(folder, limits)
    loaded = factory.load(name, bundle)
    assert isinstance(loaded, VisionModel)
    return loaded


def picture(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    """A few shades and edges, different for each seed: [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    shades = [
        np.sin(rng.uniform(2, 9) * x + rng.uniform(0, 6)) * np.cos(rng.uniform(2, 9) * y) for _ in range(3)
    ]
    image = (128 + 100 * np.stack(shades, axis=-1)).astype(np.uint8)
    left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
    image[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    return image


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(out, kind, **options)
    return out.getvalue()


def request(
    pictures: list[bytes] | np.ndarray,
    boxes: list[tuple[int, int, int, int]] | None = None,
    group_ends: list[int] | None = None,
) -> dict[str, np.ndarray]:
    """The tensors of a request, of files or of pixels."""
    tensors: dict[str, np.ndarray] = {}
    if isinstance(pictures, np.ndarray):
        tensors["pixels"] = pictures
    else:
        tensors["image"] = np.array([*pictures, b""], np.object_)[:-1]
    if boxes is not None:
        tensors["boxes"] = np.array(boxes, np.int32).reshape(-1, 4)
    if group_ends is not None:
        tensors["group_ends"] = np.array(group_ends, np.int32)
    return tensors


def run(model: VisionModel, tensors: dict[str, np.ndarray], *outputs: str) -> dict[str, np.ndarray]:
    """One request through all phases, alone."""
    job = model.prepare(tensors, frozenset(outputs))
    return dict(model.finish(job, model.forward(job.items)))
