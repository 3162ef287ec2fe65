"""Vision backbones: equal to the networks they stand for, and refused where they are others."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from encoders_2d.backbones import (
    DINOV2,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MOBILENET_V2,
    dinov2,
    image_backbone,
    load_backbone,
    registry,
    weights_digest,
    write_dinov2,
    write_mobilenet,
)
from tests.image_backbones import TINY, mobilenet, mobilenet_directory, picture, tiny_network, write_tiny
from xscene.errors import BundleInvalid, InvalidInput, ModelMismatch, PreconditionFailed

GATED = dinov2(width=32, num_blocks=3, num_heads=4, block=1, facet="key", gated=True, image_px=70, side_px=28)


def squares(side: int, num: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.stack([picture(seed, side, side) for seed in range(num)]))


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Pixels as torchvision's transforms give them."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


@torch.inference_mode()
def hooked(recipe, module, pixels: torch.Tensor) -> torch.Tensor:
    """What a module of the whole network gives while all of it is computed."""
    network = tiny_network(recipe)
    caught = []
    network.get_submodule(module).register_forward_hook(lambda _, __, output: caught.append(output))
    network(pixels)
    return caught[0]


@pytest.mark.parametrize(
    ("recipe", "module"),
    [
        (TINY, "encoder.layer.2.attention.v_proj"),
        (replace(TINY, facet="query"), "encoder.layer.2.attention.q_proj"),
        (replace(TINY, facet="token"), "encoder.layer.2"),
        (GATED, "encoder.layer.1.attention.k_proj"),
    ],
)
def test_dinov2_gives_the_facet_of_its_block_with_every_token_at_unit_length(tmp_path, recipe, module):
    backbone = load_backbone("tiny", recipe, write_tiny(tmp_path / "tiny", recipe))
    with torch.inference_mode():
        found = backbone(squares(28))
    wanted = hooked(recipe, module, normalised(squares(28)))
    wanted = wanted / wanted.norm(dim=-1, keepdim=True)
    assert wanted.shape == (3, 5, 32)
    torch.testing.assert_close(found["cls"], wanted[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["patches"], wanted[:, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["patch_mean"], wanted[:, 1:].sum(dim=1) / 4, atol=1e-5, rtol=0)


def test_blocks_behind_the_one_that_is_taken_are_not_kept(tmp_path):
    directory = write_tiny(tmp_path / "tiny")
    backbone = load_backbone("tiny", TINY, directory)
    assert len(backbone.tokens.network.encoder.layer) == 3
    assert any(name.startswith("encoder.layer.3.") for name in load_file(directory / "model.safetensors"))


def test_giant_is_the_published_layout_at_block_31():
    recipe = DINOV2["dinov2-giant"]
    assert (recipe.width, recipe.block, recipe.facet, recipe.num_patches) == (1536, 31, "value", 256)
    assert recipe.config["num_hidden_layers"] == 40
    assert recipe.preprocessing["side_px"] == 224
    assert {name: each.block for name, each in DINOV2.items()} == {
        "dinov2-small": 9,
        "dinov2-base": 9,
        "dinov2-large": 18,
        "dinov2-giant": 31,
    }
    for recipe in DINOV2.values():
        assert abs(recipe.block / (recipe.config["num_hidden_layers"] - 1) - 31 / 39) < 0.03


STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride, as the paper's table has them."""


