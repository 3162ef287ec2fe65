"""Writes minkowski.safetensors from MinkowskiEngine itself: python -m tests.golden.write_minkowski."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from encoders_3d.sparse.minkowski_engine import minkowski_module, twin
from encoders_3d.sparse.unet import MinkUNet, unet_config
from tests.golden.sparse_cases import CASES, IN, clouds, fill, hashed, of_voxels, results

FILE = Path(__file__).with_name("minkowski.safetensors")


def layers() -> dict[str, Tensor]:
    """Every case, in float64."""
    module = minkowski_module()
    found = {}
    coordinates = clouds()
    for name, case in CASES.items():
        leaf = of_voxels(coordinates, IN, salt=7).requires_grad_()
        x = module.SparseTensor(leaf, coordinates=coordinates)
        for key, tensor in results(case.make(module), x, leaf).items():
            found[f"{name}/{key}"] = tensor
    return found


def unet() -> dict[str, Tensor]:
    """A whole UNet in float64: its output, and each parameter's gradient along a fixed direction."""
    coordinates = clouds(num_voxels=600, extent=9)
    leaf = of_voxels(coordinates, IN, salt=7).requires_grad_()
    network = twin(fill(MinkUNet(IN, OUT_CHANNELS, unet_config("14A")).double()))
    x = minkowski_module().SparseTensor(leaf, coordinates=coordinates)
    found = results(network, x, leaf)
    kept = {f"unet/{key}": found[key] for key in ("coordinates", "features", "to_features")}
    for name, _ in network.named_parameters():
        gradient = found[f"to.{name}"].flatten()
        direction = hashed(torch.arange(len(gradient)), salt=5)
        kept[f"unet/along.{name}"] = torch.stack([gradient @ direction, gradient.norm()])
    return kept


OUT_CHANNELS = 4


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    save_file(
        layers() | unet(), FILE, metadata={"made_by": f"MinkowskiEngine {minkowski_module().__version__}"}
    )


if __name__ == "__main__":
    main()
