"""Sparse convolution measured against MinkowskiEngine and against the machine's own matrix product."""

# N voxels, C channels

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from encoders_3d.sparse.blocks import stage
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.engines import select_engine
from encoders_3d.sparse.layers import Convolution, MinkowskiConvolution, MinkowskiReLU
from encoders_3d.sparse.minkowski_engine import minkowski_module, new_manager, twin
from encoders_3d.sparse.normalisation import MinkowskiBatchNorm
from encoders_3d.sparse.pooling import MinkowskiGlobalAvgPooling
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.unet import MinkUNet, unet_config
from xscene.errors import InvalidInput

SGEMM_SHAPE = (4096, 128, 128)
SGEMM_REPEATS = 10
PACKED_LIMIT = 1 << 20
WIDTHS = (32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the benchmark."""

    network: str
    num_voxels: int
    training: bool
    """Forward and backward, else forward alone."""


CASES = (
    Case(network="Enc14", num_voxels=20_000, training=False),
    Case(network="Enc14", num_voxels=80_000, training=False),
    Case(network="Enc14", num_voxels=200_000, training=False),
    Case(network="Enc14", num_voxels=200_000, training=True),
    Case(network="UNet34C", num_voxels=20_000, training=True),
    Case(network="UNet34C", num_voxels=80_000, training=False),
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One contender in one case."""

    cold_s: float
    """Fastest round with maps built anew."""
    warm_s: float
    """Fastest round with maps kept."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case on one machine, all contenders in the same rounds."""

    case: Case
    num_voxels: int
    num_threads: int
    num_rounds: int
    gflop: float
    """Multiplications and additions of the convolutions, over the pairs there are."""
    sgemm_gflops: float
    """The best rate of torch's dense product in the same rounds."""
    timings: Mapping[str, Timing]
    """By the engine's description; `minkowski` is its own layers at its best setting."""

    @property
    def limit_s(self) -> float:
        """What the products alone would take at the rate of the dense one."""
        return self.gflop / self.sgemm_gflops

    def ratios(self, contender: str, baseline: str) -> tuple[float, float]:
        """Cold and warm time over the baseline's."""
        mine, other = self.timings[contender], self.timings[baseline]
        return mine.cold_s / other.cold_s, mine.warm_s / other.warm_s


class Encoder14(nn.Module):
    """A stem of 5^3, four steps down with a residual block each, global pooling."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [MinkowskiConvolution(in_channels, WIDTHS[0], kernel_size=5)]
        layers += [MinkowskiBatchNorm(WIDTHS[0]), MinkowskiReLU()]
        width = WIDTHS[0]
        for out in WIDTHS:
            layers += [MinkowskiConvolution(width, width, kernel_size=2, stride=2), MinkowskiBatchNorm(width)]
            layers += [MinkowskiReLU(), stage(width, out, 1)]
            width = out
        self.layers = nn.Sequential(*layers, MinkowskiGlobalAvgPooling())

    def forward(self, x: SparseTensor) -> Tensor:
        """Vectors (B,256), one a cloud."""
        pooled: Tensor = self.layers(x)
        return pooled


def room_voxels(num_voxels: int, seed: int = 0) -> Tensor:
    """About this many voxels (N,4) of floor, walls, boxes and balls, at the resolution that gives them."""
    random = torch.Generator().manual_seed(seed)
    num_points = 12 * num_voxels
    floor = torch.rand(num_points // 4, 3, generator=random) * torch.tensor([1.0, 1.0, 0.0])
    parts = [floor]
    for axis in range(2):
        wall = torch.rand(num_points // 8, 3, generator=random) * torch.tensor([1.0, 1.0, 0.5])
        wall[:, axis] = 0.0
        parts.append(wall)
    for number in range(12):
        shape = torch.randn(num_points // 24, 3, generator=random)
        length = shape.norm(dim=1) if number % 2 else shape.abs().amax(1)
        centre = torch.rand(3, generator=random) * torch.tensor([0.8, 0.8, 0.2]) + 0.1
        radius = 0.03 + 0.07 * torch.rand(1, generator=random)
        parts.append(centre + radius * shape / length[:, None])
    points = torch.cat(parts)
    points += 0.0008 * torch.randn(points.shape, generator=random)
    low, high = 20.0, 2000.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        voxels = _distinct((points * middle).floor().long())
        low, high = (middle, high) if len(voxels) < num_voxels else (low, middle)
    return torch.cat([torch.zeros(len(voxels), 1, dtype=torch.int32), voxels], dim=1)


def _distinct(places: Tensor) -> Tensor:
    """Each place once, by x, then y, then z; as single numbers, which sort faster than rows."""
    x, y, z = (places + PACKED_LIMIT // 2).unbind(1)
    keys = torch.unique((x * PACKED_LIMIT + y) * PACKED_LIMIT + z)
    columns = (keys // PACKED_LIMIT**2, keys // PACKED_LIMIT % PACKED_LIMIT, keys % PACKED_LIMIT)
    return (torch.stack(columns, dim=1) - PACKED_LIMIT // 2).int()


def measure(
    case: Case, engines: Sequence[Engine], *, num_rounds: int, num_threads: int, minkowski: bool = True
) -> Measured:
    """Each contender cold and warm in every round, so that a noisy machine is noisy for all of them."""
    if num_rounds < 1:
        raise InvalidInput.at("num_rounds", f"{num_rounds}, at least 1 is needed")
    torch.manual_seed(0)
    coordinates = room_voxels(case.num_voxels)
    features = torch.rand(len(coordinates), 3)
    network = _network(case)
    with _threads(num_threads):
        runs: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
        if minkowski:
            runs["minkowski"] = _minkowski_runs(case, network, coordinates, features)
        for engine in engines:
            runs[engine.description] = _own_runs(case, network, coordinates, features, engine)
        gflop = _gflop(network, coordinates, features, engines[0]) * (3 if case.training else 1)
        seconds, rate = _rounds(runs, num_rounds)
    timings = {name: Timing(cold_s=min(cold), warm_s=min(warm)) for name, (cold, warm) in seconds.items()}
    return Measured(
        case=case,
        num_voxels=len(coordinates),
        num_threads=num_threads,
        num_rounds=num_rounds,
        gflop=gflop,
        sgemm_gflops=rate,
        timings=timings,
    )


def cold_run(case: Case, engine: str) -> Callable[[], None]:
    """One step with maps built anew, by an engine's name; `minkowski` is its own layers."""
    torch.manual_seed(0)
    network, coordinates = _network(case), room_voxels(case.num_voxels)
    features = torch.rand(len(coordinates), 3)
    if engine == "minkowski":
        return _minkowski_runs(case, network, coordinates, features)[0]
    return _own_runs(case, network, coordinates, features, select_engine(engine))[0]


def geometric_mean_ratios(rows: Sequence[Measured], contender: str, baseline: str) -> tuple[float, float]:
    """Cold and warm, over all rows."""
    cold, warm = zip(*(row.ratios(contender, baseline) for row in rows), strict=True)
    return statistics.geometric_mean(cold), statistics.geometric_mean(warm)


def _rounds(
    runs: Mapping[str, tuple[Callable[[], None], Callable[[], None]]], num_rounds: int
) -> tuple[dict[str, tuple[list[float], list[float]]], float]:
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    rates = []
    for both in runs.values():
        both[1]()
    for _ in range(num_rounds):
        for name, both in runs.items():
            rates.append(_sgemm_gflops())
            for run, times in zip(both, seconds[name], strict=True):
                times.append(_seconds(run))
    return seconds, max(rates)


def _seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _sgemm_gflops() -> float:
    rows, depth, width = SGEMM_SHAPE
    left, right = torch.randn(rows, depth), torch.randn(depth, width)

    def products() -> None:
        for _ in range(SGEMM_REPEATS):
            torch.mm(left, right)

    products()
    return 2e-9 * rows * depth * width * SGEMM_REPEATS / _seconds(products)


def _network(case: Case) -> nn.Module:
    networks: dict[str, Callable[[], nn.Module]] = {
        "Enc14": Encoder14,
        "UNet34C": lambda: MinkUNet(3, 20, unet_config("34C")),
    }
    if case.network not in networks:
        raise InvalidInput.at("network", f"{case.network!r} is none of {', '.join(networks)}")
    return networks[case.network]().train(case.training)


def _own_runs(
    case: Case, network: nn.Module, coordinates: Tensor, features: Tensor, engine: Engine
) -> tuple[Callable[[], None], Callable[[], None]]:
    kept = SparseTensor.of(features, coordinates, engine)

    def cold() -> None:
        _step(case, network, SparseTensor.of(features, coordinates, engine))

    def warm() -> None:
        _step(case, network, kept)

    return cold, warm


def _minkowski_runs(
    case: Case, network: nn.Module, coordinates: Tensor, features: Tensor
) -> tuple[Callable[[], None], Callable[[], None]]:
    module: Any = minkowski_module()
    other = twin(network)

    def fresh() -> Any:
        return module.SparseTensor(features, coordinates=coordinates, coordinate_manager=new_manager(module))

    kept = fresh()

    def cold() -> None:
        _step(case, other, fresh())

    def warm() -> None:
        again = {"coordinate_map_key": kept.coordinate_map_key, "coordinate_manager": kept.coordinate_manager}
        _step(case, other, module.SparseTensor(features, **again))

    return cold, warm


def _step(case: Case, network: nn.Module, x: Any) -> None:
    with torch.set_grad_enabled(case.training):
        out = network(x)
        if case.training:
            network.zero_grad()
            rows = out if isinstance(out, Tensor) else getattr(out, "features", None)
            (out.F if rows is None else rows).square().mean().backward()


def _gflop(network: nn.Module, coordinates: Tensor, features: Tensor, engine: Engine) -> float:
    """Of one forward pass."""
    counts: list[int] = []

    def count(layer: Any, given: tuple[SparseTensor], out: SparseTensor) -> None:
        (x,) = given
        weights = layer.in_channels * layer.out_channels
        pairs = len(x)
        if layer.kernel.ndim == 3:
            kernel_map = x.maps.kernel_map(x.stride, out.stride, layer.offsets)
            begin, end, _ = kernel_map.ranges_K3.T
            pairs = int((end - begin).sum())
        counts.append(2 * pairs * weights)

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, Convolution)]
    with torch.no_grad():
        network(SparseTensor.of(features, coordinates, engine))
    for hook in hooks:
        hook.remove()
    return 1e-9 * sum(counts)


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
