"""The demo's calls through the clients."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from deploy.bundles import INITIALISERS, PRESETS, PresetName, init_bundle
from deploy.stack import Member, Stack
from xscene.client import Connection, FusionClient
from xscene.nn.manifest import MANIFEST_FILE, load_json, parse
from xscene.oip import Answer, InferenceClient
from xscene.types import Modality

BUNDLE = "small"
SEED = 0
TIMEOUT_S = 30.0
QUERY = "a sofa"
SENTENCES = (
    "the couch in front of the television",
    "an armchair beside the fireplace",
    "a coffee table between two seats",
    "a bed with two night stands",
    "the kitchen has an oven and a sink",
    "a round table under the window",
    "six office chairs around a desk",
    "a bookshelf that reaches the ceiling",
    "the bathroom mirror above the basin",
    "a bicycle leans against the wall",
    "an invoice for office supplies",
    "the train leaves at noon",
)


def ensure_bundle(directory: Path) -> None:
    """Make the untrained `small` bundle where there is none, or one that lacks sections."""
    path = directory / BUNDLE
    if path.is_dir():
        manifest = parse(load_json((path / MANIFEST_FILE).read_bytes(), MANIFEST_FILE))
        if manifest.trained or set(INITIALISERS) <= set(manifest.sections):
            return
        shutil.rmtree(path)
    init_bundle(PRESETS[PresetName.SMALL], path, name=BUNDLE, seed=SEED)


def whole_stack(folder: Path, backbones_dir: Path, ports: Mapping[str, int], *flags: str) -> Stack:
    """Every service that exists, with the demo's bundle; bundles and logs lie in `folder`."""
    folder = folder.absolute()
    ensure_bundle(folder / "bundles")
    shared = ("--bundles-dir", str(folder / "bundles"), "--allow-untrained", "true", *flags)
    own = {"text": ("--backbones-dir", str(backbones_dir.absolute())), "points": (), "fusion": ()}
    members = [Member(name, ports[name], (*shared, *more)) for name, more in own.items()]
    return Stack(members, folder / "logs")


def show(stack: Stack, console: Console) -> None:
    """Ask each service that runs and print what it answers."""
    parts: dict[str, Callable[[str, Console], None]] = {"text": rank_sentences, "fusion": fuse_subsets}
    for member in stack.members:
        if member.name in parts:
            parts[member.name](member.address, console)


def rank_sentences(address: str, console: Console) -> None:
    """Order sentences by their nearness to another, in the frozen backbone's features."""
    answer = asyncio.run(_encode(address, [QUERY, *SENTENCES]))
    query, *sentences = answer.outputs["features"]
    cosines = np.array([sentence @ query for sentence in sentences])
    table = Table("sentence", f"cosine with {QUERY!r}")
    for index in np.argsort(-cosines):
        table.add_row(SENTENCES[index], f"{cosines[index]:.3f}")
    console.print(table)
    if not answer.trained:
        console.print(
            f"features are those of the frozen text backbone; the heads of bundle {answer.bundle} are "
            "untrained, so its embeddings carry no meaning yet"
        )


async def _encode(address: str, texts: list[str]) -> Answer:
    inputs = {"text": np.array([text.encode() for text in texts], np.object_)}
    async with Connection(address=address).aio_channel() as channel:
        return await InferenceClient(channel).infer("text", inputs, ("features",), timeout_s=TIMEOUT_S)


def fuse_subsets(address: str, console: Console) -> None:
    """Fuse made-up embeddings of several subsets of modalities and print the shares."""
    width = PRESETS[PresetName.SMALL].width
    vectors = np.random.default_rng(SEED).normal(size=(3, width)).astype(np.float32)
    whole = dict(zip((Modality.TEXT, Modality.IMAGE, Modality.POINT_CLOUD), vectors, strict=True))
    without_text = {modality: whole[modality] for modality in (Modality.IMAGE, Modality.POINT_CLOUD)}
    with FusionClient(Connection(address=address)) as client:
        result = client.fuse([whole, without_text, {Modality.TEXT: whole[Modality.TEXT]}])
    table = Table("members present", "shares", "cosine with all three")
    for item in result.items:
        shares = ", ".join(f"{share:.2f}" for share in item.weights.values())
        cosine = float(item.fused @ result.items[0].fused)
        table.add_row(", ".join(item.weights), shares, f"{cosine:.3f}")
    console.print(table)
    if not result.model.trained:
        console.print(f"bundle {result.model.bundle} is untrained and the vectors are random: no meaning yet")
