"""MinkowskiEngine itself beside our engines: layers, the adapter, whole networks. Needs `make minkowski`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deploy.bench.sparse import CASES as BENCH_CASES
from deploy.bench.sparse import Case, Encoder14, geometric_mean_ratios, measure, room_voxels
from encoders_3d.sparse import layers, minkowski_engine, normalisation, pooling
from encoders_3d.sparse.engine import Engine
from encoders_3d.sparse.engines import select_engine
from encoders_3d.sparse.minkowski_engine import minkowski_module, new_manager, twin
from encoders_3d.sparse.neighbours import Kernel
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import CASES, IN, by_coordinates, clouds, fill, of_voxels, relative, results
from tests.golden.write_minkowski import FILE, main
from tests.unit.sparse_reference import ENGINES, engine_of
from xscene.errors import ExtraMissing, InvalidInput, Unsupported

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
OURS = SimpleNamespace(**{**vars(layers), **vars(normalisation), **vars(pooling)})
FORWARD, TO_FEATURES, TO_WEIGHTS = 4e-7, 6e-7, 3e-6


@pytest.fixture(scope="module", autouse=True)
def minkowski() -> Any:
    try:
        return minkowski_module()
    except ExtraMissing as error:
        pytest.skip(error.message)


def compared(mine: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    coordinates, features = by_coordinates(mine["coordinates"], mine["features"])
    wanted_coordinates, wanted_features = by_coordinates(wanted["coordinates"], wanted["features"])
    assert torch.equal(coordinates, wanted_coordinates)
    rest = set(wanted) - {"coordinates", "features"}
    return {"features": relative(features, wanted_features)} | {
        key: relative(mine[key], wanted[key]) for key in rest
    }


def test_the_adapter_leaves_the_number_of_threads_as_it_was_set() -> None:
    before = torch.get_num_threads()
    try:
        for wanted in (1, 2):
            torch.set_num_threads(wanted)
            network = MinkUNet(3, 4, unet_config("14A")).eval()
            coordinates = room_voxels(500)
            x = SparseTensor.of(torch.rand(len(coordinates), 3), coordinates, select_engine("minkowski"))
            with torch.no_grad():
                network(x)
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(before)


def test_the_stored_results_are_those_of_the_installed_version(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setattr("tests.golden.write_minkowski.FILE", tmp_path / "new.safetensors")
    main()
    stored, new = load_file(FILE), load_file(tmp_path / "new.safetensors")
    assert set(stored) == set(new)
    pairs = {}
    for key in stored:
        prefix = key.partition("/")[0]
        if key.endswith("/features"):
            # Rows of a coarser level come in the order of a hash.
            order = [by_coordinates(one[f"{prefix}/coordinates"], one[key])[1] for one in (new, stored)]
            pairs[key] = relative(*order)
        elif not key.endswith("/coordinates"):
            pairs[key] = relative(new[key], stored[key])
    assert max(pairs.values()) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CASES)
def test_layers_keep_to_the_tolerances_on_other_clouds(
    name: str, seed: int, engine: str, minkowski: Any
) -> None:
    coordinates = clouds(num_voxels=1500, extent=8, seed=seed + 1)
    both = []
    for namespace in (OURS, minkowski):
        leaf = of_voxels(coordinates, IN, salt=seed).float().requires_grad_()
        if namespace is OURS:
            x = SparseTensor.of(leaf, coordinates, engine_of(engine))
        else:
            x = minkowski.SparseTensor(leaf, coordinates=coordinates)
        both.append(results(CASES[name].make(namespace).float(), x, leaf))
    differences = compared(*both)
    assert differences.pop("features") <= FORWARD
    assert differences.pop("to_features") <= TO_FEATURES
    assert max(differences.values(), default=0.0) <= TO_WEIGHTS


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("conv", "transposed"))])
def test_the_adapter_is_an_engine_like_the_others(name: str) -> None:
    coordinates = clouds(num_voxels=1500, extent=8)
    both = []
    for engine in (select_engine("minkowski", dtype=torch.float64), TorchEngine()):
        leaf = of_voxels(coordinates, IN, salt=1).requires_grad_()
        network = CASES[name].make(OURS)
        both.append(results(network, SparseTensor.of(leaf, coordinates, engine), leaf))
    assert max(compared(*both).values()) < 1e-14


@pytest.mark.parametrize(
    ("features", "weight", "message"),
    [
        (
            torch.rand(40, 3),
            torch.rand(27, 3, 8).double(),
            "features: float32 on cpu, the weights are float64",
        ),
        (torch.rand(39, 3), torch.rand(27, 3, 8), r"features: shape \[39, 3\], needs \[40, any\]"),
        (torch.rand(40, 3), torch.rand(27, 4, 8), r"weight: shape \[27, 4, 8\], needs \[27, 3, any\]"),
    ],
)
def test_the_adapter_refuses_what_does_not_fit(features: Tensor, weight: Tensor, message: str) -> None:
    maps = SparseTensor.of(torch.rand(40, 3), clouds(40), select_engine("minkowski")).maps
    with pytest.raises(InvalidInput, match=message):
        maps.engine.conv(features, weight, maps.kernel_map(1, 1, Kernel(3)))


def test_the_adapters_single_row_is_rectified_in_its_place() -> None:
    x = SparseTensor.of(torch.ones(1, 3), torch.tensor([[0, -7, 3, 0]]), select_engine("minkowski"))
    layer = layers.MinkowskiConvolution(3, 5, kernel_size=3)
    wanted = layer.kernel[13].sum(0).clamp(min=0)[None]
    assert torch.allclose(layers.MinkowskiReLU(inplace=True)(layer(x)).features, wanted)


def test_the_adapter_makes_one_manager_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        minkowski_engine, "new_manager", lambda module: made.append(module) or new_manager(module)
    )
    engine = select_engine("minkowski")
    network = MinkUNet(3, 4, unet_config("14A")).eval()
    for num_batches in (1, 2):
        network(SparseTensor.of(torch.rand(500, 3), clouds(500), engine))
        assert len(made) == num_batches


def test_the_adapter_refuses_training_where_deterministic_algorithms_are_asked_for() -> None:
    x = SparseTensor.of(torch.rand(40, 3), clouds(40), select_engine("minkowski"))
    layer = layers.MinkowskiConvolution(3, 5, kernel_size=3)
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.raises(Unsupported, match="engine minkowski sums the gradients of weights in another"):
            layer(x)
        with torch.no_grad():
            layer(x)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="engine minkowski sums the gradients of weights in another"):
            layer(x)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("variant", ["18A", "34C"])
def test_a_whole_unet_in_float64_has_the_same_gradients(variant: str, minkowski: Any) -> None:
    torch.manual_seed(0)
    network = MinkUNet(3, 20, unet_config(variant)).double()
    coordinates = room_voxels(5000)
    both = []
    for ours, one in ((True, network), (False, twin(network))):
        leaf = of_voxels(coordinates, 3, salt=1).requires_grad_()
        if ours:
            x: Any = SparseTensor.of(leaf, coordinates, TorchEngine())
        else:
            x = minkowski.SparseTensor(leaf, coordinates=coordinates)
        both.append(results(one, x, leaf))
    differences = compared(*both)
    # Training mode divides by the deviations of the few voxels of the coarsest levels.
    assert differences.pop("features") < 2e-14
    gradients = {
        key: float((both[0][key] - both[1][key]).norm() / both[1][key].norm()) for key in differences
    }
    assert max(gradients.values()) < 2.5e-14


def test_a_checkpoint_goes_over_and_back_with_strict_keys(minkowski: Any) -> None:
    network = MinkUNet(3, 20, unet_config("34C"))
    other = twin(network)
    assert type(other.get_submodule("conv0p1s1")) is minkowski.MinkowskiConvolution
    back = fill(MinkUNet(3, 20, unet_config("34C")))
    back.load_state_dict(other.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), network.parameters(), strict=True))


def test_no_contender_is_another_network(minkowski: Any) -> None:
    torch.manual_seed(0)
    network: nn.Module = Encoder14().eval()
    coordinates = room_voxels(5000)
    features = torch.rand(len(coordinates), 3)
    with torch.no_grad():
        wanted = twin(network)(minkowski.SparseTensor(features, coordinates=coordinates)).F
        for engine in (TorchEngine(), select_engine("native")):
            assert relative(network(SparseTensor.of(features, coordinates, engine)), wanted) < 1e-5


def test_a_small_measurement_names_every_contender_and_its_limit() -> None:
    engines: list[Engine] = [select_engine("native"), TorchEngine()]
    case = Case(network=BENCH_CASES[0].network, num_voxels=3000, training=True)
    row = measure(case, engines, num_rounds=2, num_threads=1)
    assert set(row.timings) == {"minkowski", *(engine.description for engine in engines)}
    assert row.limit_s > 0
    assert geometric_mean_ratios([row], "minkowski", "minkowski") == (1.0, 1.0)
    assert all(timing.warm_s >= row.limit_s / 2 for timing in row.timings.values())
