"""Batch norm over two ranks is batch norm over all their rows together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from encoders_3d.sparse.normalisation import MinkowskiSyncBatchNorm
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from tests.golden.sparse_cases import clouds, of_voxels, relative
from tests.unit.norm_ranks import ROWS, WIDTH, network, rows, weighting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.unit.norm_ranks"]
    running = [subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT) for rank in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def together() -> dict[str, Tensor]:
    norm = network()[0].bn
    features = rows().requires_grad_()
    out = norm(features)
    (out * weighting()).sum().backward()
    gradients = {f"to.0.bn.{name}": parameter.grad for name, parameter in norm.named_parameters()}
    state = {f"0.bn.{name}": tensor for name, tensor in norm.state_dict().items()}
    return {"out": out.detach(), "to_rows": features.grad, **gradients, **state}


@pytest.mark.parametrize("name", ["out", "to_rows"])
def test_the_rows_of_both_ranks_are_those_of_one_batch(
    name: str, ranks: list[dict[str, Tensor]], together: dict[str, Tensor]
) -> None:
    assert [len(rank[name]) for rank in ranks] == list(ROWS)
    assert relative(torch.cat([rank[name] for rank in ranks]), together[name]) < 1e-10


@pytest.mark.parametrize("name", ["to.0.bn.weight", "to.0.bn.bias"])
def test_the_gradients_of_the_ranks_add_up(
    name: str, ranks: list[dict[str, Tensor]], together: dict[str, Tensor]
) -> None:
    assert relative(ranks[0][name] + ranks[1][name], together[name]) < 1e-10


@pytest.mark.parametrize("name", ["0.bn.running_mean", "0.bn.running_var", "0.bn.num_batches_tracked"])
def test_every_rank_tracks_the_statistics_of_all(
    name: str, ranks: list[dict[str, Tensor]], together: dict[str, Tensor]
) -> None:
    assert torch.equal(ranks[0][name], ranks[1][name])
    assert relative(ranks[0][name], together[name]) < 1e-10


def test_an_exchanged_norm_keeps_its_keys_tensors_and_mode() -> None:
    norm = network().eval()
    state = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    exchanged = MinkowskiSyncBatchNorm.convert_sync_batchnorm(norm)
    assert isinstance(exchanged[0], MinkowskiSyncBatchNorm)
    assert not exchanged[0].bn.training
    assert {name: tensor.tolist() for name, tensor in exchanged.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_bfloat16_stays_as_in_plain_batch_norm_and_is_computed_wide(weights: torch.dtype) -> None:
    features = (of_voxels(clouds(90), WIDTH, salt=3) + 10).bfloat16()
    x = SparseTensor.of(features, clouds(90), TorchEngine())
    plain = network().to(weights)
    summed = MinkowskiSyncBatchNorm.convert_sync_batchnorm(network().to(weights))
    found = summed(x).features
    assert found.dtype is plain(x).features.dtype is torch.bfloat16
    assert relative(found, plain.double()[0].bn(x.features.double())) < 2**-8


def test_without_a_group_it_is_plain_batch_norm() -> None:
    x = SparseTensor.of(torch.rand(40, WIDTH).double(), clouds(40), TorchEngine())
    plain = network()
    wanted = plain(x).features
    assert torch.equal(MinkowskiSyncBatchNorm.convert_sync_batchnorm(network())(x).features, wanted)
