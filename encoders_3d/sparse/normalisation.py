"""Batch normalisation over voxels, whose statistics can be summed across the ranks of a process group."""

# N rows, C channels

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from encoders_3d.sparse.tensor import SparseTensor


class MinkowskiBatchNorm(nn.Module):
    """Batch normalisation of the features; parameters and statistics under `bn`."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn: nn.BatchNorm1d = nn.BatchNorm1d(num_features, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The same voxels."""
        return x.with_features(self.bn(x.features))


class MinkowskiSyncBatchNorm(MinkowskiBatchNorm):
    """Batch normalisation by the voxels of all ranks; same keys, any device that the group can sum on."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        process_group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.bn = RankSummedBatchNorm(num_features, eps=eps, momentum=momentum)
        self.bn.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nn.Module, process_group: distributed.ProcessGroup | None = None
    ) -> nn.Module:
        """The module with every MinkowskiBatchNorm in it exchanged, tensors and all."""
        if type(module) is MinkowskiBatchNorm:
            old = module.bn
            assert old.momentum is not None
            new = cls(old.num_features, old.eps, old.momentum, process_group)
            new.bn.weight, new.bn.bias = old.weight, old.bias
            new.bn.running_mean, new.bn.running_var = old.running_mean, old.running_var
            new.bn.num_batches_tracked = old.num_batches_tracked
            return new.train(module.training)
        for name, child in module.named_children():
            setattr(module, name, cls.convert_sync_batchnorm(child, process_group))
        return module


class RankSummedBatchNorm(nn.BatchNorm1d):
    """Sums the statistics over the ranks while training; a rank by itself where there is no group."""

    process_group: distributed.ProcessGroup | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Features (N,C)."""
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        mean, variance, count = _Statistics.apply(input, self.process_group)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self._track(mean, variance, count)
        wide = torch.promote_types(input.dtype, torch.float32)
        scale = self.weight * torch.rsqrt(variance + self.eps).to(wide)
        result: Tensor = input * scale + (self.bias - mean.to(wide) * scale)
        return result.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class _Statistics(torch.autograd.Function):
    """Mean and biased variance (C,) over the rows of all ranks, and the number of these rows."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, group: distributed.ProcessGroup | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Two rounds, the mean first: a difference of large sums would lose the variance.
        wide = features.to(torch.float64)
        sums = torch.cat([wide.new_full((1,), len(wide)), wide.sum(0)])
        distributed.all_reduce(sums, group=group)
        count, mean = sums[0], sums[1:] / sums[0]
        squares = (wide - mean).square().sum(0)
        distributed.all_reduce(squares, group=group)
        ctx.save_for_backward(features, mean, count)
        ctx.group = group
        ctx.mark_non_differentiable(count)
        return mean, squares / count, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mean: Tensor, to_variance: Tensor, _: Tensor) -> tuple[Tensor, None]:
        features, mean, count = ctx.saved_tensors
        # The loss of every rank hangs on the shared statistics.
        gradients = torch.cat([to_mean, to_variance])
        distributed.all_reduce(gradients, group=ctx.group)
        to_mean, to_variance = gradients.chunk(2)
        wide = (to_mean + 2 * to_variance * (features - mean)) / count
        return wide.to(features.dtype), None
