"""The points service on MinkowskiEngine itself, beside the other engines. Needs `make minkowski`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders_3d.sparse.minkowski_engine import minkowski_module
from tests.points import exported, painted_box, room, write_points_bundle
from tests.service.test_points_encoder import SCENE, infer, served
from xscene.errors import ExtraMissing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
XYZ, COLORS = room(4000)
REQUESTS = (
    ("point_cloud", {"points": XYZ, "colors": COLORS, "cloud_ends": np.array([900, 4000], np.int32)}),
    ("mesh", {"mesh": np.array([exported(painted_box(), "glb")], object)}),
)


@pytest.fixture(scope="module", autouse=True)
def minkowski() -> None:
    try:
        minkowski_module()
    except ExtraMissing as error:
        pytest.skip(error.message)


def test_one_bundle_gives_the_same_embedding_on_all_three_engines(tmp_path: Path) -> None:
    write_points_bundle(tmp_path / "one")
    found: dict[str, list[np.ndarray]] = {}
    for engine in ("torch", "native", "minkowski"):
        with served(tmp_path, engine=engine) as server:
            found[engine] = [infer(server, *request)[SCENE] for request in REQUESTS]
    for engine in ("native", "minkowski"):
        for mine, wanted in zip(found[engine], found["torch"], strict=True):
            assert (mine * wanted).sum(axis=1).min() >= 1 - 1e-5
