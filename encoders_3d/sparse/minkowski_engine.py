"""MinkowskiEngine as an engine; the one module that imports it."""

# N input rows, M output rows, K offsets, I input width, O output width

from __future__ import annotations

import collections
import collections.abc
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from encoders_3d.sparse.keys import KeyGrid
from encoders_3d.sparse.neighbours import KernelMap, Level
from encoders_3d.sparse.torch_engine import TorchEngine
from xscene.errors import ExtraMissing


def minkowski_module() -> ModuleType:
    """MinkowskiEngine itself; one sentence where it is not installed."""
    # Its code asks `collections` for what Python keeps in `collections.abc`.
    if not hasattr(collections, "Sequence"):
        collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    try:
        import MinkowskiEngine
    except ImportError:
        raise ExtraMissing.named("engine minkowski", "minkowski") from None
    module: ModuleType = MinkowskiEngine
    return module


class MinkowskiEngineAdapter(TorchEngine):
    """MinkowskiEngine's convolutions over our rows; pooling and search are those of the torch engine."""

    name = "minkowski"
    dtypes = (torch.float32, torch.float64)
    devices = ("cpu",)

    def __init__(self) -> None:
        super().__init__()
        self._module: Any = minkowski_module()
        self._scopes: WeakKeyDictionary[KeyGrid, _Scope] = WeakKeyDictionary()

    @property
    def description(self) -> str:
        """The name and the version."""
        return f"{self.name} ({self._module.__version__})"

    def conv(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O), differentiable by MinkowskiEngine's own backward."""
        self.check(features_NI.dtype, features_NI.device)
        neighbours = kernel_map.neighbours
        scope = self._scopes.setdefault(neighbours.source.grid, _Scope(self._module))
        levels = (neighbours.source, neighbours.target)
        source, target = reversed(levels) if kernel_map.transposed else levels
        stride = max(source.stride, target.stride) // min(source.stride, target.stride)
        generator = self._module.KernelGenerator(
            kernel_size=neighbours.kernel.size,
            stride=stride,
            dilation=neighbours.kernel.dilation,
            is_transpose=kernel_map.transposed,
            dimension=3,
        )
        names = ("MinkowskiConvolutionFunction", "MinkowskiConvolutionTransposeFunction")
        result: Tensor = getattr(self._module, names[kernel_map.transposed]).apply(
            features_NI,
            weight_KIO,
            generator,
            self._module.ConvolutionMode.DEFAULT,
            scope.key(source),
            scope.key(target),
            scope.manager,
        )
        return result


class _Scope:
    """MinkowskiEngine's manager of one batch of clouds, with our levels in it, row for row."""

    def __init__(self, module: Any) -> None:
        self.manager: Any = module.CoordinateManager(D=3)
        self._keys: dict[int, Any] = {}

    def key(self, level: Level) -> Any:
        """Its key of a level."""
        if level.stride not in self._keys:
            key, (_, inverse) = self.manager.insert_and_map(
                level.coordinates_N4, tensor_stride=[level.stride] * 3, string_id="xscene"
            )
            assert not len(inverse) or torch.equal(inverse, torch.arange(len(level)))
            self._keys[level.stride] = key
        return self._keys[level.stride]
