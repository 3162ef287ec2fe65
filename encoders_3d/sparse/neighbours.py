"""Kernel maps: which input row meets which output row under each offset of a kernel."""

# N input rows, M output rows, K offsets of a kernel, P pairs

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from encoders_3d.sparse.keys import KeyGrid
from xscene.errors import InvalidInput, LimitExceeded


@dataclass(frozen=True)
class Kernel:
    """A cube of offsets: odd sizes are centred, even sizes begin at 0; the first axis is fastest."""

    size: int
    dilation: int = 1
    whole_voxel: bool = False
    """Begin at 0 whatever the size: what pooling does whose size is its stride."""

    def __post_init__(self) -> None:
        for name in ("size", "dilation"):
            if getattr(self, name) < 1:
                raise InvalidInput.at(name, f"{getattr(self, name)}, at least 1 is needed")

    @property
    def centred(self) -> bool:
        """Whether offsets come in pairs of opposite sign."""
        return self.size % 2 == 1 and not self.whole_voxel

    @property
    def steps(self) -> range:
        """Offsets along one axis, in voxels of the input's stride times the dilation."""
        return range(-(self.size // 2), self.size // 2 + 1) if self.centred else range(self.size)


@dataclass(frozen=True, eq=False)
class Level:
    """The voxels of one stride, rows sorted by key."""

    keys: Tensor
    """(N,) int64, each once."""
    stride: int
    grid: KeyGrid

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def coordinates_N4(self) -> Tensor:
        """(N,4) int32: cloud, x, y, z, in voxels of stride 1."""
        return self.grid.unpack(self.keys)


@dataclass(frozen=True)
class Runs:
    """What to look for: runs of keys `unit` apart, the first `shifts[r]` past the key of an output."""

    shifts: tuple[int, ...]
    counts: tuple[int, ...]
    unit: int
    spacing: int
    """Keys of inputs in one column are multiples of this apart."""


Search: TypeAlias = Callable[[Tensor, Tensor, Runs], tuple[Tensor, Sequence[int]]]
"""From sorted keys (N,), (M,) and runs to pairs (2,P) int32, input row and output row, slot after slot
and each slot by output row, and the number of pairs in each slot."""


class Neighbours:
    """The pairs of one kernel between two levels; found at first use, shared by both directions."""

    def __init__(self, source: Level, target: Level, kernel: Kernel, search: Search) -> None:
        self.source = source
        self.target = target
        self.kernel = kernel
        self._search = search
        self._tables: dict[bool, Tensor] = {}
        # An output's key lies up to stride - 1 below its voxels: coarse keys need their margin too.
        reach = source.stride * kernel.dilation * max(abs(step) for step in kernel.steps) + target.stride
        if reach > source.grid.reach_voxels:
            raise LimitExceeded.of(
                "kernel", value=reach, limit=source.grid.reach_voxels, unit="voxels of reach"
            )

    @property
    def num_offsets(self) -> int:
        """K."""
        return self.kernel.size**3

    @property
    def centre(self) -> int | None:
        """The offset under which every row meets itself, if there is one."""
        same = self.source is self.target and self.kernel.centred
        return self.num_offsets // 2 if same else None

    @property
    def pairs_2P(self) -> Tensor:
        """(2,P) int32: rows of source and target, each offset's sorted by both."""
        return self._found[0]

    @property
    def ranges_K3(self) -> Tensor:
        """(K,3) int64 on the CPU: begin and end in the pairs, and 1 where source and target are swapped."""
        return self._found[1]

    def table_MK(self, *, transposed: bool) -> Tensor:
        """(M,K) int32: the input row under each offset, N where there is none."""
        if transposed not in self._tables:
            direction = KernelMap(self, transposed)
            shape = (direction.num_out, self.num_offsets)
            table = torch.full(shape, direction.num_in, dtype=torch.int32, device=self.pairs_2P.device)
            for offset in range(self.num_offsets):
                sources, targets = direction.rows(offset)
                table[:, offset].index_copy_(0, targets.long(), sources)
            self._tables[transposed] = table
        return self._tables[transposed]

    @cached_property
    def _found(self) -> tuple[Tensor, Tensor]:
        runs, slots = self._runs()
        pairs, counts = self._search(self.source.keys, self.target.keys, runs)
        ranges = torch.zeros(self.num_offsets, 3, dtype=torch.int64)
        begin = 0
        for slot, count in zip(slots, counts, strict=True):
            ranges[slot] = torch.tensor([begin, begin + count, 0])
            if self.centre is not None:
                ranges[self.num_offsets - 1 - slot] = torch.tensor([begin, begin + count, 1])
            begin += count
        if self.centre is not None:
            rows = torch.arange(len(self.source), dtype=torch.int32, device=pairs.device)
            pairs = torch.cat([pairs, rows.expand(2, -1)], dim=1)
            ranges[self.centre] = torch.tensor([begin, begin + len(rows), 0])
        return pairs, ranges

    def _runs(self) -> tuple[Runs, list[int]]:
        """Runs along z, and the offset of each of their slots; half of them where the rest are mirrored."""
        size, steps = self.kernel.size, self.kernel.steps
        unit = self.source.stride * self.kernel.dilation
        shifts: list[int] = []
        counts: list[int] = []
        slots: list[int] = []
        for column in range(size * size):
            dx, dy = steps[column % size], steps[column // size]
            mirrored = self.centre is not None and (dy, dx) < (0, 0)
            own_column = self.centre is not None and (dy, dx) == (0, 0)
            depths = range(size // 2 + 1, size) if own_column else range(size)
            if mirrored or not depths:
                continue
            shifts.append(self.source.grid.shift(dx * unit, dy * unit, steps[depths[0]] * unit))
            counts.append(len(depths))
            slots += [column + size * size * depth for depth in depths]
        return Runs(tuple(shifts), tuple(counts), unit, self.source.stride), slots


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Neighbours read in one direction: from source to target, or transposed."""

    neighbours: Neighbours
    transposed: bool = False

    @property
    def num_in(self) -> int:
        """N."""
        return len(self.neighbours.target if self.transposed else self.neighbours.source)

    @property
    def num_out(self) -> int:
        """M."""
        return len(self.neighbours.source if self.transposed else self.neighbours.target)

    @property
    def num_offsets(self) -> int:
        """K."""
        return self.neighbours.num_offsets

    @property
    def swapped(self) -> KernelMap:
        """The other direction, over the same pairs."""
        return KernelMap(self.neighbours, not self.transposed)

    @property
    def ranges_K3(self) -> Tensor:
        """As those of the neighbours, for this direction."""
        ranges = self.neighbours.ranges_K3
        return ranges ^ torch.tensor([0, 0, 1]) if self.transposed else ranges

    @property
    def table_MK(self) -> Tensor:
        """As that of the neighbours, for this direction."""
        return self.neighbours.table_MK(transposed=self.transposed)

    def rows(self, offset: int) -> tuple[Tensor, Tensor]:
        """Input rows and output rows under one offset, int32, each output row at most once."""
        begin, end, swap = self.neighbours.ranges_K3[offset].tolist()
        sources, targets = self.neighbours.pairs_2P[:, begin:end]
        return (targets, sources) if bool(swap) != self.transposed else (sources, targets)
