"""The text encoder on a CUDA device gives what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.bundles import PRESETS, PresetName, init_bundle
from encoders_1d.model import TextFactory
from tests.text_backbones import BACKBONES_DIR, CPU, LIMITS, minilm_directory, run
from xscene.nn.devices import Compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TEXTS = ["a sofa", "the couch in front of the television " * 20, "a round table under the window"]


@pytest.mark.parametrize(("precision", "least"), [("float32", 1 - 1e-5), ("bfloat16", 0.999)])
def test_texts_are_embedded_alike(tmp_path: Path, precision: str, least: float) -> None:
    minilm_directory()
    init_bundle(PRESETS[PresetName.SMALL], tmp_path / "small", name="small", seed=0)
    on_gpu = Compute(torch.device("cuda"), precision)
    wanted, found = (
        run(
            TextFactory(BACKBONES_DIR, LIMITS, each).load("text", tmp_path / "small"),
            TEXTS,
            "scene_embedding",
        )
        for each in (CPU, on_gpu)
    )
    cosines = (wanted["scene_embedding"] * found["scene_embedding"]).sum(axis=1)
    assert cosines.min() >= least
    assert np.isfinite(found["scene_embedding"]).all()
