"""Cases that MinkowskiEngine and xscene both run: the same layers, inputs and parameters to the bit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

IN, OUT = 3, 5
NUM_VOXELS = 90


@dataclass(frozen=True)
class LayerCase:
    """A layer by its name and arguments; a transposed one follows a convolution that coarsens."""

    layer: str
    arguments: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] | None = None

    def make(self, namespace: Any) -> nn.Module:
        """The layers out of one implementation, with parameters by rule."""
        rows = []
        if self.first:
            rows.append(namespace.MinkowskiConvolution(IN, IN, dimension=3, **self.first))
        rows.append(getattr(namespace, self.layer)(**self.arguments))
        return fill(nn.Sequential(*rows).double())


def convolution(kernel_size: int, stride: int, dilation: int = 1) -> LayerCase:
    size = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    widths = {"in_channels": IN, "out_channels": OUT, "bias": True, "dimension": 3}
    return LayerCase("MinkowskiConvolution", {**widths, **size})


def transposed(kernel_size: int, stride: int) -> LayerCase:
    size = {"kernel_size": kernel_size, "stride": stride}
    widths = {"in_channels": IN, "out_channels": OUT, "bias": True, "dimension": 3}
    return LayerCase("MinkowskiConvolutionTranspose", {**widths, **size}, first=size)


def pooling(layer: str, kernel_size: int, stride: int) -> LayerCase:
    return LayerCase(layer, {"kernel_size": kernel_size, "stride": stride, "dimension": 3})


CASES = {
    "conv_k3_s1": convolution(3, 1),
    "conv_k5_s1": convolution(5, 1),
    "conv_k2_s2": convolution(2, 2),
    "conv_k3_s2": convolution(3, 2),
    "conv_k3_s3": convolution(3, 3),
    "conv_k5_s2": convolution(5, 2),
    "conv_k1_s1": convolution(1, 1),
    "conv_k1_s2": convolution(1, 2),
    "conv_k3_s1_d2": convolution(3, 1, dilation=2),
    "transposed_k2_s2": transposed(2, 2),
    "transposed_k3_s2": transposed(3, 2),
    "avg_k2_s2": pooling("MinkowskiAvgPooling", 2, 2),
    "avg_k3_s2": pooling("MinkowskiAvgPooling", 3, 2),
    "avg_k3_s3": pooling("MinkowskiAvgPooling", 3, 3),
    "sum_k2_s2": pooling("MinkowskiSumPooling", 2, 2),
    "sum_k3_s1": pooling("MinkowskiSumPooling", 3, 1),
    "max_k2_s2": pooling("MinkowskiMaxPooling", 2, 2),
    "max_k3_s2": pooling("MinkowskiMaxPooling", 3, 2),
    "linear": LayerCase("MinkowskiLinear", {"in_features": IN, "out_features": OUT}),
    "norm": LayerCase("MinkowskiBatchNorm", {"num_features": IN}),
    "global_avg": LayerCase("MinkowskiGlobalAvgPooling"),
    "global_sum": LayerCase("MinkowskiGlobalSumPooling"),
    "global_max": LayerCase("MinkowskiGlobalMaxPooling"),
}


def clouds(num_voxels: int = NUM_VOXELS, extent: int = 5, seed: int = 0) -> Tensor:
    """Distinct coordinates (N,4) of two clouds, negative ones among them, in no order."""
    random = torch.Generator().manual_seed(seed)
    every = torch.cartesian_prod(torch.arange(2), *[torch.arange(-extent, extent + 1)] * 3)
    return every[torch.randperm(len(every), generator=random)[:num_voxels]].int()


def hashed(numbers: Tensor, salt: int) -> Tensor:
    """Float64 in [-0.5, 0.5) from integers, the same bits everywhere."""
    mixed = (numbers.long() + 1) * 2654435761 + salt * 40503
    return ((mixed ^ (mixed >> 13)) * 97 % 65536).double() / 65536 - 0.5


def of_voxels(coordinates: Tensor, width: int, salt: int) -> Tensor:
    """A value for each voxel and channel, whatever the order of the rows."""
    cloud, x, y, z = coordinates.long().T
    place = ((cloud * 1024 + x + 512) * 1024 + y + 512) * 1024 + z + 512
    return hashed(place[:, None] * width + torch.arange(width), salt)


def fill(network: nn.Module) -> nn.Module:
    """Parameters by rule: about the scale that keeps activations in range, norms near one."""
    with torch.no_grad():
        for salt, parameter in enumerate(network.parameters()):
            values = hashed(torch.arange(parameter.numel()), salt).view_as(parameter)
            if parameter.ndim >= 2:
                fan_in = parameter[..., 0].numel()
                parameter.copy_(values * math.sqrt(12 / fan_in))
            else:
                parameter.copy_(values * 0.2 + (1.0 if parameter.ndim == 1 else 0.0))
    return network


def results(network: nn.Module, x: Any, leaf: Tensor) -> dict[str, Tensor]:
    """Output with its coordinates, and gradients of a fixed weighting of it."""
    out = network(x)
    features, coordinates = _parts(out)
    weights = of_voxels(coordinates.cpu(), features.shape[1], salt=99).to(features)
    (features * weights).sum().backward()
    found = {"coordinates": coordinates, "features": features.detach(), "to_features": leaf.grad}
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        found[f"to.{name}"] = parameter.grad
    return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def _parts(out: Any) -> tuple[Tensor, Tensor]:
    """Features and coordinates of either implementation's tensor; of a plain one, row b is cloud b."""
    if isinstance(out, Tensor):
        coordinates = torch.zeros(len(out), 4, dtype=torch.int32)
        coordinates[:, 0] = torch.arange(len(out))
        return out, coordinates
    return (out.F, out.C) if hasattr(out, "F") else (out.features, out.coordinates)


def by_coordinates(coordinates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in the order of their coordinates."""
    order = torch.tensor(sorted(range(len(coordinates)), key=lambda row: coordinates[row].tolist()))
    return coordinates[order], rows[order]


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).abs().max() / wanted.abs().max())
