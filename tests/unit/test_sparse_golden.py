"""Layers and a whole UNet give what MinkowskiEngine gave, whose results are stored."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from encoders_3d.sparse import layers, normalisation, pooling
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import (
    CASES,
    IN,
    by_coordinates,
    clouds,
    fill,
    hashed,
    of_voxels,
    relative,
    results,
)
from tests.golden.write_minkowski import FILE, OUT_CHANNELS
from tests.unit.sparse_reference import ENGINES, engine_of

OURS = SimpleNamespace(**{**vars(layers), **vars(normalisation), **vars(pooling)})
FORWARD, TO_FEATURES, TO_WEIGHTS = 4e-7, 6e-7, 3e-6


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    return load_file(FILE)


def found(name: str, engine: Engine, dtype: torch.dtype) -> dict[str, Tensor]:
    coordinates = clouds()
    leaf = of_voxels(coordinates, IN, salt=7).to(dtype).requires_grad_()
    network = CASES[name].make(OURS).to(dtype)
    return results(network, SparseTensor.of(leaf, coordinates, engine), leaf)


def compared(mine: dict[str, Tensor], stored: dict[str, Tensor], name: str) -> dict[str, float]:
    """The relative difference of each result; coordinates must be equal."""
    prefix = f"{name}/"
    wanted = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
    assert set(mine) == set(wanted)
    coordinates, features = by_coordinates(mine["coordinates"], mine["features"])
    wanted_coordinates, wanted_features = by_coordinates(wanted["coordinates"], wanted["features"])
    assert torch.equal(coordinates, wanted_coordinates)
    differences = {"features": relative(features, wanted_features)}
    for key in set(mine) - {"coordinates", "features"}:
        differences[key] = relative(mine[key], wanted[key])
    return differences


@pytest.mark.parametrize("name", CASES)
def test_a_layer_in_float64_gives_what_minkowskiengine_gave(name: str, stored: dict[str, Tensor]) -> None:
    differences = compared(found(name, TorchEngine(), torch.float64), stored, name)
    assert max(differences.values()) < 1e-14, differences


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_a_layer_in_float32_keeps_to_the_tolerances(
    name: str, engine: str, stored: dict[str, Tensor]
) -> None:
    differences = compared(found(name, engine_of(engine), torch.float32), stored, name)
    assert differences.pop("features") <= FORWARD
    assert differences.pop("to_features") <= TO_FEATURES
    assert max(differences.values(), default=0.0) <= TO_WEIGHTS, differences


@pytest.mark.parametrize("name", ["conv_k3_s1", "conv_k2_s2", "transposed_k2_s2", "conv_k3_s2"])
def test_bfloat16_differs_by_its_own_rounding(name: str, stored: dict[str, Tensor]) -> None:
    mine = found(name, TorchEngine(), torch.bfloat16)
    assert mine["features"].dtype is torch.bfloat16
    differences = compared(mine, stored, name)
    assert max(differences.values()) < 2e-2, differences


@pytest.fixture(scope="module")
def unet() -> dict[str, Tensor]:
    coordinates = clouds(num_voxels=600, extent=9)
    leaf = of_voxels(coordinates, IN, salt=7).requires_grad_()
    network = fill(MinkUNet(IN, OUT_CHANNELS, unet_config("14A")).double())
    return results(network, SparseTensor.of(leaf, coordinates, TorchEngine()), leaf)


def test_a_whole_unet_gives_the_same_features(unet: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    order, features = by_coordinates(unet["coordinates"], unet["features"])
    wanted_order, wanted = by_coordinates(stored["unet/coordinates"], stored["unet/features"])
    assert torch.equal(order, wanted_order)
    assert relative(features, wanted) < 1e-14


def test_a_whole_unet_gives_the_same_gradients(unet: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    assert relative(unet["to_features"], stored["unet/to_features"]) < 2.5e-14
    names = [key.removeprefix("unet/along.") for key in stored if key.startswith("unet/along.")]
    assert len(names) == len([key for key in unet if key.startswith("to.")])
    for name in names:
        gradient = unet[f"to.{name}"].flatten()
        along, norm = stored[f"unet/along.{name}"].tolist()
        direction = hashed(torch.arange(len(gradient)), salt=5)
        assert float(gradient.norm()) == pytest.approx(norm, rel=2.5e-14), name
        assert float(gradient @ direction) == pytest.approx(along, abs=2.5e-14 * norm), name
