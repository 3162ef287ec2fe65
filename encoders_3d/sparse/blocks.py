"""Parts that the networks share: the residual block, rows of blocks, and convolution with norm."""

from __future__ import annotations

from torch import nn

from encoders_3d.sparse.layers import MinkowskiConvolution, MinkowskiReLU
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.tensor import SparseTensor


class BasicBlock(nn.Module):
    """Two convolutions of size 3 with norms, added to the input."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = MinkowskiConvolution(in_channels, out_channels, kernel_size=3, stride=stride)
        self.norm1 = MinkowskiBatchNorm(out_channels)
        self.conv2 = MinkowskiConvolution(out_channels, out_channels, kernel_size=3)
        self.norm2 = MinkowskiBatchNorm(out_channels)
        self.relu = MinkowskiReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Voxels of the input's stride times the block's."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        residual = x if self.downsample is None else self.downsample(x)
        summed: SparseTensor = self.relu(y + residual)
        return summed


def stage(in_channels: int, out_channels: int, num_blocks: int, stride: int = 1) -> nn.Sequential:
    """A row of blocks; the first changes width and stride, with a 1^3 convolution beside it."""
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            MinkowskiConvolution(in_channels, out_channels, kernel_size=1, stride=stride),
            MinkowskiBatchNorm(out_channels),
        )
    first = BasicBlock(in_channels, out_channels, stride, downsample)
    rest = (BasicBlock(out_channels, out_channels) for _ in range(1, num_blocks))
    return nn.Sequential(first, *rest)
