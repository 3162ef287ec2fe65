"""The demo's calls through the client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from deploy.bundles import PRESETS, PresetName, init_bundle
from deploy.stack import Stack
from xscene.client import Connection, FusionClient
from xscene.types import Modality

BUNDLE = "small"
SEED = 0


def ensure_bundle(directory: Path) -> None:
    """Make the untrained `small` bundle where there is none."""
    if not (directory / BUNDLE).is_dir():
        init_bundle(PRESETS[PresetName.SMALL], directory / BUNDLE, name=BUNDLE, seed=SEED)


def show(stack: Stack, console: Console) -> None:
    """Fuse made-up embeddings of several subsets of modalities and print the shares."""
    address = next(member.address for member in stack.members if member.name == "fusion")
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
