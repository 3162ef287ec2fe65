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
from xscene.errors import Unsupported


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
            wanted = f"{str(dtype).removeprefix('torch.')} on {device.type}"
            raise Unsupported(
                f"engine {self.name} offers {offered} on {', '.join(self.devices)}, not {wanted}"
            )

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
        self.check(features_NI.dtype, features_NI.device)
        return _PairConvolution.apply(features_NI, weight_KIO, kernel_map, self)  # type: ignore[no-any-return, no-untyped-call]

    @abstractmethod
    def product(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O)."""

    @abstractmethod
    def weight_gradient(self, features_NI: Tensor, gradient_MO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient (K,I,O): the sum of outer(in[n], gradient[m]) over the pairs of each offset."""


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
