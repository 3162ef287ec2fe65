"""What clouds cost: more than their voxels where those lie far apart, and never much memory."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from encoders_3d.model import PointsModel
from encoders_3d.prepare import LATTICE_VOXELS, voxel_cloud
from encoders_3d.scenes import CloudConstants, SceneEncoder
from encoders_3d.sparse.scene_resnet import NARROW, SceneResNetConfig
from encoders_3d.sparse.torch_engine import TorchEngine
from tests.memory import growth_below
from tests.points import CLOUDS, load, room, run, write_points_bundle
from xscene.errors import LimitExceeded

MAX_GROWTH_BYTES = 64 << 20
SCENE = "scene_embedding"
TINY = SceneResNetConfig(
    in_channels=4, stem_width=4, widths=(4, 6, 8, 10), num_blocks=(1, 1, 1, 1), out_channels=12
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> PointsModel:
    return load(write_points_bundle(tmp_path_factory.mktemp("bundles") / "small"), "point_cloud")


def limited(model: PointsModel, **limits: int) -> PointsModel:
    other = copy.copy(model)
    other.setup = replace(model.setup, clouds=replace(model.setup.clouds, **limits))
    return other


def scattered(num_side: int, gap_voxels: int) -> np.ndarray:
    """A lattice of points, so many voxels of 0.04 m apart along each axis."""
    places = np.arange(num_side) * gap_voxels + 0.5
    return (np.stack(np.meshgrid(places, places, places), axis=-1).reshape(-1, 3) * 0.04).astype(np.float32)


@pytest.mark.parametrize("config", [TINY, replace(NARROW, in_channels=4)])
def test_levels_are_those_that_the_network_computes(config):
    encoder = SceneEncoder(config, CloudConstants(voxel_m=0.1), 8).eval()
    seen = []
    for part in list(encoder.network.children())[:-1]:
        part.register_forward_hook(lambda _, __, out: seen.append((out.stride, out.features.shape[1])))
    encoder([voxel_cloud(room(300)[0], None, 0.1, CLOUDS)], TorchEngine())
    assert [(level.stride, level.cost) for level in encoder.levels] == [
        (stride, math.ceil((width / config.stem_width) ** 2)) for stride, width in seen
    ]
    assert encoder.levels[-1].stride == LATTICE_VOXELS


@pytest.mark.parametrize(
    ("num_side", "gap", "cost"),
    [(20, 1, 8000), (10, 16, 4000), (6, 32, 1944), (4, 64, 8 * 256), (3, 64, 27 * 25), (2, 192, 8 * 256)],
)
def test_a_cloud_costs_what_the_level_with_most_to_do_costs(model, num_side, gap, cost):
    model = limited(model, max_voxels=8000)
    (item,) = model.prepare({"points": scattered(num_side, gap)}, frozenset([SCENE])).items
    assert len(item.cloud) == num_side**3
    assert item.cost == cost


def test_a_cloud_is_refused_by_what_it_costs(model):
    points = scattered(3, 192)
    inputs = {"points": np.concatenate([points[:1], points]), "cloud_ends": np.array([1, 28], np.int32)}
    with pytest.raises(LimitExceeded) as caught:
        run(model, inputs)
    assert caught.value.message == (
        "cloud[1]: 27 voxels so far apart that they cost as much as 6912 of a surface, the limit is 5000; "
        "leave out lone points, or send parts of it as clouds of their own"
    )
    assert caught.value.violations[0].field == "cloud[1]"


def test_a_request_is_refused_by_what_its_clouds_cost(model):
    points = scattered(3, 192)
    inputs = {"points": points, "cloud_ends": np.array([9, 18, 27], np.int32)}
    cost = 27 * 256
    assert run(limited(model, max_points=cost), inputs)[SCENE].shape == (3, 256)
    with pytest.raises(LimitExceeded, match=rf"^points: {cost} voxels by what .*, the limit is {cost - 1}$"):
        run(limited(model, max_points=cost - 1), inputs)


@pytest.mark.parametrize(("num_side", "gap"), [(46, 1), (29, 16), (22, 32), (15, 64), (7, 192)])
def test_the_most_that_is_taken_needs_little_memory_however_it_lies(model, num_side, gap):
    model = limited(model, max_points=1 << 20, max_voxels=100_000, max_extent_voxels=1 << 14)
    job = model.prepare({"points": scattered(num_side, gap)}, frozenset([SCENE]))
    assert job.items[0].cost > 80_000
    with growth_below(MAX_GROWTH_BYTES):
        model.forward(job.items)
    # As many voxels, each alone in a cell of the last level, would take four times the bound.
    with pytest.raises(LimitExceeded, match="so far apart"):
        model.prepare({"points": scattered(46, 192)}, frozenset([SCENE]))
