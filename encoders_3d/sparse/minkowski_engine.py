"""MinkowskiEngine as an engine; the one module that imports it."""

# N input rows, M output rows, K offsets, I input width, O output width

from __future__ import annotations

import collections
import collections.abc
import copy
import warnings
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from encoders_3d.sparse.keys import KeyGrid
from encoders_3d.sparse.layers import Convolution, MinkowskiLinear, MinkowskiReLU, SideBySide
from encoders_3d.sparse.neighbours import KernelMap, Level
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.pooling import GlobalPooling, Pooling
from encoders_3d.sparse.torch_engine import TorchEngine
from xscene.errors import ExtraMissing, Unsupported


def minkowski_module() -> ModuleType:
    """MinkowskiEngine itself; one sentence where it is not installed."""
    # Its code asks `collections` for what Python keeps in `collections.abc`.
    if not hasattr(collections, "Sequence"):
        collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            # It warns of the build for the CPU, which is the one asked for.
            warnings.simplefilter("ignore", UserWarning)
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
        import MinkowskiEngineBackend._C

        self._mode: Any = MinkowskiEngineBackend._C.ConvolutionMode.DEFAULT
        self._scopes: WeakKeyDictionary[KeyGrid, _Scope] = WeakKeyDictionary()

    @property
    def description(self) -> str:
        """The name and the version."""
        return f"{self.name} ({self._module.__version__})"

    def conv(self, features_NI: Tensor, weight_KIO: Tensor, kernel_map: KernelMap) -> Tensor:
        """Features (M,O), differentiable by MinkowskiEngine's own backward."""
        self.check_operands(features_NI, weight_KIO, kernel_map)
        _check_deterministic(weight_KIO)
        neighbours = kernel_map.neighbours
        scope = self._scope(neighbours.source.grid)
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
            self._mode,
            scope.key(source),
            scope.key(target),
            scope.manager,
        )
        return result

    def _scope(self, grid: KeyGrid) -> _Scope:
        if grid not in self._scopes:
            self._scopes[grid] = _Scope(self._module)
        return self._scopes[grid]


def _check_deterministic(weight_KIO: Tensor) -> None:
    """Refuse training, or warn, where torch was asked for deterministic algorithms alone."""
    trained = torch.is_grad_enabled() and weight_KIO.requires_grad
    if not trained or not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "engine minkowski sums the gradients of weights in another order in every run; "
        "engines torch and native are deterministic"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise Unsupported(message)
    warnings.warn(message, stacklevel=2)


def new_manager(module: Any) -> Any:
    """A manager of coordinates; left to itself it has the whole process compute on all cores."""
    return module.CoordinateManager(D=3, num_threads=torch.get_num_threads())


def twin(network: nn.Module) -> nn.Module:
    """The same network out of MinkowskiEngine's own layers, with the same tensors under the same keys."""
    module = minkowski_module()
    copied = _twin(copy.deepcopy(network), module)
    for dtype in {tensor.dtype for tensor in network.parameters()}:
        copied.to(dtype)
    copied.load_state_dict(network.state_dict(), strict=True)
    return copied.train(network.training)


def _twin(layer: nn.Module, module: Any) -> nn.Module:
    name = type(layer).__name__
    if isinstance(layer, SideBySide):
        return _ModuleOf(module.cat)
    if isinstance(layer, Convolution | Pooling):
        geometry = {"kernel_size": layer.offsets.size, "dilation": layer.offsets.dilation}
        arguments = {**geometry, "stride": layer.stride, "dimension": 3}
        if isinstance(layer, Pooling):
            return _made(module, name, **arguments)
        widths = (layer.in_channels, layer.out_channels)
        return _made(module, name, *widths, bias=layer.bias is not None, **arguments)
    if isinstance(layer, MinkowskiBatchNorm):
        return _made(module, name, layer.bn.num_features, eps=layer.bn.eps, momentum=layer.bn.momentum)
    if isinstance(layer, MinkowskiLinear):
        linear = layer.linear
        return _made(module, name, linear.in_features, linear.out_features, bias=linear.bias is not None)
    if isinstance(layer, MinkowskiReLU):
        return _made(module, name, inplace=layer.inplace)
    if isinstance(layer, GlobalPooling):
        return _made(module, name)
    for key, child in layer.named_children():
        setattr(layer, key, _twin(child, module))
    return layer


def _made(module: Any, name: str, *arguments: Any, **named: Any) -> nn.Module:
    layer: nn.Module = getattr(module, name)(*arguments, **named)
    return layer


class _ModuleOf(nn.Module):
    """A function of MinkowskiEngine's as a layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Any) -> Any:
        """What the function gives."""
        return self._function(*tensors)


class _Scope:
    """MinkowskiEngine's manager of one batch of clouds, with our levels in it, row for row."""

    def __init__(self, module: Any) -> None:
        self.manager: Any = new_manager(module)
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
