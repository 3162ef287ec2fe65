"""The points models on a GPU give what they give on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from encoders_3d.app import Settings, make
from encoders_3d.model import PointsFactory
from encoders_3d.sparse.engines import select_engine
from tests.points import blob, exported, load, painted_box, room, run, setup, write_points_bundle
from xscene.errors import SettingsInvalid

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOLERANCE = 1e-4
XYZ, COLORS = room(3000)
REQUESTS = {
    "point_cloud": {"points": XYZ, "colors": COLORS, "cloud_ends": np.array([900, 3000], np.int32)},
    "object_points": {"points": np.stack([blob(100, seed) for seed in range(3)])},
    "mesh": {"mesh": np.array([exported(painted_box(), "glb")], object)},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_embeddings_on_the_gpu_are_those_of_the_cpu(tmp_path: Path, name: str) -> None:
    bundle = write_points_bundle(tmp_path / "small")
    device = torch.device("cuda")
    model = PointsFactory(setup(select_engine("auto", device=device), device)).load(name, bundle)
    assert model.parameters["device"] == "cuda"
    found, wanted = run(model, REQUESTS[name]), run(load(bundle, name), REQUESTS[name])
    for output, values in wanted.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[output], values, atol=TOLERANCE * scale)


def test_an_engine_of_the_cpu_alone_is_refused_on_the_gpu_and_takes_the_cpu_by_itself() -> None:
    with pytest.raises(
        SettingsInvalid, match="engine: engine native offers float32 on cpu, not float32 on cuda"
    ):
        make(Settings(device="cuda", engine="native"))
    assert make(Settings(device="auto", engine="native")).name == "points"
