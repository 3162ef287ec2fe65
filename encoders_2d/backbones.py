"""The frozen vision networks: what each is made of, and how it is loaded from its directory."""

# B pictures, S side of a square, T tokens, P patches, F feature width

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xscene.errors import BundleInvalid, InvalidInput
from xscene.nn.backbone_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_config,
    check_files,
    digests,
    loading,
    picked,
)
from xscene.nn.backbones import Backbone, Constant, Registry
from xscene.nn.manifest import BackboneRef, load_json

FILES = (WEIGHTS_FILE, CONFIG_FILE)
CLS, PATCH_MEAN, PATCHES = "cls", "patch_mean", "patches"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SIDE_PX = 224
JPEG_MARGIN = 2

Facet: TypeAlias = Literal["query", "key", "value", "token"]
PROJECTIONS: Mapping[str, str] = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
Setting: TypeAlias = int | float | str | bool

MOBILENET_DIGEST = "029967bbd74c6d4a72055577c2c2f3ec833e2cc19a267fe77688ee0914281b86"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What turns the files of a directory into a vision network."""

    family: Literal["dinov2", "mobilenet_v2"]
    config: Mapping[str, Setting]
    """Entries of config.json that decide what the network computes."""
    width: int
    cell_px: int
    """Side of the square that a patch stands for."""
    normalised: bool
    """Whether each token is scaled to unit length."""
    side_px: int = SIDE_PX
    block: int | None = None
    """The block of a transformer whose output is taken, counted from 0."""
    facet: Facet | None = None
    """What is taken of that block: a third of its attention's input projection, or its output."""
    unused: tuple[str, ...] = ()
    """Patterns of tensors that a file may hold and that features do not need."""

    @property
    def num_patches(self) -> int:
        """Patches of a square."""
        return (self.side_px // self.cell_px) ** 2

    @property
    def preprocessing(self) -> dict[str, Constant]:
        """How pictures become features."""
        constants: dict[str, Constant] = {
            "side_px": self.side_px,
            "resize": "bicubic, antialiased, squeezed to a square",
            "jpeg_margin": JPEG_MARGIN,
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "normalised": self.normalised,
        }
        if self.block is not None and self.facet is not None:
            constants |= {"block": self.block, "facet": self.facet}
        return constants


def dinov2(
    *,
    width: int,
    num_blocks: int,
    num_heads: int,
    block: int,
    facet: Facet = "value",
    gated: bool = False,
    image_px: int = 518,
    side_px: int = SIDE_PX,
) -> Recipe:
    """A DINOv2 network with patches of 14 pixels."""
    return Recipe(
        family="dinov2",
        config={
            "hidden_size": width,
            "num_hidden_layers": num_blocks,
            "num_attention_heads": num_heads,
            "mlp_ratio": 4,
            "use_swiglu_ffn": gated,
            "qkv_bias": True,
            "patch_size": 14,
            "image_size": image_px,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        width=width,
        cell_px=14,
        normalised=True,
        side_px=side_px,
        block=block,
        facet=facet,
        # What lies behind the block is not computed.
        unused=tuple(rf"encoder\.layer\.{each}\..+" for each in range(block + 1, num_blocks)),
    )


# Giant is CrossOver's, at block 31 of 40; the others take the block that lies as deep.
DINOV2: Mapping[str, Recipe] = {
    "dinov2-small": dinov2(width=384, num_blocks=12, num_heads=6, block=9),
    "dinov2-base": dinov2(width=768, num_blocks=12, num_heads=12, block=9),
    "dinov2-large": dinov2(width=1024, num_blocks=24, num_heads=16, block=18),
    "dinov2-giant": dinov2(width=1536, num_blocks=40, num_heads=24, block=31, gated=True),
}
MOBILENET = "mobilenet-v2"
MOBILENET_V2 = Recipe(
    family="mobilenet_v2",
    config={
        "depth_multiplier": 1.0,
        "expand_ratio": 6.0,
        "output_stride": 32,
        "first_layer_is_expansion": True,
        "hidden_act": "relu6",
        # As torchvision has it; the defaults are those of TensorFlow's network.
        "tf_padding": False,
        "layer_norm_eps": 1e-5,
    },
    width=1280,
    cell_px=32,
    normalised=False,
)


Features: TypeAlias = Mapping[str, Tensor]
"""What a backbone gives of B pictures: `cls` [B, F], `patch_mean` [B, F], `patches` [B, P, F]."""


class Dinov2Tokens(nn.Module):
    """A facet of the last block of a DINOv2 that was cut off behind it."""

    def __init__(self, network: Any, facet: Facet) -> None:
        super().__init__()
        self.network = network
        self.facet = facet

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """The CLS token, then the patches: [B, T, F]."""
        hidden_BTF = self.network.embeddings(pixels_B3SS)
        *before, last = self.network.encoder.layer
        for layer in before:
            hidden_BTF = layer(hidden_BTF)
        if self.facet == "token":
            tokens_BTF: Tensor = last(hidden_BTF)
        else:
            tokens_BTF = getattr(last.attention, PROJECTIONS[self.facet])(last.norm1(hidden_BTF))
        return tokens_BTF


class MobileNetTokens(nn.Module):
    """The cells of MobileNetV2's last feature map; batch norms are folded into their convolutions."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        for layer in network.modules():
            if getattr(layer, "normalization", None) is not None:
                layer.convolution = fuse_conv_bn_eval(layer.convolution, layer.normalization)
                layer.normalization = None
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """The cells, row by row: [B, P, F]."""
        cells: Tensor = self.network(pixels_B3SS).last_hidden_state
        return cells.flatten(2).transpose(1, 2)


class ImageBackbone(nn.Module):
    """A frozen network and the constants that its pictures are normalised with."""

    mean_3: Tensor
    std_3: Tensor

    def __init__(self, tokens: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.tokens = tokens.eval().requires_grad_(False)
        self.recipe = recipe
        self.width = recipe.width
        self.register_buffer("mean_3", torch.tensor(IMAGENET_MEAN) * 255)
        self.register_buffer("std_3", torch.tensor(IMAGENET_STD) * 255)

    def forward(self, squares_BSS3: Tensor) -> Features:
        """Features of squares in RGB, 0 to 255; without a CLS token, the mean stands for it."""
        pixels_B3SS = ((squares_BSS3.float() - self.mean_3) / self.std_3).permute(0, 3, 1, 2)
        tokens_BTF = self.tokens(pixels_B3SS)
        if self.recipe.normalised:
            tokens_BTF = nn.functional.normalize(tokens_BTF, dim=-1)
        if self.recipe.family == "dinov2":
            patches_BPF = tokens_BTF[:, 1:]
            return {CLS: tokens_BTF[:, 0], PATCH_MEAN: patches_BPF.mean(dim=1), PATCHES: patches_BPF}
        mean_BF = tokens_BTF.mean(dim=1)
        return {CLS: mean_BF, PATCH_MEAN: mean_BF, PATCHES: tokens_BTF}


def image_backbone(name: str, recipe: Recipe, *, licence: str, digest: str | None = None) -> Backbone:
    """A registry's entry; the digest is given where there is one published file."""
    return Backbone(
        name=name,
        kind="image",
        widths=dict.fromkeys((CLS, PATCH_MEAN, PATCHES), recipe.width),
        loader=partial(load_backbone, name, recipe),
        licence=licence,
        preprocessing=recipe.preprocessing,
        digest=digest,
    )


def registry() -> Registry:
    """The vision backbones that bundles may name."""
    entries = Registry()
    entries.register(image_backbone(MOBILENET, MOBILENET_V2, licence="BSD-3-Clause", digest=MOBILENET_DIGEST))
    for name, recipe in DINOV2.items():
        entries.register(image_backbone(name, recipe, licence="Apache-2.0"))
    return entries


def reference(entry: Backbone, directory: Path | None) -> BackboneRef | None:
    """The backbone as a bundle names it; None where nothing tells its digest.

    The digest is that of the weights in `directory`, else the published one.
    """
    digest = entry.digest if directory is None else weights_digest(entry, directory)
    return None if digest is None else BackboneRef(name=entry.name, digest=digest)


def weights_digest(entry: Backbone, directory: Path) -> str:
    """SHA-256 of the weights; where there is a published one, it must be that."""
    check_files(entry.name, directory, FILES)
    return digests(entry.name, directory, {WEIGHTS_FILE: entry.digest})[WEIGHTS_FILE]


def load_backbone(name: str, recipe: Recipe, directory: Path) -> ImageBackbone:
    """The network in a directory of config.json and model.safetensors."""
    check_files(name, directory, FILES)
    with loading(name):
        check_config(load_json((directory / CONFIG_FILE).read_bytes(), CONFIG_FILE), recipe.config)
        network = _network(recipe)
        found = picked(load_file(directory / WEIGHTS_FILE), network, recipe.unused)
        network.load_state_dict(found, assign=True)
        network.eval()
    tokens = MobileNetTokens(network) if recipe.facet is None else Dinov2Tokens(network, recipe.facet)
    return ImageBackbone(tokens, recipe)


def write_dinov2(source: str, recipe: Recipe, directory: Path) -> None:
    """Write a DINOv2 model of a directory or hub id, as transformers loads it.

    No published model could be opened when this was written; names are checked one by one, and any
    surprise is an error that names it.
    """
    from transformers import Dinov2Model

    loader: Any = Dinov2Model
    try:
        model, report = loader.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise InvalidInput.at("source", f"{source} is no directory or hub id of DINOv2: {first}") from error
    if missing := sorted(report["missing_keys"]):
        raise BundleInvalid(f"{source}: missing tensors: {', '.join(missing)}")
    check_config(model.config.to_dict(), recipe.config)
    _write(model.state_dict(), {**recipe.config, "model_type": "dinov2"}, recipe, directory)


def write_mobilenet(checkpoint: Path, directory: Path) -> None:
    """Write torchvision's MobileNetV2; its layers stand in the same order, under other names."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise InvalidInput.at("source", f"{checkpoint.name} is no file of tensors alone: {error}") from error
    kept = [(name, tensor) for name, tensor in state.items() if not name.startswith("classifier.")]
    wanted = _network(MOBILENET_V2).state_dict()
    if [name.rpartition(".")[2] for name, _ in kept] != [name.rpartition(".")[2] for name in wanted]:
        raise BundleInvalid(f"{checkpoint.name}: its layers are not those of MobileNetV2")
    renamed = {name: tensor for name, (_, tensor) in zip(wanted, kept, strict=True)}
    config = {**MOBILENET_V2.config, "model_type": "mobilenet_v2"}
    _write(renamed, config, MOBILENET_V2, directory)


def _write(
    found: Mapping[str, Tensor], config: Mapping[str, Setting], recipe: Recipe, directory: Path
) -> None:
    """Write a backbone's two files."""
    tensors = picked(found, _network(recipe, whole=True), ())
    weights = directory / WEIGHTS_FILE
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
    # The library keeps them to their owner, and services may run as somebody else.
    weights.chmod(0o644)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _network(recipe: Recipe, *, whole: bool = False) -> nn.Module:
    """The network without weights, whole or up to the block that is taken."""
    # Takes seconds to import, and commands that only read digests need none of it.
    from transformers import Dinov2Config, Dinov2Model, MobileNetV2Config, MobileNetV2Model

    config: dict[str, Any] = dict(recipe.config)
    with torch.device("meta"):
        if recipe.family == "mobilenet_v2":
            return MobileNetV2Model(MobileNetV2Config(**config), add_pooling_layer=False)
        if not whole and recipe.block is not None:
            config["num_hidden_layers"] = recipe.block + 1
        return Dinov2Model(Dinov2Config(**config))
