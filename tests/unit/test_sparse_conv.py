"""Convolution equals a loop over pairs and a dense one, is deterministic, and minds nothing but its cloud."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.layers import MinkowskiConvolution, MinkowskiConvolutionTranspose, MinkowskiReLU
from encoders_3d.sparse.scene_resnet import NARROW, SceneResNet
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import clouds, of_voxels, relative
from tests.unit.sparse_reference import ENGINES, Voxel, convolved, engine_of, floored, meetings, voxels

GEOMETRIES = [
    (3, 1, 1),
    (5, 1, 1),
    (2, 2, 1),
    (3, 2, 1),
    (1, 2, 1),
    (3, 1, 2),
    (3, 3, 1),
    (2, 1, 1),
    (4, 2, 1),
]
COORDINATE = st.integers(-6, 6)
CLOUDS = st.sets(st.tuples(st.just(0), COORDINATE, COORDINATE, COORDINATE), min_size=1, max_size=40)


def tensor_of(coordinates: Tensor, width: int, engine: Engine, dtype: torch.dtype) -> SparseTensor:
    return SparseTensor.of(of_voxels(coordinates, width, salt=1).to(dtype), coordinates, engine)


def slow(x: SparseTensor, out: SparseTensor, layer: MinkowskiConvolution) -> Tensor:
    kernel = layer.offsets
    pairs = meetings(voxels(x.coordinates), voxels(out.coordinates), kernel.size, x.stride * kernel.dilation)
    return convolved(x.features.double(), layer.kernel.double(), pairs, len(out))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_convolution_is_the_sum_over_pairs(engine: str, geometry: tuple[int, int, int]) -> None:
    layer = MinkowskiConvolution(3, 18, *geometry)
    x = tensor_of(clouds(60), 3, engine_of(engine), torch.float32)
    out = layer(x)
    assert set(voxels(out.coordinates)) == {floored(v, geometry[1]) for v in voxels(x.coordinates)}
    assert relative(out.features, slow(x, out, layer)) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_wide_layers_fill_whole_tiles_and_their_rests(engine: str) -> None:
    layer = MinkowskiConvolution(150, 83, kernel_size=3)
    x = tensor_of(clouds(70, extent=2), 150, engine_of(engine), torch.float32)
    out = layer(x)
    assert relative(out.features, slow(x, out, layer)) < 1e-6


@settings(max_examples=40, deadline=None)
@given(cloud=CLOUDS, geometry=st.sampled_from(GEOMETRIES), engine=st.sampled_from(("torch", "baseline")))
def test_any_cloud_is_convolved_as_by_the_loop(
    cloud: set[Voxel], geometry: tuple[int, int, int], engine: str
) -> None:
    layer = MinkowskiConvolution(2, 3, *geometry)
    x = tensor_of(torch.tensor(list(cloud)), 2, engine_of(engine), torch.float32)
    out = layer(x)
    assert (out.features - slow(x, out, layer)).abs().max() < 1e-5


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_full_grid_is_a_dense_convolution(kernel_size: int) -> None:
    side = 6
    grid = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), *[torch.arange(side)] * 3)
    layer = MinkowskiConvolution(3, 4, kernel_size=kernel_size).double()
    x = tensor_of(grid, 3, TorchEngine(), torch.float64)
    # The first axis is fastest in the kernel: k = ix + K * iy + K * K * iz.
    size = (kernel_size,) * 3
    weight = layer.kernel.view(*size, 3, 4).permute(4, 3, 2, 1, 0)
    dense = x.features.view(side, side, side, 3).permute(3, 0, 1, 2)[None]
    wanted = functional.conv3d(dense, weight, padding=kernel_size // 2)[0].flatten(1).T
    assert relative(layer(x).features, wanted) < 1e-14


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(engine: str, kernel_size: int) -> None:
    fine = tensor_of(clouds(60), 4, engine_of(engine), torch.float32)
    down = MinkowskiConvolution(4, 5, kernel_size, stride=2)
    up = MinkowskiConvolutionTranspose(5, 4, kernel_size, stride=2)
    with torch.no_grad():
        up.kernel.copy_(down.kernel.transpose(1, 2))
        coarse = down(fine)
        there = (coarse.features * coarse.features).sum()
        back = (up(coarse).features * fine.features).sum()
    assert float(back) == pytest.approx(float(there), rel=1e-5)


@pytest.mark.parametrize("geometry", [(3, 1, 1), (2, 2, 1), (3, 3, 1)])
def test_gradients_are_those_of_finite_differences(geometry: tuple[int, int, int]) -> None:
    coordinates = clouds(12, extent=2)
    layer = MinkowskiConvolution(2, 3, *geometry).double()
    features = of_voxels(coordinates, 2, salt=1).requires_grad_()

    def run(features: Tensor, kernel: Tensor) -> Tensor:
        x = SparseTensor.of(features, coordinates, TorchEngine())
        stride_out = x.maps.coarser(1, geometry[1]).stride
        return x.maps.engine.conv(x.features, kernel, x.maps.kernel_map(1, stride_out, layer.offsets))

    assert torch.autograd.gradcheck(run, (features, layer.kernel))


def trained(engine: Engine, num_threads: int) -> list[Tensor]:
    """Output and gradients of two convolutions."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    layers = [
        MinkowskiConvolution(6, 40, kernel_size=3),
        MinkowskiConvolution(40, 8, kernel_size=2, stride=2),
    ]
    features = of_voxels(clouds(2000, extent=8), 6, salt=1).float().requires_grad_()
    x = SparseTensor.of(features, clouds(2000, extent=8), engine)
    out = layers[1](layers[0](x))
    out.features.square().sum().backward()
    torch.set_num_threads(before)
    return [out.features, features.grad, *(layer.kernel.grad for layer in layers)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_run_gives_the_same_bytes(engine: str) -> None:
    first, second = (trained(engine_of(engine), 2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_is_trained_to_the_same_bytes_on_request(engine: str) -> None:
    network = MinkUNet(3, 4, unet_config("14A"))
    coordinates = clouds(3000, extent=10)
    runs = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            network.zero_grad()
            features = of_voxels(coordinates, 3, salt=1).float().requires_grad_()
            out = network(SparseTensor.of(features, coordinates, engine_of(engine))).features
            out.square().sum().backward()
            runs.append([out, features.grad, *(parameter.grad for parameter in network.parameters())])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_the_native_engine_gives_the_same_bytes_with_any_number_of_threads(engine: str) -> None:
    results = [trained(engine_of(engine), num_threads) for num_threads in (1, 2, 3)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_torch_engine_differs_between_thread_counts_by_rounding_alone() -> None:
    one, two = (trained(TorchEngine(), num_threads) for num_threads in (1, 2))
    assert max(relative(a, b) for a, b in zip(one, two, strict=True)) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clouds_result_does_not_depend_on_the_batch(engine: str) -> None:
    network = SceneResNet(NARROW).eval()
    coordinates = clouds(600, extent=12)
    features = of_voxels(coordinates, 3, salt=1).float()
    with torch.no_grad():
        together = network(SparseTensor.of(features, coordinates, engine_of(engine)))
        for cloud in range(2):
            mine = coordinates[:, 0] == cloud
            alone = coordinates[mine] * torch.tensor([0, 1, 1, 1], dtype=torch.int32)
            (row,) = network(SparseTensor.of(features[mine], alone, engine_of(engine)))
            assert relative(together[cloud], row) < (1e-5 if engine == "torch" else 1e-30)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_single_point_is_a_cloud(engine: str) -> None:
    x = SparseTensor.of(torch.ones(1, 3), torch.tensor([[0, -7, 3, 0]]), engine_of(engine))
    layer = MinkowskiConvolution(3, 4, kernel_size=5)
    assert torch.allclose(layer(x).features, layer.kernel[62].sum(0)[None])
    assert SceneResNet(NARROW).eval()(x).shape == (1, 256)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_single_row_of_any_width_is_rectified_in_its_place(engine: str) -> None:
    x = SparseTensor.of(torch.ones(1, 3), torch.tensor([[0, -7, 3, 0]]), engine_of(engine))
    layer = MinkowskiConvolution(3, 5, kernel_size=3)
    MinkowskiReLU(inplace=True)(layer(x)).features.sum().backward()
    centre = layer.kernel[13]
    assert torch.equal(layer.kernel.grad[13], (centre.sum(0) > 0).float().expand(3, 5))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_order_of_the_rows_given_does_not_matter(engine: str) -> None:
    coordinates = clouds(80)
    order = torch.randperm(len(coordinates))
    layer = MinkowskiConvolution(3, 4, kernel_size=3)
    both = [
        layer(tensor_of(given, 3, engine_of(engine), torch.float32))
        for given in (coordinates, coordinates[order])
    ]
    assert torch.equal(both[0].features, both[1].features)
    assert torch.equal(both[0].coordinates[both[0].maps.row_of_N], coordinates)
