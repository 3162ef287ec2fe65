"""The coordinates of a batch of clouds at every stride, and every kernel map between them."""

# N coordinates given, M distinct ones

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.keys import DEFAULT_REACH_VOXELS, KeyGrid
from encoders_3d.sparse.neighbours import Kernel, KernelMap, Level, Neighbours
from xscene.errors import InvalidInput

Duplicates: TypeAlias = Literal["refuse", "first", "mean"]


class CoordinateManager:
    """Owns the levels and the kernel maps of one batch of clouds; rows are in key order at every stride.

    Duplicates are refused, or one row stands for them: `first` keeps the features given first, `mean`
    averages them.
    """

    def __init__(
        self,
        coordinates_N4: Tensor,
        engine: Engine,
        *,
        duplicates: Duplicates = "refuse",
        reach_voxels: int = DEFAULT_REACH_VOXELS,
    ) -> None:
        _check(coordinates_N4)
        self.engine = engine
        self.duplicates: Duplicates = duplicates
        grid = KeyGrid.around(coordinates_N4, reach_voxels)
        keys, self.order_N = torch.sort(grid.pack(coordinates_N4), stable=True)
        distinct, row_N, self.count_M = torch.unique_consecutive(
            keys, return_inverse=True, return_counts=True
        )
        if duplicates == "refuse" and len(distinct) < len(keys):
            extra = len(keys) - len(distinct)
            raise InvalidInput.at("coordinates", f"{extra} of {len(keys)} rows repeat another row's voxel")
        self._row_N = row_N
        self.num_clouds = int(coordinates_N4[:, 0].max()) + 1
        self._levels = {1: Level(distinct, 1, grid)}
        self._neighbours: dict[tuple[int, int, Kernel], Neighbours] = {}
        self._refuse_gaps()

    @property
    def row_of_N(self) -> Tensor:
        """(N,) int64: the row that stands for each coordinate given."""
        rows = torch.empty_like(self.order_N)
        rows[self.order_N] = self._row_N
        return rows

    def arrange(self, features_NC: Tensor) -> Tensor:
        """Features (M,C) in the order of the rows, by the rule for duplicates."""
        if len(features_NC) != len(self.order_N):
            raise InvalidInput.at("features", f"{len(features_NC)} rows for {len(self.order_N)} coordinates")
        if len(self.count_M) == len(self.order_N):
            return features_NC.index_select(0, self.order_N)
        if self.duplicates == "first":
            starts = torch.cumsum(self.count_M, 0) - self.count_M
            return features_NC.index_select(0, self.order_N[starts])
        sums = torch.segment_reduce(features_NC[self.order_N], "sum", lengths=self.count_M, axis=0)
        means: Tensor = sums / self.count_M[:, None]
        return means

    def level(self, stride: int) -> Level:
        """The voxels of a stride that exists."""
        if stride not in self._levels:
            known = ", ".join(str(known) for known in sorted(self._levels))
            raise InvalidInput.at("stride", f"{stride} has no coordinates; known strides: {known}")
        return self._levels[stride]

    def coarser(self, stride: int, factor: int) -> Level:
        """The voxels of `stride * factor`, made where they are new: floor(c / s) * s of each coordinate."""
        wanted = stride * factor
        if wanted not in self._levels:
            fine = self.level(stride)
            if wanted > fine.grid.reach_voxels:
                raise InvalidInput.at("stride", f"{wanted}, the limit is {fine.grid.reach_voxels} voxels")
            # Neighbours along z share a voxel: dropping repeats first leaves less to sort.
            keys = torch.unique_consecutive(fine.grid.floor(fine.keys, wanted))
            self._levels[wanted] = Level(torch.unique(keys), wanted, fine.grid)
        return self._levels[wanted]

    def kernel_map(self, stride_in: int, stride_out: int, kernel: Kernel) -> KernelMap:
        """The map between two strides that exist, kept; to a finer stride, the coarsening map transposed."""
        if stride_out < stride_in:
            return self.kernel_map(stride_out, stride_in, kernel).swapped
        name = (stride_in, stride_out, kernel)
        if name not in self._neighbours:
            source, target = self.level(stride_in), self.level(stride_out)
            self._neighbours[name] = Neighbours(source, target, kernel, self.engine.find_pairs)
        return KernelMap(self._neighbours[name])

    def cloud_sizes(self, stride: int) -> list[int]:
        """Rows of each cloud, which lie side by side."""
        return self._sizes(self.level(stride), self.num_clouds)

    def _sizes(self, level: Level, num_clouds: int) -> list[int]:
        starts = level.grid.cloud_starts(num_clouds, level.keys.device)
        return [int(size) for size in torch.searchsorted(level.keys, starts).diff().tolist()]

    def _refuse_gaps(self) -> None:
        finest = self._levels[1]
        # Of one cloud more than there are rows some are empty: no need to look up to a wrong index.
        for cloud, size in enumerate(self._sizes(finest, min(self.num_clouds, len(finest) + 1))):
            if not size:
                raise InvalidInput.at("coordinates", f"cloud {cloud} of {self.num_clouds} has no points")


def _check(coordinates_N4: Tensor) -> None:
    if coordinates_N4.ndim != 2 or coordinates_N4.shape[1] != 4:
        raise InvalidInput.at(
            "coordinates", f"shape {list(coordinates_N4.shape)}, needs [N, 4]: cloud, x, y, z"
        )
    if coordinates_N4.dtype not in (torch.int32, torch.int64):
        raise InvalidInput.at("coordinates", f"dtype {coordinates_N4.dtype}, needs int32 or int64")
    if not len(coordinates_N4):
        raise InvalidInput.at("coordinates", "is empty, at least one point is needed")
    if int(coordinates_N4[:, 0].min()) < 0:
        raise InvalidInput.at("coordinates", f"cloud {int(coordinates_N4[:, 0].min())}, needs 0 or above")
