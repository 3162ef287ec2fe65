"""Pooling with MinkowskiEngine's names: over the voxels of a kernel, and over whole clouds."""

# N input rows, M output rows, B clouds, C channels

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from encoders_3d.sparse.layers import DIMENSION, check_geometry, rows_of_clouds
from encoders_3d.sparse.neighbours import Kernel, KernelMap
from encoders_3d.sparse.tensor import SparseTensor


class Pooling(nn.Module):
    """Pooling onto the voxels of the input's stride times `stride`, by every engine alike."""

    def __init__(
        self, kernel_size: int, stride: int = 1, dilation: int = 1, dimension: int = DIMENSION
    ) -> None:
        super().__init__()
        check_geometry(kernel_size, stride, dimension)
        self.stride = stride
        self.offsets = Kernel(kernel_size, dilation, whole_voxel=kernel_size == stride)

    def _map(self, x: SparseTensor) -> KernelMap:
        coarse = x.maps.coarser(x.stride, self.stride)
        return x.maps.kernel_map(x.stride, coarse.stride, self.offsets)

    def _pooled(self, x: SparseTensor, features: Tensor) -> SparseTensor:
        return SparseTensor(features, x.stride * self.stride, x.maps)


class MinkowskiSumPooling(Pooling):
    """The sum of the voxels under the kernel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The pooled voxels."""
        return self._pooled(x, _sum(x.features, self._map(x)))


class MinkowskiAvgPooling(Pooling):
    """The mean of those voxels under the kernel that are there."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The pooled voxels."""
        kernel_map = self._map(x)
        ones = x.features.new_ones(len(x), 1)
        with torch.no_grad():
            counts = _add_rows(ones, kernel_map).clamp_(min=1)
        return self._pooled(x, _sum(x.features, kernel_map) / counts)


class MinkowskiMaxPooling(Pooling):
    """The largest of those voxels under the kernel that are there, each channel by itself."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The pooled voxels."""
        features: Tensor = _Max.apply(x.features, self._map(x))  # type: ignore[no-untyped-call]
        return self._pooled(x, features)


class GlobalPooling(nn.Module):
    """Pooling of each cloud into one row."""

    reduce: Callable[[Tensor], Tensor]

    def forward(self, x: SparseTensor) -> Tensor:
        """One row (B,C) a cloud."""
        return torch.stack([self.reduce(rows) for rows in rows_of_clouds(x)])


class MinkowskiGlobalAvgPooling(GlobalPooling):
    """The mean of each cloud's voxels."""

    def reduce(self, rows: Tensor) -> Tensor:
        """The mean of the rows."""
        return rows.mean(0)


class MinkowskiGlobalSumPooling(GlobalPooling):
    """The sum of each cloud's voxels."""

    def reduce(self, rows: Tensor) -> Tensor:
        """The sum of the rows."""
        return rows.sum(0)


class MinkowskiGlobalMaxPooling(GlobalPooling):
    """The largest of each cloud's voxels, each channel by itself."""

    def reduce(self, rows: Tensor) -> Tensor:
        """The maximum of the rows; where several are largest, the gradient goes to one of them."""
        return rows.max(0).values


def _sum(features_NC: Tensor, kernel_map: KernelMap) -> Tensor:
    summed: Tensor = _Sum.apply(features_NC, kernel_map)  # type: ignore[no-untyped-call]
    return summed


def _add_rows(features_NC: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sums (M,C) over the pairs, offset by offset: the order of the sum depends on the map alone."""
    total = features_NC.new_zeros(kernel_map.num_out, features_NC.shape[1])
    for offset in range(kernel_map.num_offsets):
        sources, targets = (rows.long() for rows in kernel_map.rows(offset))
        total.index_copy_(0, targets, total.index_select(0, targets) + features_NC.index_select(0, sources))
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.kernel_map = kernel_map
        return _add_rows(features, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _add_rows(gradient, ctx.kernel_map.swapped), None


class _Max(torch.autograd.Function):
    """The gradient goes to the first offset that holds the largest value."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel_map: KernelMap) -> Tensor:
        shape = (kernel_map.num_out, features.shape[1])
        best = features.new_full(shape, -torch.inf)
        winner = torch.full(shape, -1, dtype=torch.int32, device=features.device)
        for offset in range(kernel_map.num_offsets):
            sources, targets = (rows.long() for rows in kernel_map.rows(offset))
            value, held = features.index_select(0, sources), best.index_select(0, targets)
            won = winner.index_select(0, targets)
            # The first wins whatever it is, minus infinity too.
            wins = (value > held) | value.isnan() | (won < 0)
            best.index_copy_(0, targets, torch.where(wins, value, held))
            winner.index_copy_(0, targets, won.masked_fill_(wins, offset))
        ctx.save_for_backward(winner)
        ctx.kernel_map = kernel_map
        return best.masked_fill_(winner < 0, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (winner,) = ctx.saved_tensors
        kernel_map = ctx.kernel_map
        total = gradient.new_zeros(kernel_map.num_in, gradient.shape[1])
        for offset in range(kernel_map.num_offsets):
            sources, targets = (rows.long() for rows in kernel_map.rows(offset))
            mine = gradient.index_select(0, targets)
            mine.masked_fill_(winner.index_select(0, targets) != offset, 0.0)
            total.index_copy_(0, sources, total.index_select(0, sources) + mine)
        return total, None
