"""What an engine is: the search for neighbours and the differentiable convolution over them."""

# N input rows, M output rows, K offsets, P pairs, I input width, O output width

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from encoders_3d.sparse.neighbours import KernelMap, Runs
from xscene.errors import InvalidInput, Unsupported


class Engine(ABC):
    """One way to compute sparse convolutions."""

    name: ClassVar[str]
    dtypes: ClassVar[tuple[torch.dtype, ...]]
    devices: ClassVar[tuple[str, ...]]

    @property
    def description(self) -> str:
        """The engine in use, for metadata and benchmarks."""
        return self.name

    def check(self, dtype: torch.dtype, device: torch.device) -> None:
        """Refuse by name what this engine does not offer."""
        if dtype not in self.dtypes or device.type not in self.devices:
            offered = ", ".join(str(known).removeprefix("torch.") for known in self.dtypes)
            wanted = _spelled(dtype, device.type)
            raise Unsupported(
                f"engine {self.name} offers {offered} on {', '.join(self.devices)}, not {wanted}"
            )

    def check_operands(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> None:
        """Refuse by name what cannot be convolved, whose rows would be read past their end."""
        self.check(features_NI.dtype, features_NI.device)
        check_type(features_NI, weight_KIO)
        if features_NI.ndim != 2 or len(features_NI) != kernel_map.num_in:
            shape = list(features_NI.shape)
            raise InvalidInput.at("features", f"shape {shape}, needs [{kernel_map.num_in}, any]")
        wanted = (kernel_map.num_offsets, features_NI.shape[1])
        if weight_KIO.ndim != 3 or weight_KIO.shape[:2] != wanted:
            shape = list(weight_KIO.shape)
            raise InvalidInput.at("weight", f"shape {shape}, needs [{wanted[0]}, {wanted[1]}, any]")

    @abstractmethod
    def find_pairs(self, keys_N: Tensor, keys_M: Tensor, runs: Runs) -> tuple[Tensor, Sequence[int]]:
        """Pairs (2,P) int32 of input row and output row, and the number of them in each slot."""

    @abstractmethod
    def conv(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O): out[m] is the sum of in[n] @ weight[k] over the pairs (n, m) of offset k."""


class PairEngine(Engine):
    """An engine that works on pairs of rows; its two products give forward and backward."""

    def conv(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O), differentiable once."""
        self.check_operands(features_NI, weight_KIO, kernel_map)
        return _PairConvolution.apply(features_NI, weight_KIO, kernel_map, self)  # type: ignore[no-any-return, no-untyped-call]

    @abstractmethod
    def product(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O)."""

    @abstractmethod
    def weight_gradient(self, features_NI: Tensor, gradient_MO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient (K,I,O): the sum of outer(in[n], gradient[m]) over the pairs of each offset."""


def check_type(features: Tensor, weight: Tensor) -> None:
    """Refuse features of another precision or device than the weights."""
    if (features.dtype, features.device) != (weight.dtype, weight.device):
        found, wanted = (_spelled(each.dtype, each.device) for each in (features, weight))
        raise InvalidInput.at("features", f"{found}, the weights are {wanted}")


def _spelled(dtype: torch.dtype, place: object) -> str:
    return f"{str(dtype).removeprefix('torch.')} on {place}"


class _PairConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap, engine: PairEngine
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.kernel_map, ctx.engine = kernel_map, engine
        return engine.product(features, weight, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        engine, kernel_map = ctx.engine, ctx.kernel_map
        to_features = to_weight = None
        if ctx.needs_input_grad[0]:
            to_features = engine.product(gradient, weight.transpose(1, 2), kernel_map.swapped)
        if ctx.needs_input_grad[1]:
            to_weight = engine.weight_gradient(features, gradient, kernel_map)
        return to_features, to_weight, None, None
