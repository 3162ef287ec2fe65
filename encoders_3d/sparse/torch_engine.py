"""The reference engine: pure torch, on every device and in three precisions."""

# N input rows, M output rows, K offsets, P pairs, I input width, O output width

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from encoders_3d.sparse.engine import PairEngine
from encoders_3d.sparse.neighbours import KernelMap, Runs

DEFAULT_CHUNK_BYTES = 2 << 20
MIN_CHUNK_ROWS = 256
# One product over gathered neighbours pays for narrow inputs and many offsets, a product for each
# offset for the rest.
MAX_GATHERED_WIDTH = 128
MIN_GATHERED_OFFSETS = 27


class TorchEngine(PairEngine):
    """Gathers neighbours in chunks that fit the cache and multiplies them at once; never scatters."""

    name = "torch"
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16, torch.float64)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def __init__(self, *, note: str = "", chunk_bytes: int = DEFAULT_CHUNK_BYTES) -> None:
        self._note = note
        self._chunk_bytes = chunk_bytes

    @property
    def description(self) -> str:
        """The name, and why no other engine was taken where one was looked for."""
        return f"{self.name} ({self._note})" if self._note else self.name

    def find_pairs(self, keys_N: Tensor, keys_M: Tensor, runs: Runs) -> tuple[Tensor, Sequence[int]]:
        """Pairs by one binary search a run: what follows in the sorted keys are its other members."""
        # Past the last key no member is found, whatever is looked for.
        padded_keys = torch.cat([keys_N, keys_N.new_full((1,), torch.iinfo(keys_N.dtype).max)])
        found = [torch.empty(2, 0, dtype=torch.int32, device=keys_N.device)]
        for shift, length in zip(runs.shifts, runs.counts, strict=True):
            found += _run_pairs(padded_keys, keys_M + shift, length, runs)
        return torch.cat(found, dim=1), [pairs.shape[1] for pairs in found[1:]]

    def product(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O)."""
        if _gathered(weight_KIO.shape[0], weight_KIO.shape[1]):
            return self._gathered_product(features_NI, weight_KIO, kernel_map)
        total = _sums(features_NI, kernel_map.num_out, weight_KIO.shape[2])
        for offset in range(kernel_map.num_offsets):
            sources, targets = kernel_map.rows(offset)
            if not len(sources):
                continue
            targets = targets.long()
            part = total.index_select(0, targets)
            _add_product(part, features_NI.index_select(0, sources), weight_KIO[offset])
            total.index_copy_(0, targets, part)
        return total.to(features_NI.dtype)

    def weight_gradient(self, features_NI: Tensor, gradient_MO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient (K,I,O)."""
        num_offsets, width_in, width_out = kernel_map.num_offsets, features_NI.shape[1], gradient_MO.shape[1]
        total = _sums(features_NI, num_offsets * width_in, width_out)
        if _gathered(num_offsets, width_in):
            for gathered, part in self._chunks(features_NI, kernel_map, gradient_MO):
                _add_product(total, gathered.T, part)
        else:
            for offset in range(num_offsets):
                sources, targets = kernel_map.rows(offset)
                part = total[offset * width_in : (offset + 1) * width_in]
                _add_product(
                    part, features_NI.index_select(0, sources).T, gradient_MO.index_select(0, targets)
                )
        return total.view(num_offsets, width_in, width_out).to(features_NI.dtype)

    def _gathered_product(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        weight = weight_KIO.flatten(0, 1)
        out = features_NI.new_empty(kernel_map.num_out, weight_KIO.shape[2])
        for gathered, part in self._chunks(features_NI, kernel_map, out):
            torch.mm(gathered, weight, out=part)
        return out

    def _chunks(
        self, features_NI: Tensor, kernel_map: KernelMap, beside_MO: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunks of the neighbours' features side by side, and the rows of `beside` they are for."""
        padded = _padded(features_NI)
        row_bytes = features_NI.shape[1] * features_NI.element_size() * kernel_map.num_offsets
        step = max(MIN_CHUNK_ROWS, self._chunk_bytes // row_bytes)
        for rows, part in zip(
            torch.split(kernel_map.table_MK, step), torch.split(beside_MO, step), strict=True
        ):
            yield padded.index_select(0, rows.flatten()).view(len(rows), -1), part


def _run_pairs(padded_keys: Tensor, first_key_M: Tensor, length: int, runs: Runs) -> list[Tensor]:
    """Pairs of one run, one tensor for each slot."""
    place = torch.searchsorted(padded_keys, first_key_M)
    stride = runs.unit // runs.spacing
    found = []
    for step in range((length - 1) * stride + 1):
        hit = padded_keys.index_select(0, place) == first_key_M + step * runs.spacing
        if step % stride == 0:
            targets = hit.nonzero().squeeze(1)
            found.append(torch.stack([place.index_select(0, targets), targets]).to(torch.int32))
        # A member that is there stands before the next one.
        place += hit
    return found


def _gathered(num_offsets: int, width_in: int) -> bool:
    return num_offsets >= MIN_GATHERED_OFFSETS and width_in <= MAX_GATHERED_WIDTH


def _padded(features: Tensor) -> Tensor:
    """The features and a row of zeros, which stands for absent neighbours."""
    return torch.cat([features, features.new_zeros(1, features.shape[1])])


def _sums(like: Tensor, num_rows: int, width: int) -> Tensor:
    """Zeros to sum into; half precision is summed in float32."""
    dtype = torch.float32 if like.dtype is torch.bfloat16 else like.dtype
    return like.new_zeros(num_rows, width, dtype=dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place."""
    if total.dtype is left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
