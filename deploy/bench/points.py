"""The points encoder measured: a served cloud beside the bare network, and batches beside single clouds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploy.bench import figures, report
from deploy.bench.figures import Figure
from deploy.bench.goals import Goal
from deploy.bench.sparse import room_voxels
from deploy.stack import Member, Stack, free_port
from encoders_3d.app import Settings, make_factory
from encoders_3d.model import POINT_CLOUD, SCENE, CloudItem, PointsModel
from encoders_3d.prepare import COLORS, POINTS, VoxelCloud
from encoders_3d.sparse.tensor import SparseTensor
from xscene.client import Connection
from xscene.geometry.frames import Frame, Points
from xscene.geometry.voxels import voxelise
from xscene.oip import InferenceClient

RECORD_FILE, PAGE_FILE = "points.json", "points.md"
NUM_POINTS, NUM_SURFACE_VOXELS = 200_000, 80_000
NUM_CLOUDS, NUM_ROOMS = 16, 4
NUM_REPEATS = 5
CLOUD_VOXELS = (2_000, 20_000)
MAX_SERVED = 1.25
MIN_GAIN: Mapping[int, float] = {2_000: 1.3, 20_000: 1.0}
TIMEOUT_S = 120.0
WANTED = frozenset({SCENE})
SERVED, BARE, VOXELISING, NETWORK = "served", "bare", "voxelising", "network"

INTRODUCTION = """\
# Benchmarks of the points encoder

Measured {date}, commit `{commit}`, {num_rounds} rounds, engine {engine}, {num_threads} thread, with

```sh
{command}
```

