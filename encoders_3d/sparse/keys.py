"""Voxel coordinates as sortable integers, so that a neighbour is a key plus a constant."""

# N coordinates (cloud, x, y, z)

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xscene.errors import LimitExceeded

KEY_BITS = 62
LARGEST_COORDINATE = (1 << 31) - 1
DEFAULT_REACH_VOXELS = 1024


@dataclass(frozen=True, eq=False)
class KeyGrid:
    """The bits of a key: cloud, x, y, z, with z fastest, and a free margin around each axis."""

    low: tuple[int, int, int]
    """The coordinate whose bits are zero, of x, y and z."""
    bits: tuple[int, int, int]
    """Bits of x, y and z."""
    reach_voxels: int
    """How far past the coordinates a kernel may look, and a coarse voxel may begin."""

    @classmethod
    def around(cls, coordinates_N4: Tensor, reach_voxels: int) -> KeyGrid:
        """The grid that holds these coordinates; refuses extents whose keys would not fit."""
        low = coordinates_N4.amin(0).tolist()
        high = coordinates_N4.amax(0).tolist()
        farthest = max(abs(number) for number in (*low[1:], *high[1:])) + reach_voxels
        if farthest > LARGEST_COORDINATE:
            unit = "voxels from the origin, margin included"
            raise LimitExceeded.of("coordinates", value=farthest, limit=LARGEST_COORDINATE, unit=unit)
        extents = [top - bottom + 1 + 2 * reach_voxels for top, bottom in zip(high, low, strict=True)][1:]
        bits = tuple((extent - 1).bit_length() for extent in extents)
        needed = sum(bits) + int(high[0]).bit_length()
        if needed > KEY_BITS:
            spans = " x ".join(str(extent) for extent in extents)
            unit = f"bits for {high[0] + 1} clouds of {spans} voxels, margins included"
            raise LimitExceeded.of("coordinates", value=needed, limit=KEY_BITS, unit=unit)
        corner = tuple(int(bottom) - reach_voxels for bottom in low[1:])
        return cls((corner[0], corner[1], corner[2]), (bits[0], bits[1], bits[2]), reach_voxels)

    def pack(self, coordinates_N4: Tensor) -> Tensor:
        """Keys (N,) int64."""
        coordinates_N4 = coordinates_N4.to(torch.int64)
        keys = coordinates_N4[:, 0]
        for axis in range(3):
            keys = (keys << self.bits[axis]) + (coordinates_N4[:, axis + 1] - self.low[axis])
        return keys

    def unpack(self, keys: Tensor) -> Tensor:
        """Coordinates (N,4) int32."""
        columns = [field + low for field, low in zip(self._fields(keys), self.low, strict=True)]
        return torch.stack([keys >> sum(self.bits), *columns], dim=1).to(torch.int32)

    def shift(self, dx: int, dy: int, dz: int) -> int:
        """What to add to a key to move by this many voxels, each within the reach."""
        return (dx << (self.bits[1] + self.bits[2])) + (dy << self.bits[2]) + dz

    def floor(self, keys: Tensor, stride: int) -> Tensor:
        """Keys of the voxels of this stride that hold each key; true floor, for negatives too."""
        past = torch.zeros_like(keys)
        for axis, field in enumerate(self._fields(keys)):
            past = (past << self.bits[axis]) + torch.remainder(field + self.low[axis], stride)
        return keys - past

    def cloud_starts(self, num_clouds: int, device: torch.device) -> Tensor:
        """The least key of each cloud, and one past the last."""
        return torch.arange(num_clouds + 1, device=device) << sum(self.bits)

    def _fields(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The bits of x, y and z."""
        bx, by, bz = self.bits
        x = (keys >> (by + bz)) & ((1 << bx) - 1)
        y = (keys >> bz) & ((1 << by) - 1)
        return x, y, keys & ((1 << bz) - 1)
