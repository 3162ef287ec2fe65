"""The demo's calls through the clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deploy.bundles import PRESETS, PresetName, ensure_untrained
from deploy.stack import Member, Stack
from xscene.client import Connection, FusionClient
from xscene.oip import Answer, InferenceClient
from xscene.types import Modality

BUNDLE = "small"
SEED = 0
TIMEOUT_S = 30.0
QUERY = "a sofa"
NUM_MATCHES = 3
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
    ensure_untrained(directory / BUNDLE, seed=SEED)


def whole_stack(folder: Path, backbones_dir: Path, ports: Mapping[str, int], *flags: str) -> Stack:
    """Every service that exists, with the demo's bundle; bundles and logs lie in `folder`."""
    folder = folder.absolute()
    ensure_bundle(folder / "bundles")
    shared = ("--bundles-dir", str(folder / "bundles"), "--allow-untrained", "true", *flags)
    frozen = ("--backbones-dir", str(backbones_dir.absolute()))
    own = {"text": frozen, "image": frozen, "points": (), "fusion": ()}
    members = [Member(name, ports[name], (*shared, *more)) for name, more in own.items()]
    return Stack(members, folder / "logs")


def show(stack: Stack, console: Console) -> None:
    """Ask each service that runs and print what it answers."""
    parts: dict[str, Callable[[str, Console], None]] = {"text": rank_sentences, "fusion": fuse_subsets}
    for member in stack.members:
        if member.name in parts:
            parts[member.name](member.address, console)
    addresses = {member.name: member.address for member in stack.members}
    if {"text", "image"} <= set(addresses):
        match_picture(addresses["image"], addresses["text"], console)


def rank_sentences(address: str, console: Console) -> None:
    """Order sentences by their nearness to another, in the frozen backbone's features."""
    answer = asyncio.run(_encode(address, "text", _texts([QUERY, *SENTENCES]), "features"))
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


def match_picture(image_address: str, text_address: str, console: Console) -> None:
    """Look for the sentences nearest to a drawn picture, across modalities."""
    output = "scene_embedding"
    picture = asyncio.run(_encode(image_address, "image", {"pixels": _drawing()[None]}, output))
    texts = asyncio.run(_encode(text_address, "text", _texts(SENTENCES), output))
    cosines = texts.outputs[output] @ picture.outputs[output][0]
    table = Table("sentence", "cosine with a drawing of a round table under a window")
    for index in np.argsort(-cosines)[:NUM_MATCHES]:
        table.add_row(SENTENCES[index], f"{cosines[index]:.3f}")
    console.print(table)
    if not picture.trained:
        console.print(f"bundle {picture.bundle} is untrained: the order is one of chance, no match")


def _drawing() -> NDArray[np.uint8]:
    """A room in three colours: [H, W, 3]."""
    y, x = np.mgrid[0:240, 0:320]
    image = np.full((240, 320, 3), (214, 206, 190), np.uint8)
    image[170:] = (128, 96, 70)
    image[30:110, 110:210] = (170, 210, 240)
    image[((x - 160) / 70) ** 2 + ((y - 165) / 22) ** 2 < 1] = (92, 58, 33)
    return image


def _texts(texts: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    return {"text": np.array([text.encode() for text in texts], np.object_)}


async def _encode(address: str, model: str, inputs: Mapping[str, NDArray[Any]], output: str) -> Answer:
    async with Connection(address=address).aio_channel() as channel:
        return await InferenceClient(channel).infer(model, inputs, (output,), timeout_s=TIMEOUT_S)


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
