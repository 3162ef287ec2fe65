"""Residual networks from the voxels of whole scenes to one vector a scene."""

# B clouds, C output channels

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from encoders_3d.sparse.blocks import stage
from encoders_3d.sparse.layers import MinkowskiConvolution, MinkowskiReLU, initialise
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.pooling import MinkowskiAvgPooling, MinkowskiGlobalAvgPooling
from encoders_3d.sparse.tensor import SparseTensor


@dataclass(frozen=True, kw_only=True)
class SceneResNetConfig:
    """Widths and depths."""

    in_channels: int = 3
    stem_width: int = 64
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    out_channels: int = 512


RESNET34 = SceneResNetConfig()
NARROW = SceneResNetConfig(stem_width=16, widths=(16, 32, 48, 80), num_blocks=(1, 1, 1, 1), out_channels=256)


class SceneResNet(nn.Module):
    """Stem, four stages, a last convolution and global pooling; 192 voxels in all to one of the last."""

    def __init__(self, config: SceneResNetConfig = RESNET34) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Sequential(
            MinkowskiConvolution(config.in_channels, config.stem_width, kernel_size=5, stride=2),
            MinkowskiBatchNorm(config.stem_width),
            MinkowskiReLU(inplace=True),
            MinkowskiAvgPooling(kernel_size=2, stride=2),
        )
        width = config.stem_width
        for number, (out, num_blocks) in enumerate(
            zip(config.widths, config.num_blocks, strict=True), start=1
        ):
            self.add_module(f"layer{number}", stage(width, out, num_blocks, stride=2))
            width = out
        self.conv5 = nn.Sequential(
            MinkowskiConvolution(width, config.out_channels, kernel_size=3, stride=3),
            MinkowskiBatchNorm(config.out_channels),
            MinkowskiReLU(inplace=True),
        )
        self.glob_pool = MinkowskiGlobalAvgPooling()
        initialise(self)

    def forward(self, x: SparseTensor) -> Tensor:
        """Vectors (B,C), one a cloud."""
        x = self.conv1(x)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        pooled: Tensor = self.glob_pool(self.conv5(x))
        return pooled
