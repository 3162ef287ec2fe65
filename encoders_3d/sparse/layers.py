"""Layers with MinkowskiEngine's names, arguments and parameter layout: convolutions and pointwise layers."""

# N rows, I input width, O output width

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders_3d.sparse.engine import check_type
from encoders_3d.sparse.neighbours import Kernel
from encoders_3d.sparse.tensor import SparseTensor
from xscene.errors import InvalidInput

DIMENSION = 3


class Convolution(nn.Module):
    """Weights (K^3,I,O), or (I,O) where the kernel is one voxel and keeps the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        dimension: int = DIMENSION,
    ) -> None:
        super().__init__()
        check_geometry(kernel_size, stride, dimension)
        for name, width in (("in_channels", in_channels), ("out_channels", out_channels)):
            if width < 1:
                raise InvalidInput.at(name, f"{width}, at least 1 is needed")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = stride
        self.offsets = Kernel(kernel_size, dilation)
        pointwise = kernel_size == 1 and stride == 1
        lead = () if pointwise else (kernel_size**DIMENSION,)
        self.kernel = nn.Parameter(torch.empty(*lead, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within one over the root of the fan-in."""
        limit = 1 / math.sqrt(self.in_channels * self.offsets.size**DIMENSION)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -limit, limit)

    def extra_repr(self) -> str:
        """Widths and geometry."""
        size, dilation = self.offsets.size, self.offsets.dilation
        geometry = f"kernel_size={size}, stride={self.stride}, dilation={dilation}"
        return f"{self.in_channels}, {self.out_channels}, {geometry}, bias={self.bias is not None}"

    def _convolved(self, x: SparseTensor, stride_out: int) -> SparseTensor:
        if x.features.shape[1] != self.in_channels:
            raise InvalidInput.at("features", f"{x.features.shape[1]} channels, needs {self.in_channels}")
        with typed_as(self.kernel, x.features) as given:
            if self.kernel.ndim == 2:
                features = given @ self.kernel
            else:
                kernel_map = x.maps.kernel_map(x.stride, stride_out, self.offsets)
                features = x.maps.engine.conv(given, self.kernel, kernel_map)
            if self.bias is not None:
                features = features + self.bias
        return SparseTensor(features, stride_out, x.maps)


class MinkowskiConvolution(Convolution):
    """Sparse convolution onto the voxels of the input's stride times `stride`."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features of the same voxels, or of the coarser ones that hold them."""
        return self._convolved(x, x.maps.coarser(x.stride, self.stride).stride)


class MinkowskiConvolutionTranspose(Convolution):
    """Sparse convolution back onto voxels that were there before; its map is the coarsening one."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features of the finer voxels."""
        if x.stride % self.stride:
            raise InvalidInput.at("stride", f"{self.stride} does not divide the input's stride {x.stride}")
        return self._convolved(x, x.maps.level(x.stride // self.stride).stride)


class MinkowskiLinear(nn.Module):
    """A linear layer on the features; parameters under `linear`."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The same voxels."""
        with typed_as(self.linear.weight, x.features) as features:
            return x.with_features(self.linear(features))


class MinkowskiReLU(nn.Module):
    """The positive part of the features; in their place where nothing else needs them."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The same voxels."""
        return x.with_features(functional.relu(x.features, inplace=self.inplace))


class MinkowskiDropout(nn.Module):
    """Dropout of single features while training."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The same voxels."""
        return x.with_features(self.dropout(x.features))


class SideBySide(nn.Module):
    """The channels of tensors of the same voxels, one tensor's after another's."""

    def forward(self, *tensors: SparseTensor) -> SparseTensor:
        """The same voxels."""
        for other in tensors[1:]:
            tensors[0].check_same_voxels(other)
        return tensors[0].with_features(torch.cat([tensor.features for tensor in tensors], dim=1))


def initialise(network: nn.Module) -> None:
    """Kaiming normal by fan-out for every convolution; norms to one and zero."""
    for module in network.modules():
        if isinstance(module, Convolution):
            kernel = module.kernel
            fan_out = kernel.numel() // module.in_channels
            nn.init.normal_(kernel, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm1d):
            module.reset_parameters()


@contextmanager
def typed_as(weight: Tensor, features: Tensor) -> Iterator[Tensor]:
    """The features to multiply by these weights, in a block without autocast.

    Engines compute in the type they are given: products in autocast's and products in the engine's would
    be mixed. Features that autocast made elsewhere are converted, others of another type are refused.
    """
    place = features.device.type
    if torch.is_autocast_enabled(place):
        features = features.to(weight.dtype)
    check_type(features, weight)
    with torch.autocast(place, enabled=False):
        yield features


def check_geometry(kernel_size: int, stride: int, dimension: int) -> None:
    """Refuse what is not three-dimensional or has no size."""
    if dimension != DIMENSION:
        raise InvalidInput.at("dimension", f"{dimension}, needs {DIMENSION}")
    for name, size in (("kernel_size", kernel_size), ("stride", stride)):
        if size < 1:
            raise InvalidInput.at(name, f"{size}, at least 1 is needed")


def rows_of_clouds(x: SparseTensor) -> tuple[Tensor, ...]:
    """The features of each cloud by itself."""
    return torch.split(x.features, x.maps.cloud_sizes(x.stride))
