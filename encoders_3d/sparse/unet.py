"""UNets over voxels, from colours to features of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from encoders_3d.sparse.blocks import stage
from encoders_3d.sparse.layers import (
    MinkowskiConvolution,
    MinkowskiConvolutionTranspose,
    MinkowskiReLU,
    SideBySide,
    initialise,
)
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.tensor import SparseTensor
from xscene.errors import NotFound

STEM_WIDTH = 32
ENCODER_WIDTHS = (32, 64, 128, 256)
DEPTHS = {"14": (1,) * 8, "18": (2,) * 8, "34": (2, 3, 4, 6, 2, 2, 2, 2)}
DECODER_WIDTHS = {
    "14A": (128, 128, 96, 96),
    "14B": (128, 128, 128, 128),
    "14C": (192, 192, 128, 128),
    "14D": (384, 384, 384, 384),
    "18A": (128, 128, 96, 96),
    "18B": (128, 128, 128, 128),
    "18D": (384, 384, 384, 384),
    "34A": (256, 128, 64, 64),
    "34B": (256, 128, 64, 32),
    "34C": (256, 128, 96, 96),
}


@dataclass(frozen=True)
class UNetConfig:
    """Blocks of the eight stages, and the widths of the four that lead back up."""

    num_blocks: tuple[int, ...]
    decoder_widths: tuple[int, int, int, int]


def unet_config(variant: str) -> UNetConfig:
    """The sizes of a MinkUNet by its name, such as 18A or 34C."""
    if variant not in DECODER_WIDTHS:
        raise NotFound(f"UNet {variant!r} is not known; known: {', '.join(DECODER_WIDTHS)}")
    return UNetConfig(DEPTHS[variant[:2]], DECODER_WIDTHS[variant])


class MinkUNet(nn.Module):
    """Four times down and up by 2 with residual stages; each step up is joined by the way down."""

    DOWN = ("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2")
    UP = ("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2")

    def __init__(
        self, in_channels: int, out_channels: int, config: UNetConfig, *, stem_kernel_size: int = 5
    ) -> None:
        super().__init__()
        self.conv0p1s1 = MinkowskiConvolution(in_channels, STEM_WIDTH, kernel_size=stem_kernel_size)
        self.bn0 = MinkowskiBatchNorm(STEM_WIDTH)
        self.relu = MinkowskiReLU(inplace=True)
        self.cat = SideBySide()
        width = STEM_WIDTH
        for number, name in enumerate(self.DOWN, start=1):
            self.add_module(name, MinkowskiConvolution(width, width, kernel_size=2, stride=2))
            self.add_module(f"bn{number}", MinkowskiBatchNorm(width))
            out = ENCODER_WIDTHS[number - 1]
            self.add_module(f"block{number}", stage(width, out, config.num_blocks[number - 1]))
            width = out
        skips = (*reversed(ENCODER_WIDTHS[:-1]), STEM_WIDTH)
        for number, (name, skip) in enumerate(zip(self.UP, skips, strict=True), start=4):
            out = config.decoder_widths[number - 4]
            self.add_module(name, MinkowskiConvolutionTranspose(width, out, kernel_size=2, stride=2))
            self.add_module(f"bntr{number}", MinkowskiBatchNorm(out))
            self.add_module(f"block{number + 1}", stage(out + skip, out, config.num_blocks[number]))
            width = out
        self.final = MinkowskiConvolution(width, out_channels, kernel_size=1, bias=True)
        self.trunk_width = width
        initialise(self)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features of the input's voxels, through the last linear layer."""
        out: SparseTensor = self.final(self.trunk(x))
        return out

    def trunk(self, x: SparseTensor) -> SparseTensor:
        """Features of the input's voxels, `trunk_width` wide."""
        x = self.relu(self.bn0(self.conv0p1s1(x)))
        skips = []
        for number, name in enumerate(self.DOWN, start=1):
            skips.append(x)
            x = self.relu(self.get_submodule(f"bn{number}")(self.get_submodule(name)(x)))
            x = self.get_submodule(f"block{number}")(x)
        for number, name in enumerate(self.UP, start=4):
            x = self.relu(self.get_submodule(f"bntr{number}")(self.get_submodule(name)(x)))
            x = self.get_submodule(f"block{number + 1}")(self.cat(x, skips.pop()))
        return x