def unit(x, weights, convolution, norm, *, stride=1, groups=1, active=True):
    """A convolution, its batch norm in plain arithmetic, and the ReLU that ends at 6."""
    kernel = weights[f"{convolution}.weight"]
    x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)
    mean, var, scale, shift = (
        weights[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    x = (x - mean) / torch.sqrt(var + 1e-5) * scale + shift
    return x.clamp(0, 6) if active else x


def torchvision_names(directory) -> dict[str, torch.Tensor]:
    """The converted tensors under the names of the original, found by layout and not by order."""
    found = load_file(directory / "model.safetensors")
    prefixes = {"conv_stem.first_conv": ("features.0.0", "features.0.1")}
    prefixes["conv_stem.conv_3x3"] = ("features.1.conv.0.0", "features.1.conv.0.1")
    prefixes["conv_stem.reduce_1x1"] = ("features.1.conv.1", "features.1.conv.2")
    for index in range(16):
        block = f"features.{index + 2}.conv"
        prefixes[f"layer.{index}.expand_1x1"] = (f"{block}.0.0", f"{block}.0.1")
        prefixes[f"layer.{index}.conv_3x3"] = (f"{block}.1.0", f"{block}.1.1")
        prefixes[f"layer.{index}.reduce_1x1"] = (f"{block}.2", f"{block}.3")
    prefixes["conv_1x1"] = ("features.18.0", "features.18.1")
    named = {}
    for ours, (convolution, norm) in prefixes.items():
        named[f"{convolution}.weight"] = found.pop(f"{ours}.convolution.weight")
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            named[f"{norm}.{name}"] = found.pop(f"{ours}.normalization.{name}")
    assert not found
    return named


def slow_mobilenet(weights, x: torch.Tensor) -> torch.Tensor:
    """MobileNetV2 of the paper on torchvision's tensors."""
    x = unit(x, weights, "features.0.0", "features.0.1", stride=2)
    number = 1
    for expansion, channels, num_blocks, first_stride in STAGES:
        for block in range(num_blocks):
            name, stride, y = f"features.{number}.conv", first_stride if block == 0 else 1, x
            place = 0
            if expansion != 1:
                y, place = unit(y, weights, f"{name}.0.0", f"{name}.0.1"), 1
            y = unit(y, weights, f"{name}.{place}.0", f"{name}.{place}.1", stride=stride, groups=y.shape[1])
            y = unit(y, weights, f"{name}.{place + 1}", f"{name}.{place + 2}", active=False)
            x = x + y if stride == 1 and x.shape[1] == channels else y
            number += 1
    return unit(x, weights, "features.18.0", "features.18.1")


@torch.inference_mode()
def test_mobilenet_is_torchvisions():
    found = mobilenet()(squares(224))
    wanted = slow_mobilenet(torchvision_names(mobilenet_directory()), normalised(squares(224)))
    assert wanted.shape == (3, 1280, 7, 7)
    torch.testing.assert_close(found["patches"], wanted.flatten(2).transpose(1, 2), atol=2e-4, rtol=0)
    torch.testing.assert_close(found["patch_mean"], wanted.mean(dim=(2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(found["cls"], found["patch_mean"])


@torch.inference_mode()
def test_mobilenets_features_tell_pictures_apart_and_know_them_again():
    originals = [picture(seed, 300, 200) for seed in range(6)]
    changed = [each[10:190, 15:285].astype(np.float32) * 0.9 for each in originals]

    def features(images):
        sized = [np.asarray(Image.fromarray(each.astype(np.uint8)).resize((224, 224))) for each in images]
        return functional.normalize(mobilenet()(torch.from_numpy(np.stack(sized)))["cls"], dim=-1)

    cosines = features(originals) @ features(changed).T
    assert cosines.argmax(dim=1).tolist() == list(range(6))
    others = cosines[~torch.eye(6, dtype=torch.bool)]
    assert cosines.diag().mean() - others.mean() > 0.05


def test_a_conversion_repeats_to_the_byte(tmp_path):
    names = torchvision_names(mobilenet_directory())
    order = sorted(
        names, key=lambda name: [int(w) if w.isdigit() else ORDER.index(w) for w in name.split(".")[1:]]
    )
    state = {name: names[name] for name in order} | {"classifier.1.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "weights.pth")
    write_mobilenet(tmp_path / "weights.pth", tmp_path)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / file).read_bytes() == (mobilenet_directory() / file).read_bytes()


ORDER = ["conv", "weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def test_what_is_no_mobilenet_is_not_converted(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.0.weight": torch.zeros(3)}, path)
    with pytest.raises(BundleInvalid, match=r"weights\.pth: its layers are not those of MobileNetV2"):
        write_mobilenet(path, tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidInput, match=r"weights\.pth is no file of tensors alone"):
        write_mobilenet(path, tmp_path)


def test_a_published_digest_must_be_met(tmp_path):
    directory = write_tiny(tmp_path / "tiny")
    entry = image_backbone("tiny", TINY, licence="none", digest="0" * 64)
    with pytest.raises(ModelMismatch, match=r"backbone tiny: model\.safetensors has SHA-256 \w{64}, the"):
        weights_digest(entry, directory)
    assert weights_digest(registry().get("mobilenet-v2"), mobilenet_directory()).startswith("029967bb")


def test_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(PreconditionFailed, match=r"backbone tiny: model\.safetensors, config\.json missing"):
        load_backbone("tiny", TINY, tmp_path)


@pytest.fixture
def directory(tmp_path):
    return write_tiny(tmp_path / "tiny")


def test_another_network_is_refused_by_its_config(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_attention_heads": 8}))
    with pytest.raises(BundleInvalid, match="num_attention_heads is 8, needed: 4"):
        load_backbone("tiny", TINY, directory)
    (directory / "config.json").write_text("[]")
    with pytest.raises(BundleInvalid, match="is list, an object is needed"):
        load_backbone("tiny", TINY, directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layernorm.bias"), r"missing tensors: layernorm\.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unknown tensors: extra"),
        (
            lambda state: state.update({"layernorm.bias": torch.zeros(3)}),
            r"layernorm\.bias is torch\.float32 \[3\]",
        ),
    ],
)
def test_other_tensors_are_named(directory, change, message):
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")
    with pytest.raises(BundleInvalid, match=message):
        load_backbone("tiny", TINY, directory)


def test_a_file_that_is_no_tensor_file_is_named(directory):
    (directory / "model.safetensors").write_bytes(b"nothing at all")
    with pytest.raises(BundleInvalid, match=r"model\.safetensors is no safetensors file"):
        load_backbone("tiny", TINY, directory)


def test_a_source_of_dinov2_that_is_none_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"source: .*nowhere is no directory or hub id of DINOv2"):
        write_dinov2(str(tmp_path / "nowhere"), TINY, tmp_path)
    tiny_network().save_pretrained(tmp_path / "other")
    with pytest.raises(BundleInvalid, match="hidden_size is 32, needed: 384"):
        write_dinov2(str(tmp_path / "other"), DINOV2["dinov2-small"], tmp_path)


def test_preprocessing_says_all_that_decides_the_features():
    assert MOBILENET_V2.preprocessing == {
        "side_px": 224,
        "resize": "bicubic, antialiased, squeezed to a square",
        "jpeg_margin": 2,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "normalised": False,
    }
    assert {"block": 2, "facet": "value", "normalised": True}.items() <= TINY.preprocessing.items()
