"""Sparse layers and a small UNet on a CUDA device give what they give on the CPU, forward and backward."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from encoders_3d.sparse import layers, normalisation, pooling
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import CASES, IN, clouds, fill, of_voxels, relative, results

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
OURS = SimpleNamespace(**{**vars(layers), **vars(normalisation), **vars(pooling)})
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
# Of values that bfloat16 makes equal, each device may call another one the largest.
RUNS = [
    (name, dtype)
    for name in CASES
    for dtype in TOLERANCES
    if dtype is not torch.bfloat16 or name.startswith(("conv", "transposed"))
]
COORDINATES = clouds(num_voxels=1500, extent=8)


def found(network: nn.Module, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Output, coordinates and all gradients; rows are in key order on every device."""
    leaf = of_voxels(COORDINATES, IN, salt=7).to(device, dtype).requires_grad_()
    x = SparseTensor.of(leaf, COORDINATES.to(device), TorchEngine())
    return {name: tensor.cpu() for name, tensor in results(network.to(device, dtype), x, leaf).items()}


def compared(on_gpu: dict[str, Tensor], on_cpu: dict[str, Tensor], tolerance: float) -> None:
    assert torch.equal(on_gpu.pop("coordinates"), on_cpu.pop("coordinates"))
    differences = {name: relative(on_gpu[name], wanted) for name, wanted in on_cpu.items()}
    assert max(differences.values()) < tolerance, differences


@pytest.mark.parametrize(("name", "dtype"), RUNS)
def test_a_layer_gives_the_same_forward_and_backward(name: str, dtype: torch.dtype) -> None:
    on_gpu, on_cpu = (found(CASES[name].make(OURS), device, dtype) for device in ("cuda", "cpu"))
    compared(on_gpu, on_cpu, TOLERANCES[dtype])


def test_a_unet_gives_the_same_forward_and_backward() -> None:
    on_gpu, on_cpu = (
        found(fill(MinkUNet(IN, 4, unet_config("14A"))), device, torch.float64) for device in ("cuda", "cpu")
    )
    compared(on_gpu, on_cpu, 1e-10)


def test_autocast_changes_nothing_of_a_unet() -> None:
    network = fill(MinkUNet(IN, 4, unet_config("14A"))).eval().cuda()
    features = of_voxels(COORDINATES, IN, salt=7).float().cuda()
    x = SparseTensor.of(features, COORDINATES.cuda(), TorchEngine())
    with torch.no_grad():
        wanted = network(x).features
        with torch.autocast("cuda", torch.float16):
            assert torch.equal(network(x).features, wanted)
