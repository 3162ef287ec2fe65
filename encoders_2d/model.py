"""The vision models `image` and `floorplan`: pictures, or groups of them, to features and embeddings."""

# B pictures of a batch, G groups, S side of a square, F feature width, D embedding width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders_2d import backbones, prepare
from encoders_2d.backbones import CLS, JPEG_MARGIN, PATCH_MEAN, PATCHES, Features, ImageBackbone
from encoders_2d.heads import FLOORPLAN, IMAGE, FloorplanHeads, ImageHeads, heads_of
from encoders_2d.prepare import BOXES, GROUP_ENDS, PIXELS, Resizing, Square
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.nn.backbone_files import WEIGHTS_FILE, Shared, check_made_with
from xscene.nn.backbones import Registry
from xscene.nn.bundle import Bundle, open_bundle
from xscene.nn.devices import Compute, on_device
from xscene.serving.models import ANY, Factory, Item, Job, Model, Tensors, TensorSpec

SCENE, OBJECT = "scene_embedding", "object_embedding"
# What the scene head takes of a picture; no output.
VIEW = "view"
INPUTS = (
    TensorSpec(name=prepare.IMAGE, datatype="BYTES", shape=(ANY,), optional=True),
    TensorSpec(name=PIXELS, datatype="UINT8", shape=(ANY, ANY, ANY, 3), optional=True),
    TensorSpec(name=BOXES, datatype="INT32", shape=(ANY, 4), optional=True),
)
GROUPS = TensorSpec(name=GROUP_ENDS, datatype="INT32", shape=(ANY,), optional=True)
FLOAT_BYTES = 4
# Names and shapes around the numbers of an output; half of it was seen at the most.
ENVELOPE_BYTES = 256


@dataclass(frozen=True)
class ImageItem:
    """A square and what is wanted of it."""

    square: Square
    outputs: frozenset[str]

    @property
    def cost(self) -> int:
        """Squares, which are all of one size."""
        return 1


@dataclass(frozen=True)
class Plan:
    """How the outputs of a request are put together."""

    outputs: frozenset[str]
    places: Sequence[int]
    """The item of each row."""
    ends: Sequence[int] | None
    """Where each group ends among the rows; None where every row is a scene of its own."""


@dataclass(frozen=True, kw_only=True)
class Limits(prepare.Limits):
    """Sizes of requests, answers and computations."""

    max_answer_bytes: int
    max_batch_images: int


