"""The scene encoder: voxels of clouds through a sparse network and a head into the joint space."""

# N clouds, V voxels of all clouds, C channels, F feature width, D embedding width

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from encoders_3d.prepare import VoxelCloud, coarser
from encoders_3d.sections import parsed, to_json
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.scene_resnet import SceneResNet, SceneResNetConfig
from encoders_3d.sparse.tensor import SparseTensor
from xscene.errors import InvalidInput
from xscene.nn.bundle import Bundle
from xscene.nn.bundle_writer import SectionContent
from xscene.nn.devices import on_device
from xscene.nn.heads import ProjectionHead

SECTION = "points"
SCHEMA = "points/1"
COLOR_CHANNELS = 3
WITH_PRESENCE = COLOR_CHANNELS + 1
MAX_COLOR = 255.0


@dataclass(frozen=True, kw_only=True)
class CloudConstants:
    """How clouds become the input of the network."""

    voxel_m: float
    color_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of colours from 0 to 1."""
    color_std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        for name, least in (("voxel_m", self.voxel_m), ("color_std", min(self.color_std))):
            if not least > 0:
                raise InvalidInput.at(name, f"{least}, needs more than 0")


@dataclass(frozen=True)
class Level:
    """Cells that some layers of the network compute."""

    stride: int
    """Voxels along one side of a cell."""
    cost: int
    """Of one cell, in voxels: a layer's work grows with the square of its width."""


class SceneEncoder(nn.Module):
    """A sparse ResNet and its head.

    Channels are the three colours and, in a network of four, whether the cloud has colours: 1 where
    it has, -1 where not, so that its shape is seen either way. A network of three needs colours.
    """

    def __init__(self, config: SceneResNetConfig, constants: CloudConstants, width: int) -> None:
        super().__init__()
        if config.in_channels not in (COLOR_CHANNELS, WITH_PRESENCE):
            wanted = f"needs {COLOR_CHANNELS} colours, or {WITH_PRESENCE} with their presence"
            raise InvalidInput.at("in_channels", f"{config.in_channels}, {wanted}")
        self.constants = constants
        self.network = SceneResNet(config)
        self.head = ProjectionHead(config.out_channels, config.out_channels, width)
        self.levels = _levels(self.network)

    @property
    def needs_colors(self) -> bool:
        """Whether a cloud without colours cannot be encoded."""
        return self.network.config.in_channels == COLOR_CHANNELS

    @property
    def feature_width(self) -> int:
        """Width of the network's features."""
        return self.network.config.out_channels

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def forward(self, clouds: Sequence[VoxelCloud], engine: Engine) -> Tensor:
        """Features [N, F]; the head makes embeddings of them."""
        self.check_colors(clouds)
        ends = np.cumsum([len(cloud) for cloud in clouds])
        coordinates_V4 = np.empty((ends[-1], 4), dtype=np.int32)
        for number, (end, cloud) in enumerate(zip(ends, clouds, strict=True)):
            rows = slice(end - len(cloud), end)
            coordinates_V4[rows, 0] = number
            coordinates_V4[rows, 1:] = cloud.coordinates
        channels_VC = torch.cat([self.channels(cloud) for cloud in clouds])
        x = SparseTensor.of(
            on_device(channels_VC, self.device),
            on_device(torch.from_numpy(coordinates_V4), self.device),
            engine,
        )
        features_NF: Tensor = self.network(x)
        return features_NF

    def check_colors(self, clouds: Sequence[VoxelCloud]) -> None:
        """Refuse clouds without colours where the network cannot tell that they are missing."""
        if self.needs_colors and any(cloud.colors is None for cloud in clouds):
            channels = self.network.config.in_channels
            raise InvalidInput.at(
                "colors", f"no colours, which the bundle's network of {channels} channels needs"
            )

    def cost_of(self, cloud: VoxelCloud) -> int:
        """What computing a cloud costs, in voxels; more than its own where most lie far from the others.

        Voxels of a surface share ever fewer cells from level to level. Those far apart stay as many
        through the wide layers too.
        """
        cost, cells_V3, reached = len(cloud), cloud.coordinates, 1
        highest = [int(cells_V3[:, axis].max()) for axis in range(3)]
        for level in self.levels:
            # No more than those of the box around the cloud, which for a room are few.
            most = min(len(cells_V3), math.prod(at // level.stride + 1 for at in highest))
            if most * level.cost > cost:
                cells_V3, reached = coarser(cells_V3, level.stride // reached), level.stride
                cost = max(cost, len(cells_V3) * level.cost)
        return cost

    def channels(self, cloud: VoxelCloud) -> Tensor:
        """Channels [V, C] of one cloud."""
        channels_VC = torch.zeros(len(cloud), self.network.config.in_channels)
        if cloud.colors is not None:
            mean, std = torch.tensor(self.constants.color_mean), torch.tensor(self.constants.color_std)
            channels_VC[:, :COLOR_CHANNELS] = (torch.from_numpy(cloud.colors) / MAX_COLOR - mean) / std
        if not self.needs_colors:
            channels_VC[:, COLOR_CHANNELS] = -1.0 if cloud.colors is None else 1.0
        return channels_VC

    def section(self) -> SectionContent:
        """The encoder as a section of a bundle."""
        return SectionContent(
            schema=SCHEMA,
            config=to_json(self.network.config),
            tensors=self.state_dict(),
            preprocessing=to_json(self.constants),
        )

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> SceneEncoder:
        """The encoder of a bundle, ready for inference."""
        section = bundle.section(SECTION, schema=SCHEMA)
        config = parsed(SceneResNetConfig, section.config, bundle, SECTION, "config")
        constants = parsed(CloudConstants, section.preprocessing, bundle, SECTION, "preprocessing")
        try:
            encoder = cls(config, constants, bundle.manifest.width)
        except InvalidInput as error:
            raise bundle.invalid(SECTION, f"config: {error}") from error
        bundle.load_module_strict(encoder, SECTION)
        return encoder.eval().requires_grad_(False)


def _levels(network: SceneResNet) -> list[Level]:
    """The levels behind the stem, behind each stage, and behind the last convolution."""
    config, stride, found = network.config, 1, []
    widths = (config.stem_width, *config.widths, config.out_channels)
    # What comes last pools whole clouds.
    for width, part in zip(widths, list(network.children())[:-1], strict=True):
        for name, module in part.named_modules():
            if "downsample" not in name:
                stride *= getattr(module, "stride", 1)
        found.append(Level(stride, -(-(width**2) // config.stem_width**2)))
    return found
