"""Features and weights are of one precision, under autocast too, and fit each other; others are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from encoders_3d.sparse.layers import MinkowskiConvolution, MinkowskiLinear
from encoders_3d.sparse.neighbours import Kernel
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.pooling import MinkowskiSumPooling
from encoders_3d.sparse.scene_resnet import NARROW, SceneResNet
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import clouds, of_voxels
from tests.unit.sparse_reference import ENGINES, engine_of
from xscene.errors import InvalidInput


def tensor(engine: str) -> SparseTensor:
    features = of_voxels(clouds(40), 3, salt=1).float()
    return SparseTensor.of(features, clouds(40), engine_of(engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "layer", [MinkowskiConvolution(3, 8, 3), MinkowskiConvolution(3, 8, 1), MinkowskiLinear(3, 8)]
)
def test_weights_of_another_precision_are_refused(layer: nn.Module, dtype: torch.dtype, engine: str) -> None:
    wanted = str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidInput, match=f"features: float32 on cpu, the weights are {wanted} on cpu"):
        layer.to(dtype)(tensor(engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "network",
    [
        MinkUNet(3, 4, unet_config("14A")),
        SceneResNet(NARROW),
        nn.Sequential(MinkowskiLinear(3, 5), MinkowskiConvolution(5, 8, 3)),
        nn.Sequential(MinkowskiConvolution(3, 5, 1), MinkowskiSumPooling(2, 2), MinkowskiBatchNorm(5)),
    ],
    ids=["unet", "resnet", "linear", "pooling"],
)
def test_autocast_changes_nothing_of_a_network(network: nn.Module, engine: str) -> None:
    runs = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = network(tensor(engine))
        features = out if isinstance(out, Tensor) else out.features
        features.square().sum().backward()
        runs.append([features, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("layer", [MinkowskiConvolution(3, 8, 3), MinkowskiLinear(3, 8)])
def test_what_autocast_made_before_is_taken_in_the_type_of_the_weights(layer: nn.Module) -> None:
    x = tensor("torch")
    narrow = x.with_features(x.features.bfloat16().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(narrow).features
    assert torch.equal(out, layer(x.with_features(narrow.features.float())).features)
    out.sum().backward()
    assert narrow.features.grad.dtype is torch.bfloat16
    with pytest.raises(InvalidInput, match="features: bfloat16 on cpu, the weights are float32 on cpu"):
        layer(narrow)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_weights_on_another_device_are_refused(kernel_size: int) -> None:
    layer = MinkowskiConvolution(3, 8, kernel_size).to("meta")
    with pytest.raises(InvalidInput, match="features: float32 on cpu, the weights are float32 on meta"):
        layer(tensor("torch"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("features", "weight", "message"),
    [
        ((39, 3), (27, 3, 8), r"features: shape \[39, 3\], needs \[40, any\]"),
        ((40,), (27, 3, 8), r"features: shape \[40\], needs \[40, any\]"),
        ((40, 3), (8, 3, 8), r"weight: shape \[8, 3, 8\], needs \[27, 3, any\]"),
        ((40, 3), (27, 4, 8), r"weight: shape \[27, 4, 8\], needs \[27, 3, any\]"),
        ((40, 3), (27, 3), r"weight: shape \[27, 3\], needs \[27, 3, any\]"),
    ],
)
def test_an_engine_refuses_sizes_that_do_not_fit_the_map(
    features: tuple[int, ...], weight: tuple[int, ...], message: str, engine: str
) -> None:
    maps = tensor(engine).maps
    with pytest.raises(InvalidInput, match=message):
        maps.engine.conv(torch.rand(features), torch.rand(weight), maps.kernel_map(1, 1, Kernel(3)))