class VisionModel(Model):
    """The heads of one section on a backbone that it may share with others."""

    def __init__(
        self,
        bundle: Bundle,
        backbone: ImageBackbone,
        heads: FloorplanHeads,
        limits: Limits,
        compute: Compute,
    ) -> None:
        self.name = heads.section_name
        self.version = bundle.model_version
        self.bundle = bundle.directory.name
        self.model_id = bundle.model_id
        self.trained = bundle.manifest.trained
        self.backbone = backbone
        self.heads = heads.to(compute.device)
        self.max_batch_cost = limits.max_batch_images
        self._limits = limits
        self._compute = compute
        self._resizing = Resizing(side_px=backbone.recipe.side_px, jpeg_margin=JPEG_MARGIN)
        self.inputs = (*INPUTS, GROUPS) if isinstance(heads, ImageHeads) else INPUTS
        self.outputs = _outputs(backbone, heads, bundle.manifest.width)
        self.parameters = _parameters(bundle, backbone, self.name, limits, compute)

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Check, decode and resize the pictures."""
        num = prepare.num_rows(inputs, self._limits)
        ends, computed = None, outputs
        if GROUP_ENDS in inputs:
            ends = prepare.GROUPS.decode(inputs[GROUP_ENDS], num)
            # The scene head takes the mean of a group, whose pictures may be in several batches.
            computed = frozenset(VIEW if name == SCENE else name for name in outputs)
        self._check_answer(num, num if ends is None else len(ends), outputs)
        found = prepare.decode_squares(inputs, self._limits, self._resizing)
        items = [ImageItem(square, computed) for square in found.squares]
        return Job(items=items, plan=Plan(outputs, found.places, ends))

    @torch.inference_mode()
    def forward(self, items: Sequence[Item]) -> Sequence[Mapping[str, NDArray[np.float32]]]:
        """Of each picture: its wanted features, and what the heads make of it alone."""
        images = [item for item in items if isinstance(item, ImageItem)]
        squares_BSS3 = torch.from_numpy(np.stack([item.square for item in images]))
        with self._compute.autocast():
            computed = self.backbone(on_device(squares_BSS3, self._compute.device))
        features: Features = {name: values.float() for name, values in computed.items()}
        results: list[dict[str, NDArray[np.float32]]] = [{} for _ in images]
        for name in frozenset[str]().union(*(item.outputs for item in images)):
            rows = [row for row, item in enumerate(images) if name in item.outputs]
            for row, value in zip(rows, self._made(name, features, rows).cpu().numpy(), strict=True):
                results[row][name] = value
        return results

    def warm_up(self) -> None:
        """Compute one picture and a whole batch, with every output."""
        side = self.backbone.recipe.side_px
        grey = np.full((side, side, 3), 128, np.uint8)
        outputs = frozenset(spec.name for spec in self.outputs)
        item = ImageItem(grey, outputs | {VIEW})
        for num in (1, self.max_batch_cost):
            results = self.forward([item] * num)
        self.finish(Job(items=[item], plan=Plan(outputs, [0], [1])), results[:1])

    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        """The outputs of one request."""
        plan: Plan = job.plan
        outputs = {}
        for name in sorted(plan.outputs):
            ends = plan.ends if name == SCENE else None
            computed = name if ends is None else VIEW
            rows = np.stack([results[place][computed] for place in plan.places])
            outputs[name] = rows if ends is None else self._scenes(rows, ends)
        return outputs

    @torch.inference_mode()
    def _scenes(self, views_NF: NDArray[np.float32], ends: Sequence[int]) -> NDArray[np.float32]:
        """The scene head of the mean of each group of views."""
        view_NF = on_device(torch.from_numpy(views_NF), self._compute.device)
        mean_GF = torch.stack([view_NF[start:end].mean(dim=0) for start, end in pairwise([0, *ends])])
        scene_GD: NDArray[np.float32] = self.heads.scene(mean_GF).cpu().numpy()
        return scene_GD

    def _made(self, name: str, features: Features, rows: Sequence[int]) -> Tensor:
        """One output of these pictures of a batch, each alone."""
        if name in (VIEW, SCENE):
            view_BF = self.heads.views(features[CLS][rows], features[PATCH_MEAN][rows])
            scene_BD: Tensor = self.heads.scene(view_BF) if name == SCENE else view_BF
            return scene_BD
        if name == OBJECT and isinstance(self.heads, ImageHeads):
            embedding_BD: Tensor = self.heads.object(features[CLS][rows])
            return embedding_BD
        return features[name][rows]

    def _check_answer(self, num: int, num_groups: int, outputs: frozenset[str]) -> None:
        """Refuse a request whose answer could not be sent."""
        shapes = [(spec.name, spec.shape[1:]) for spec in self.outputs if spec.name in outputs]
        num_bytes = sum(
            (num_groups if name == SCENE else num) * prod(shape) * FLOAT_BYTES + ENVELOPE_BYTES
            for name, shape in shapes
        )
        if num_bytes > self._limits.max_answer_bytes:
            unit = f"bytes of the answer for {num} pictures"
            raise LimitExceeded.of("outputs", value=num_bytes, limit=self._limits.max_answer_bytes, unit=unit)


def _outputs(backbone: ImageBackbone, heads: FloorplanHeads, width: int) -> tuple[TensorSpec, ...]:
    """What a model gives; a floorplan is a scene as a whole."""
    features, embedding = (ANY, backbone.width), (ANY, width)
    cls, scene = (
        TensorSpec(name=CLS, datatype="FP32", shape=features),
        TensorSpec(name=SCENE, datatype="FP32", shape=embedding),
    )
    if not isinstance(heads, ImageHeads):
        return cls, scene
    patches = (ANY, backbone.recipe.num_patches, backbone.width)
    return (
        cls,
        TensorSpec(name=PATCH_MEAN, datatype="FP32", shape=features),
        TensorSpec(name=PATCHES, datatype="FP32", shape=patches),
        scene,
        TensorSpec(name=OBJECT, datatype="FP32", shape=embedding),
    )


class VisionFactory(Factory):
    """Loads bundles; all models on the same backbone share one in memory."""

    names = (IMAGE, FLOORPLAN)

    def __init__(
        self, backbones_dir: Path, limits: Limits, compute: Compute, registry: Registry | None = None
    ) -> None:
        self._backbones_dir = backbones_dir
        self._limits = limits
        self._compute = compute
        self._registry = registry or backbones.registry()
        self._shared = Shared(ImageBackbone, compute.device)

    def load(self, name: str, directory: Path) -> Model:
        """The model `name` of a bundle."""
        if name not in self.names:
            raise InvalidInput.at("name", f"{name}, this service has {', '.join(self.names)}")
        bundle = open_bundle(directory)
        if name not in bundle.manifest.sections:
            raise NotFound(f"bundle {directory.name}: it has no section {name}")
        heads = heads_of(bundle, name)
        backbone = self._backbone(bundle, name)
        if heads.config["feature_width"] != backbone.width:
            found = f"config feature_width is {heads.config['feature_width']}"
            raise bundle.invalid(name, f"{found}, the backbone has {backbone.width}")
        return VisionModel(bundle, backbone, heads, self._limits, self._compute)

    def _backbone(self, bundle: Bundle, name: str) -> ImageBackbone:
        """The backbone that a section names, if it is the one that the section was made with."""
        made_with = bundle.section(name).backbone
        if made_with is None:
            raise bundle.invalid(name, "names no backbone")
        entry = self._registry.get(made_with.name)
        directory = self._backbones_dir / entry.name
        digest = backbones.weights_digest(entry, directory)
        check_made_with(bundle, name, entry, {WEIGHTS_FILE: (digest, made_with.digest)}, entry.preprocessing)
        return self._shared.get(entry, directory, (digest,))


def _parameters(
    bundle: Bundle, backbone: ImageBackbone, name: str, limits: Limits, compute: Compute
) -> dict[str, str]:
    """What the metadata shows."""
    reference, recipe = bundle.section(name).backbone, backbone.recipe
    assert reference is not None
    return {
        "backbone": reference.name,
        "backbone_digest": reference.digest,
        "device": str(compute.device),
        "precision": compute.precision,
        "side_px": str(recipe.side_px),
        "num_patches": str(recipe.num_patches),
        "max_items": str(limits.max_items),
        "max_image_bytes": str(limits.max_image_bytes),
        "max_image_pixels": str(limits.max_image_pixels),
        "max_request_pixels": str(limits.max_request_pixels),
        "min_image_side": str(limits.min_image_side),
    }
