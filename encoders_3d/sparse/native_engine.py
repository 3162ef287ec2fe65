"""The native engine: float32 on the CPU, forward and backward, with the processor's widest vectors."""

# N input rows, M output rows, K offsets, P pairs, I input width, O output width

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from encoders_3d.sparse import native_library
from encoders_3d.sparse.engine import PairEngine
from encoders_3d.sparse.neighbours import KernelMap, Runs
from xscene.errors import InvalidInput, Unsupported

# By the number the library gives them; lanes of float32 in a vector.
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
LANES = (4, 8, 16)
ROWS_PER_SEARCH = 4096

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Product(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("features", "weight", "pairs", "ranges", "out")] + [
        (name, _NUMBER) for name in ("num_pairs", "num_offsets", "depth", "width", "num_out", "num_threads")
    ]


class _Gradient(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("features", "gradient", "pairs", "ranges", "out")] + [
        (name, _NUMBER) for name in ("num_pairs", "num_offsets", "depth", "width", "num_threads")
    ]


class _Search(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("in_keys", "out_keys", "shifts", "counts")] + [
        (name, _NUMBER) for name in ("num_in", "num_out", "num_runs", "unit", "rows_per_block", "num_threads")
    ]


class NativeEngine(PairEngine):
    """Output blocks in cache, sums in registers, one thread an output row: the same bytes for any threads."""

    name = "native"
    dtypes = (torch.float32,)
    devices = ("cpu",)

    def __init__(
        self,
        *,
        instruction_set: str = "auto",
        cache_dir: Path = native_library.DEFAULT_CACHE_DIR,
    ) -> None:
        self._library = native_library.load(cache_dir)
        self._set = _chosen(instruction_set, self._library.xscene_instruction_set())

    @property
    def instruction_set(self) -> str:
        """The vectors in use."""
        return INSTRUCTION_SETS[self._set]

    @property
    def description(self) -> str:
        """The name and the instruction set."""
        return f"{self.name} ({self.instruction_set})"

    def find_pairs(self, keys_N: Tensor, keys_M: Tensor, runs: Runs) -> tuple[Tensor, Sequence[int]]:
        """Pairs by one merge a run, counted first and then written to their places."""
        shifts, lengths = torch.tensor(runs.shifts), torch.tensor(runs.counts)
        num_slots = sum(runs.counts)
        search = _Search(
            *(tensor.data_ptr() for tensor in (keys_N, keys_M, shifts, lengths)),
            *(
                len(keys_N),
                len(keys_M),
                len(runs.shifts),
                runs.unit,
                ROWS_PER_SEARCH,
                torch.get_num_threads(),
            ),
        )
        num_blocks = -(-len(keys_M) // ROWS_PER_SEARCH)
        found = torch.zeros(num_blocks, num_slots, dtype=torch.int64)
        self._library.xscene_count_pairs(ctypes.byref(search), num_slots, found.data_ptr())
        counts = found.sum(0)
        # Slot after slot, and inside each the blocks in order, so that it is sorted by output row.
        starts = found.T.flatten().cumsum(0).view(num_slots, num_blocks).T - found
        pairs = torch.empty(2, int(counts.sum()), dtype=torch.int32)
        starts = starts.contiguous()
        self._library.xscene_fill_pairs(
            ctypes.byref(search), num_slots, starts.data_ptr(), pairs.shape[1], pairs.data_ptr()
        )
        return pairs, counts.tolist()

    def product(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O)."""
        features, weight = features_NI.contiguous(), self._widened(weight_KIO)
        pairs, ranges = kernel_map.neighbours.pairs_2P, kernel_map.ranges_K3
        num_offsets, depth, width = weight.shape
        out = features.new_empty(kernel_map.num_out, width)
        call = _Product(
            *(tensor.data_ptr() for tensor in (features, weight, pairs, ranges, out)),
            *(pairs.shape[1], num_offsets, depth, width, len(out), torch.get_num_threads()),
        )
        self._library.xscene_product(ctypes.byref(call), self._set)
        return self._narrowed(out, weight_KIO.shape[-1])

    def weight_gradient(self, features_NI: Tensor, gradient_MO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient (K,I,O)."""
        features, gradient = features_NI.contiguous(), self._widened(gradient_MO)
        pairs, ranges = kernel_map.neighbours.pairs_2P, kernel_map.ranges_K3
        depth, width = features.shape[1], gradient.shape[1]
        out = features.new_empty(kernel_map.num_offsets, depth, width)
        call = _Gradient(
            *(tensor.data_ptr() for tensor in (features, gradient, pairs, ranges, out)),
            *(pairs.shape[1], kernel_map.num_offsets, depth, width, torch.get_num_threads()),
        )
        self._library.xscene_weight_gradient(ctypes.byref(call), self._set)
        return self._narrowed(out, gradient_MO.shape[-1])

    def _widened(self, tensor: Tensor) -> Tensor:
        """The tensor with zeros up to a whole number of vectors in its last dimension."""
        missing = -tensor.shape[-1] % LANES[self._set]
        return (functional.pad(tensor, (0, missing)) if missing else tensor).contiguous()

    def _narrowed(self, tensor: Tensor, width: int) -> Tensor:
        if tensor.shape[-1] == width:
            return tensor
        # Of a single row the narrowed part is contiguous as it lies, a view that nothing may change in place.
        return tensor[..., :width].clone(memory_format=torch.contiguous_format)


def _chosen(instruction_set: str, best: int) -> int:
    """The number of an instruction set; refuses one that this processor does not have."""
    if instruction_set == "auto":
        return best
    if instruction_set not in INSTRUCTION_SETS:
        known = ", ".join(("auto", *INSTRUCTION_SETS))
        raise InvalidInput.at("instruction_set", f"{instruction_set!r} is none of {known}")
    if INSTRUCTION_SETS.index(instruction_set) > best:
        raise Unsupported(f"this processor has {INSTRUCTION_SETS[best]}, not {instruction_set}")
    return INSTRUCTION_SETS.index(instruction_set)
