"""The sparse tensor: features of voxels, with the manager of their coordinates."""

# N rows given, M rows, C channels

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from encoders_3d.sparse.coordinates import CoordinateManager, Duplicates
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.keys import DEFAULT_REACH_VOXELS
from xscene.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features of the voxels of one stride."""

    features: Tensor
    """(M,C), in the row order of `maps`."""
    stride: int
    maps: CoordinateManager

    def __post_init__(self) -> None:
        wanted = len(self.maps.level(self.stride))
        if self.features.ndim != 2 or len(self.features) != wanted:
            raise InvalidInput.at("features", f"shape {list(self.features.shape)}, needs [{wanted}, any]")

    @classmethod
    def of(
        cls,
        features_NC: Tensor,
        coordinates_N4: Tensor,
        engine: Engine,
        *,
        duplicates: Duplicates = "refuse",
        reach_voxels: int = DEFAULT_REACH_VOXELS,
    ) -> SparseTensor:
        """A tensor of stride 1 from rows in any order; `maps.row_of_N` says where each went."""
        if features_NC.ndim != 2:
            raise InvalidInput.at("features", f"shape {list(features_NC.shape)}, needs [N, C]")
        if features_NC.device != coordinates_N4.device:
            places = f"on {features_NC.device}, the coordinates on {coordinates_N4.device}"
            raise InvalidInput.at("features", places)
        engine.check(features_NC.dtype, features_NC.device)
        maps = CoordinateManager(coordinates_N4, engine, duplicates=duplicates, reach_voxels=reach_voxels)
        return cls(maps.arrange(features_NC), 1, maps)

    @property
    def coordinates(self) -> Tensor:
        """(M,4) int32: cloud, x, y, z in voxels of stride 1."""
        return self.maps.level(self.stride).coordinates_N4

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features of the same voxels."""
        return replace(self, features=features)

    def __add__(self, other: SparseTensor) -> SparseTensor:
        self.check_same_voxels(other)
        return self.with_features(self.features + other.features)

    def check_same_voxels(self, other: SparseTensor) -> None:
        """Refuse a tensor of other voxels, whose rows would mean something else."""
        if other.maps is not self.maps or other.stride != self.stride:
            raise InvalidInput.at("tensors", f"strides {self.stride} and {other.stride} of different voxels")

    def __len__(self) -> int:
        return len(self.features)
