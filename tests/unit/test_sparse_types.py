"""Features and weights are of one precision and of sizes that fit; anything else is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from encoders_3d.sparse.layers import MinkowskiConvolution, MinkowskiLinear
from encoders_3d.sparse.neighbours import Kernel
from encoders_3d.sparse.tensor import SparseTensor
from tests.golden.sparse_cases import clouds
from tests.unit.sparse_reference import ENGINES, engine_of
from xscene.errors import InvalidInput


def tensor(engine: str, width: int = 3) -> SparseTensor:
    return SparseTensor.of(torch.rand(40, width), clouds(40), engine_of(engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "layer", [MinkowskiConvolution(3, 8, 3), MinkowskiConvolution(3, 8, 1), MinkowskiLinear(3, 8)]
)
def test_weights_of_another_precision_are_refused(layer: nn.Module, dtype: torch.dtype, engine: str) -> None:
    wanted = str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidInput, match=f"features: float32 on cpu, the weights are {wanted} on cpu"):
        layer.to(dtype)(tensor(engine))


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
