"""The image encoder on a CUDA device gives what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.bundles import PRESETS, PresetName, init_bundle
from encoders_2d.model import VisionFactory, VisionModel
from tests.image_backbones import (
    BACKBONES_DIR,
    LIMITS,
    encoded,
    mobilenet_directory,
    picture,
    request,
    run,
    tiny_factory,
)
from xscene.nn.devices import Compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALL = ("cls", "patch_mean", "patches", "scene_embedding", "object_embedding")
FILES = [encoded(picture(seed, 320, 240), "JPEG") for seed in range(9)]


def compared(on_cpu: VisionModel, on_gpu: VisionModel, atol: float) -> None:
    tensors = request(FILES, group_ends=[2, 3, 9])
    wanted, found = run(on_cpu, tensors, *ALL), run(on_gpu, tensors, *ALL)
    for name, rows in wanted.items():
        np.testing.assert_allclose(found[name], rows, atol=atol, err_msg=name)


def test_a_transformer_gives_the_same(tmp_path: Path) -> None:
    factory, bundle = tiny_factory(tmp_path)
    folder = tmp_path / "gpu"
    folder.mkdir()
    other, _ = tiny_factory(folder, LIMITS, Compute(torch.device("cuda")))
    compared(factory.load("image", bundle), other.load("image", bundle), 1e-4)


def test_mobilenet_gives_the_same(tmp_path: Path) -> None:
    mobilenet_directory()
    init_bundle(PRESETS[PresetName.SMALL], tmp_path / "small", name="small", seed=0)
    on_cpu, on_gpu = (
        VisionFactory(BACKBONES_DIR, LIMITS, Compute(torch.device(name))).load("image", tmp_path / "small")
        for name in ("cpu", "cuda")
    )
    # Convolutions on a GPU round to TF32 by default: features of up to 6, to three digits.
    compared(on_cpu, on_gpu, 2e-2)