The `small` network with random weights, on made-up rooms. `served` is one call over loopback:
{num_points:,} points with colours on the wire, voxelised, embedded, answered. `bare` is voxelising
the same points in one process plus the network and its head on tensors that were made before; each
is measured {num_repeats} times a round, in turn, and the median taken. Batches go through the model
as the batcher hands them over: {num_clouds} clouds at once, beside one after the other. Figures are
medians over the rounds, least and greatest in brackets; ratios are taken within a round. All
samples: [points.json](points.json).
"""


@dataclass(frozen=True)
class Samples:
    """Seconds of each thing that was measured, one a round."""

    seconds: Mapping[str, list[float]]

    def ratio(self, above: Sequence[str], below: Sequence[str]) -> Figure:
        """Sums over sums, round by round."""
        sums = (
            [sum(each) for each in zip(*(self.seconds[n] for n in names), strict=True)]
            for names in (above, below)
        )
        return figures.figure([a / b for a, b in zip(*sums, strict=True)])


def measure(bundle: Path, work: Path, *, num_rounds: int, num_threads: int) -> tuple[Samples, str]:
    """Every figure once a round, and the engine that computed."""
    flags = {
        "bundles-dir": bundle.parent,
        "bundles": bundle.name,
        "allow-untrained": "true",
        "device": "cpu",
        "num-threads": num_threads,
        "metrics-port": 0,
    }
    words = tuple(word for name, value in flags.items() for word in (f"--{name}", str(value)))
    given = Settings(device="cpu", num_threads=num_threads)
    model = make_factory(given).load(POINT_CLOUD, bundle)
    assert isinstance(model, PointsModel)
    member = Member("points", free_port(), words)
    with Stack([member], work):
        seconds = asyncio.run(_rounds(model, member.address, num_rounds))
    return Samples(seconds), model.setup.engine.description


def goals(samples: Samples) -> list[Goal]:
    """The bounds, and what was measured."""
    served = Goal(
        group="points",
        what=f"{NUM_POINTS:,} points served over bare",
        bound=MAX_SERVED,
        at_least=False,
        measured=samples.ratio([SERVED], [VOXELISING, NETWORK]),
    )
    gains = [
        Goal(
            group="points",
            what=f"{NUM_CLOUDS} clouds of {size:,} voxels: throughput of one batch over one at a time",
            bound=bound,
            at_least=True,
            measured=samples.ratio([_single(size)], [_batch(size)]),
        )
        for size, bound in MIN_GAIN.items()
    ]
    return [served, *gains]


def page(samples: Samples, run: Mapping[str, Any]) -> str:
    """The whole page."""
    verdicts = [(g.what, g.wanted, report.shown(g.measured), g.verdict) for g in goals(samples)]
    times = [
        (name, report.shown(figures.figure([1e3 * each for each in seconds]), 1))
        for name, seconds in samples.seconds.items()
    ]
    facts = [(name.replace("_", " "), str(value)) for name, value in run["machine"].items()]
    loads = [
        (name.replace("_", " "), ", ".join(f"{v:.2f}" for v in run[name]))
        for name in ("load_before", "load_after")
    ]
    parts = [
        INTRODUCTION.format(**run, num_points=NUM_POINTS, num_clouds=NUM_CLOUDS, num_repeats=NUM_REPEATS),
        "## Goals\n\n" + report.table(("figure", "goal", "measured", "verdict"), verdicts),
        "## Times\n\n" + report.table(("", "ms"), times),
        "## Machine\n\n" + report.table(("", ""), [*facts, *loads]),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


async def _rounds(model: PointsModel, address: str, num_rounds: int) -> dict[str, list[float]]:
    inputs = room_points()
    bare = _bare_runs(model, inputs)
    batches = {size: _clouds(size) for size in CLOUD_VOXELS}
    seconds: dict[str, list[float]] = {}
    async with Connection(address=address, max_message_bytes=64 << 20).aio_channel() as channel:
        client = InferenceClient(channel)
        # The first round warms up and is not kept.
        for number in range(num_rounds + 1):
            found = await _beside_bare(client, inputs, bare)
            for size, items in batches.items():
                found[_single(size)] = _elapsed_s(partial(_one_by_one, model, items))
                found[_batch(size)] = _elapsed_s(partial(model.forward, items))
            for name, value in found.items() if number else ():
                seconds.setdefault(name, []).append(value)
    return seconds


async def _beside_bare(
    client: InferenceClient, inputs: Mapping[str, NDArray[Any]], bare: Mapping[str, Callable[[], object]]
) -> dict[str, float]:
    """Medians of a few repeats, in turn: the batches before have driven all out of the caches."""
    repeats = []
    for _ in range(NUM_REPEATS):
        served_s = await _served_s(client, inputs)
        repeats.append({SERVED: served_s} | {name: _elapsed_s(run) for name, run in bare.items()})
    return {name: median(each[name] for each in repeats) for name in repeats[0]}


async def _served_s(client: InferenceClient, inputs: Mapping[str, NDArray[Any]]) -> float:
    begin = time.perf_counter()
    await client.infer(POINT_CLOUD, inputs, (SCENE,), timeout_s=TIMEOUT_S)
    return time.perf_counter() - begin


def _bare_runs(model: PointsModel, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Callable[[], object]]:
    """Voxelising, and the network on tensors that are there."""
    encoder, engine = model.scenes, model.setup.engine
    points = Points(inputs[POINTS], Frame.RAW)
    voxel_m = encoder.constants.voxel_m
    cloud = model.prepare(inputs, WANTED).items[0]
    assert isinstance(cloud, CloudItem)
    rows = torch.from_numpy(cloud.cloud.coordinates)
    coordinates = torch.cat([torch.zeros(len(rows), 1, dtype=rows.dtype), rows], dim=1)
    channels = encoder.channels(cloud.cloud)

    @torch.inference_mode()
    def network() -> object:
        return encoder.head(encoder.network(SparseTensor.of(channels, coordinates, engine)))

    return {VOXELISING: lambda: voxelise(points, voxel_m), NETWORK: network}


def room_points() -> dict[str, NDArray[Any]]:
    """Points on the surfaces of a made-up room, in voxels of 4 cm."""
    random = np.random.default_rng(0)
    voxels = room_voxels(NUM_SURFACE_VOXELS)[:, 1:].numpy()
    chosen = voxels[random.integers(0, len(voxels), NUM_POINTS)]
    xyz = ((chosen + random.random((NUM_POINTS, 3))) * 0.04).astype(np.float32)
    return {POINTS: xyz, COLORS: random.integers(0, 256, (NUM_POINTS, 3), np.uint8)}


def _clouds(num_voxels: int) -> list[CloudItem]:
    random = np.random.default_rng(0)
    items = []
    for seed in range(NUM_CLOUDS):
        voxels = room_voxels(num_voxels, seed % NUM_ROOMS)[:, 1:].contiguous().numpy()
        colors = random.integers(0, 256, (len(voxels), 3), np.uint8)
        items.append(CloudItem(VoxelCloud(voxels, colors), WANTED, len(voxels)))
    return items


def _one_by_one(model: PointsModel, items: Sequence[CloudItem]) -> None:
    for item in items:
        model.forward([item])


def _elapsed_s(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _single(size: int) -> str:
    return f"{NUM_CLOUDS} clouds of {size:,} voxels, one at a time"


def _batch(size: int) -> str:
    return f"{NUM_CLOUDS} clouds of {size:,} voxels, one batch"
