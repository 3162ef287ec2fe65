"""Networks have the sizes and keys they are known by, on every engine alike; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from encoders_3d.sparse.layers import (
    MinkowskiConvolution,
    MinkowskiConvolutionTranspose,
    MinkowskiDropout,
    MinkowskiReLU,
    SideBySide,
)
from encoders_3d.sparse.pooling import MinkowskiAvgPooling, MinkowskiMaxPooling, MinkowskiSumPooling
from encoders_3d.sparse.scene_resnet import NARROW, RESNET34, SceneResNet
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from encoders_3d.sparse.unet import DECODER_WIDTHS, MinkUNet, unet_config
from tests.golden.sparse_cases import clouds, of_voxels, relative
from tests.unit.sparse_reference import ENGINES, engine_of, floored, voxels
from xscene.errors import InvalidInput, NotFound


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return make()


def test_the_scene_resnet34_has_its_parameters() -> None:
    assert size(on_meta(lambda: SceneResNet(RESNET34))) == 70_554_816


def test_the_narrow_scene_resnet_has_about_a_million_parameters_and_256_outputs() -> None:
    network = SceneResNet(NARROW)
    assert size(network) == 1_002_160
    x = SparseTensor.of(torch.rand(90, 3), clouds(), TorchEngine())
    assert network(x).shape == (2, 256)


@pytest.mark.parametrize(("variant", "trunk"), [("18A", 15_491_232), ("34C", 37_854_112)])
def test_the_trunk_of_a_unet_has_its_parameters(variant: str, trunk: int) -> None:
    network = on_meta(lambda: MinkUNet(3, 20, unet_config(variant)))
    assert size(network) - size(network.get_submodule("final")) == trunk


def test_the_34c_has_the_keys_of_its_checkpoints() -> None:
    network = on_meta(lambda: MinkUNet(3, 20, unet_config("34C")))
    keys = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert len(keys) == 374
    assert size(network) == 37_856_052
    assert keys["conv0p1s1.kernel"] == (125, 3, 32)
    assert keys["bn0.bn.running_mean"] == (32,)
    assert keys["conv1p1s2.kernel"] == (8, 32, 32)
    assert keys["block2.0.downsample.0.kernel"] == (32, 64)
    assert keys["block2.0.downsample.1.bn.weight"] == (64,)
    assert keys["block4.5.conv2.kernel"] == (27, 256, 256)
    assert keys["block4.5.norm2.bn.bias"] == (256,)
    assert keys["convtr4p16s2.kernel"] == (8, 256, 256)
    assert keys["bntr7.bn.weight"] == (96,)
    assert keys["block8.0.downsample.0.kernel"] == (128, 96)
    assert keys["final.kernel"] == (96, 20)
    assert keys["final.bias"] == (1, 20)


@pytest.mark.parametrize("variant", DECODER_WIDTHS)
def test_every_variant_ends_in_its_trunks_width(variant: str) -> None:
    network = on_meta(lambda: MinkUNet(3, 7, unet_config(variant)))
    assert network.state_dict()["final.kernel"].shape == (DECODER_WIDTHS[variant][-1], 7)


def test_an_unknown_variant_is_refused_with_those_known() -> None:
    with pytest.raises(NotFound, match="UNet '18C' is not known; known: 14A, 14B"):
        unet_config("18C")


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_unet_gives_the_same_on_every_engine(engine: str) -> None:
    torch.manual_seed(0)
    network = MinkUNet(3, 4, unet_config("14A")).eval()
    coordinates = clouds(300, extent=6)
    features = of_voxels(coordinates, 3, salt=1).float()
    with torch.no_grad():
        native, wanted = (
            network(SparseTensor.of(features, coordinates, one)) for one in (engine_of(engine), TorchEngine())
        )
    assert torch.equal(native.coordinates, wanted.coordinates)
    assert relative(native.features, wanted.features) < 1e-5


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(
    ("layer", "reduce"),
    [
        (MinkowskiSumPooling, lambda rows: rows.sum(0)),
        (MinkowskiAvgPooling, lambda rows: rows.mean(0)),
        (MinkowskiMaxPooling, lambda rows: rows.max(0).values),
    ],
)
def test_pooling_takes_the_whole_voxel(
    layer: type[nn.Module], reduce: Callable[[torch.Tensor], torch.Tensor], stride: int
) -> None:
    coordinates = clouds(200)
    x = SparseTensor.of(of_voxels(coordinates, 3, salt=1), coordinates, TorchEngine())
    pooled = layer(kernel_size=stride, stride=stride)(x)
    members: dict[tuple[int, ...], list[int]] = {}
    for row, voxel in enumerate(voxels(x.coordinates)):
        members.setdefault(floored(voxel, stride), []).append(row)
    assert set(members) == set(voxels(pooled.coordinates))
    for row, voxel in enumerate(voxels(pooled.coordinates)):
        assert torch.allclose(pooled.features[row], reduce(x.features[members[voxel]]), atol=1e-14)


def test_the_maximum_of_a_full_grid_is_the_dense_one_infinities_and_all() -> None:
    side = 4
    grid = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), *[torch.arange(side)] * 3)
    features = of_voxels(grid, 2, salt=1)
    features[: side**3 // 2] = -torch.inf
    features[-1] = torch.nan
    pooled = MinkowskiMaxPooling(kernel_size=2, stride=2)(SparseTensor.of(features, grid, TorchEngine()))
    dense = features.view(side, side, side, 2).permute(3, 0, 1, 2)
    wanted = functional.max_pool3d(dense, 2).flatten(1).T
    assert int(wanted.isneginf().sum()) == 8
    assert torch.allclose(pooled.features, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layer", [MinkowskiSumPooling, MinkowskiAvgPooling, MinkowskiMaxPooling])
def test_the_gradient_of_pooling_is_that_of_finite_differences(layer: type[nn.Module]) -> None:
    coordinates = clouds(14, extent=2)
    pool = layer(kernel_size=3, stride=2)

    def run(features: torch.Tensor) -> torch.Tensor:
        pooled: SparseTensor = pool(SparseTensor.of(features, coordinates, TorchEngine()))
        return pooled.features

    assert torch.autograd.gradcheck(run, of_voxels(coordinates, 2, salt=1).requires_grad_())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinkowskiConvolution(0, 3, 3), "in_channels: 0, at least 1 is needed"),
        (lambda: MinkowskiConvolution(3, 3, 0), "kernel_size: 0, at least 1 is needed"),
        (lambda: MinkowskiConvolution(3, 3, 3, stride=0), "stride: 0, at least 1 is needed"),
        (lambda: MinkowskiConvolution(3, 3, 3, dilation=0), "dilation: 0, at least 1 is needed"),
        (lambda: MinkowskiConvolution(3, 3, 3, dimension=2), "dimension: 2, needs 3"),
        (lambda: MinkowskiAvgPooling(2, 2, dimension=4), "dimension: 4, needs 3"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_by_name(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_features_of_another_width_are_refused(kernel_size: int) -> None:
    x = SparseTensor.of(torch.zeros(5, 4), clouds(5), TorchEngine())
    with pytest.raises(InvalidInput, match="features: 4 channels, needs 3"):
        MinkowskiConvolution(3, 2, kernel_size)(x)


def test_going_up_needs_voxels_that_were_there_before() -> None:
    x = SparseTensor.of(torch.zeros(5, 3), clouds(5), TorchEngine())
    with pytest.raises(InvalidInput, match="stride: 2 does not divide the input's stride 1"):
        MinkowskiConvolutionTranspose(3, 3, kernel_size=2, stride=2)(x)


def test_pointwise_layers_keep_the_voxels() -> None:
    x = SparseTensor.of(torch.randn(9, 3), clouds(9), TorchEngine())
    assert torch.equal(MinkowskiReLU()(x).features, x.features.clamp(min=0))
    assert torch.equal(MinkowskiDropout().eval()(x).features, x.features)
    assert torch.equal(SideBySide()(x, x).features, torch.cat([x.features, x.features], dim=1))
