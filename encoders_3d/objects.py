"""The object encoder: points of single objects through a transformer and heads into the joint space."""

# N objects, K points, F feature width, D embedding width

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoders_3d.point_transformer import PointTransformer, PointTransformerConfig
from encoders_3d.sections import parsed, to_json
from xscene.errors import InvalidInput
from xscene.nn.bundle import Bundle
from xscene.nn.bundle_writer import SectionContent
from xscene.nn.devices import on_device
from xscene.nn.heads import ProjectionHead

SECTION = "objects"
SCHEMA = "objects/1"


@dataclass(frozen=True, kw_only=True)
class ObjectConstants:
    """How objects become the input of the network."""

    num_points: int = 1024


class ObjectEncoder(nn.Module):
    """One network, with a head for scanned points and a head for points of a mesh."""

    def __init__(self, config: PointTransformerConfig, constants: ObjectConstants, width: int) -> None:
        super().__init__()
        if constants.num_points < config.least_points:
            least = f"the network needs {config.least_points}"
            raise InvalidInput.at("num_points", f"{constants.num_points}, {least}")
        self.constants = constants
        self.network = PointTransformer(config)
        feature_width = self.feature_width
        self.points_head = ProjectionHead(feature_width, feature_width, width)
        self.mesh_head = ProjectionHead(feature_width, feature_width, width)

    @property
    def feature_width(self) -> int:
        """Width of the network's features."""
        return self.network.config.widths[-1]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def forward(self, xyz_NK3: Tensor) -> Tensor:
        """Features [N, F]; the heads make embeddings of them."""
        features_NF: Tensor = self.network(on_device(xyz_NK3, self.device))
        return features_NF

    def section(self) -> SectionContent:
        """The encoder as a section of a bundle."""
        return SectionContent(
            schema=SCHEMA,
            config=to_json(self.network.config),
            tensors=self.state_dict(),
            preprocessing=to_json(self.constants),
        )

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> ObjectEncoder:
        """The encoder of a bundle, ready for inference."""
        section = bundle.section(SECTION, schema=SCHEMA)
        config = parsed(PointTransformerConfig, section.config, bundle, SECTION, "config")
        constants = parsed(ObjectConstants, section.preprocessing, bundle, SECTION, "preprocessing")
        try:
            encoder = cls(config, constants, bundle.manifest.width)
        except InvalidInput as error:
            raise bundle.invalid(SECTION, f"config: {error}") from error
        bundle.load_module_strict(encoder, SECTION)
        return encoder.eval().requires_grad_(False)
