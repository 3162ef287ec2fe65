"""One rank of a batch norm over two: RANK FOLDER; writes what it got into the folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from encoders_3d.sparse.normalisation import MinkowskiBatchNorm, MinkowskiSyncBatchNorm
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from tests.golden.sparse_cases import clouds, fill, of_voxels

ROWS = (23, 67)
WIDTH = 4


def network() -> nn.Module:
    return fill(nn.Sequential(MinkowskiBatchNorm(WIDTH)).double())


def rows() -> torch.Tensor:
    """Far from zero, so that a variance from plain sums would be lost."""
    return of_voxels(clouds(sum(ROWS)), WIDTH, salt=3) + 1e4


def weighting() -> torch.Tensor:
    return of_voxels(clouds(sum(ROWS)), WIDTH, salt=4)


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mine = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], sum(ROWS))
    norm = MinkowskiSyncBatchNorm.convert_sync_batchnorm(network())
    features = rows()[mine].requires_grad_()
    coordinates = clouds(sum(ROWS))[mine] * torch.tensor([0, 1, 1, 1])
    coordinates[:, 1] += 100 * torch.arange(len(coordinates))
    x = SparseTensor.of(features, coordinates, TorchEngine())
    out = norm(x)
    given_order = out.features[x.maps.row_of_N]
    (given_order * weighting()[mine]).sum().backward()
    gradients = {f"to.{name}": parameter.grad for name, parameter in norm.named_parameters()}
    found = {"out": given_order.detach(), "to_rows": features.grad, **gradients, **norm.state_dict()}
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
