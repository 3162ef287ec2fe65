"""Sparse convolution written the slow way, and the engines that every test of it runs on."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from encoders_3d.sparse import native_library
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.native_engine import INSTRUCTION_SETS, NativeEngine
from encoders_3d.sparse.torch_engine import TorchEngine

ENGINES = ("torch", *INSTRUCTION_SETS)
Voxel = tuple[int, int, int, int]


def steps(size: int, centred: bool) -> list[int]:
    first = -(size // 2) if centred and size % 2 else 0
    return list(range(first, first + size))


def floored(voxel: Voxel, stride: int) -> Voxel:
    cloud, *place = voxel
    x, y, z = (value // stride * stride for value in place)
    return (cloud, x, y, z)


def meetings(
    sources: list[Voxel], targets: list[Voxel], size: int, unit: int, *, centred: bool = True
) -> list[list[tuple[int, int]]]:
    """For each offset, first axis fastest, the pairs of source row and target row."""
    rows = {voxel: row for row, voxel in enumerate(sources)}
    found = []
    for dz, dy, dx in itertools.product(steps(size, centred), repeat=3):
        pairs = []
        for row, (cloud, x, y, z) in enumerate(targets):
            source = rows.get((cloud, x + dx * unit, y + dy * unit, z + dz * unit))
            if source is not None:
                pairs.append((source, row))
        found.append(pairs)
    return found


def convolved(features: Tensor, weight: Tensor, pairs: list[list[tuple[int, int]]], num_out: int) -> Tensor:
    """out[target] += in[source] @ weight[offset], pair by pair."""
    out = [features.new_zeros(weight.shape[2]) for _ in range(num_out)]
    for offset, met in enumerate(pairs):
        for source, target in met:
            out[target] = out[target] + features[source] @ weight[offset]
    return torch.stack(out)


def voxels(coordinates: Tensor) -> list[Voxel]:
    return [(c, x, y, z) for c, x, y, z in coordinates.tolist()]


def engine_of(name: str) -> Engine:
    """`torch`, or `native` with an instruction set, or with the best that this processor has below it."""
    if name == "torch":
        return TorchEngine()
    if native_library.compiler() is None:
        pytest.skip("needs a C++ compiler")
    native_library.build()
    best = INSTRUCTION_SETS.index(NativeEngine().instruction_set)
    return NativeEngine(instruction_set=INSTRUCTION_SETS[min(best, INSTRUCTION_SETS.index(name))])
