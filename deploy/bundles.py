"""The `bundle` commands: making an untrained bundle and showing one."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xscene.errors import ExtraMissing, XSceneError
from xscene.nn.manifest import MAX_BUNDLE_BYTES, to_json

if TYPE_CHECKING:
    # Torch takes seconds to import, and `--help` needs none of it.
    from xscene.nn.bundle import Bundle
    from xscene.nn.bundle_writer import SectionContent

app = typer.Typer(help="Make and look at bundles, the directories that hold models.", no_args_is_help=True)


class PresetName(StrEnum):
    """The presets that `init` knows."""

    SMALL = "small"
    CROSSOVER = "crossover"


@dataclass(frozen=True)
class Preset:
    """Sizes that the sections of a bundle have in common."""

    name: str
    width: int


Initialiser = Callable[[Preset, int], "SectionContent"]

PRESETS: Mapping[PresetName, Preset] = {
    PresetName.SMALL: Preset("small", 256),
    PresetName.CROSSOVER: Preset("crossover", 768),
}


def _fusion(preset: Preset, seed: int) -> SectionContent:
    """An untrained fusion model."""
    import torch

    from fusion.model import FusionModel

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return FusionModel(preset.width).section()


# Section name to the function that makes its untrained content from a preset and a seed.
INITIALISERS: Mapping[str, Initialiser] = {"fusion": _fusion}


def init_bundle(
    preset: Preset,
    directory: Path,
    *,
    name: str,
    seed: int,
    initialisers: Mapping[str, Initialiser] = INITIALISERS,
) -> Bundle:
    """Write an untrained bundle; the same preset and seed give the same model_id."""
    with _extra():
        from xscene.nn.bundle_writer import BundleContent, write_bundle

        content = BundleContent(
            name=name,
            preset=preset.name,
            width=preset.width,
            trained=False,
            sections={each: make(preset, _section_seed(each, seed)) for each, make in initialisers.items()},
            notes=f"Random weights, seed {seed}.",
        )
    return write_bundle(content, directory)


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="Directory to write; its parent is made where needed.")],
    preset: Annotated[PresetName, typer.Option(help="Sizes of the model.")] = PresetName.SMALL,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; without it, that of the directory.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
) -> None:
    """Make an untrained bundle, for tests and as a place to start training.

    Example: python -m deploy bundle init --preset small --out bundles/small
    """
    with _one_sentence():
        bundle = init_bundle(PRESETS[preset], out, name=name or out.absolute().name, seed=seed)
    typer.echo(f"{out}: untrained bundle {bundle.manifest.name}, model_id {bundle.model_id}")


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    max_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of all tensor files.")] = MAX_BUNDLE_BYTES,
) -> None:
    """Verify a bundle and show what is in it.

    Example: python -m deploy bundle show bundles/small --json
    """
    with _one_sentence(), _extra():
        from xscene.nn.bundle import open_bundle

        bundle = open_bundle(directory, max_bytes=max_bytes)
        if as_json:
            typer.echo(
                json.dumps({**to_json(bundle.manifest), "model_version": bundle.model_version}, indent=2)
            )
        else:
            _print_tables(bundle)


def _print_tables(bundle: Bundle) -> None:
    """The bundle as one table of facts and one of sections."""
    manifest = bundle.manifest
    facts = Table(show_header=False, title=f"bundle {manifest.name}", title_justify="left")
    facts.add_column()
    facts.add_column(overflow="fold")
    rows = {
        "model_id": manifest.model_id,
        "model_version": bundle.model_version,
        "preset": f"{manifest.preset}, width {manifest.width}",
        "trained": "yes" if manifest.trained else "no: its answers carry no meaning",
        "calibration": manifest.calibration_digest or "none",
        "metrics": json.dumps(manifest.metrics, sort_keys=True) if manifest.metrics else "none",
        "parents": "\n".join(manifest.parents) or "none",
        "created_at": manifest.created_at,
        "notes": manifest.notes or "none",
    }
    for label, value in rows.items():
        facts.add_row(label, Text(value))
    sections = Table("section", "schema", "numbers", "bytes", "backbone", "SHA-256")
    for name, section in sorted(manifest.sections.items()):
        backbone = section.backbone.name if section.backbone else "none"
        sizes = f"{bundle.num_parameters(name):,}", f"{section.num_bytes:,}"
        sections.add_row(name, section.schema, *sizes, Text(backbone), section.sha256[:12])
    console = Console()
    console.print(facts)
    console.print(sections)


def _section_seed(section: str, seed: int) -> int:
    """A seed for each section, so that a further section changes no other and none repeats another."""
    return int.from_bytes(hashlib.sha256(f"{section}:{seed}".encode()).digest()[:4], "little")


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Name the extra where torch or safetensors is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors", "numpy"):
            raise
        raise ExtraMissing.named("bundle", "fusion") from error


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """End the command with one sentence and exit status 1 where it failed."""
    try:
        yield
    except (XSceneError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
