"""The `bundle` commands: making an untrained bundle and showing one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.endings import one_sentence
from xscene.errors import ExtraMissing
from xscene.nn.manifest import MANIFEST_FILE, MAX_BUNDLE_BYTES, load_json, parse, to_json

if TYPE_CHECKING:
    # Torch takes seconds to import, and `--help` needs none of it.
    from encoders_3d.point_transformer import PointTransformerConfig
    from encoders_3d.sparse.scene_resnet import SceneResNetConfig
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
    text_backbone: str
    image_backbone: str
    frame_width: int
    """Of the hidden layer between a view's features and the scene head."""
    image_hidden_width: int
    """Of the heads on a view's vector, as they are named: their hidden layer is half as wide."""
    voxel_m: float


# None: the section is left out.
Initialiser = Callable[[Preset, int], "SectionContent | None"]

PRESETS: Mapping[PresetName, Preset] = {
    PresetName.SMALL: Preset(
        "small",
        256,
        text_backbone="minilm-l6-v2",
        image_backbone="mobilenet-v2",
        frame_width=256,
        image_hidden_width=256,
        voxel_m=0.04,
    ),
    PresetName.CROSSOVER: Preset(
        "crossover",
        768,
        text_backbone="blip-large",
        image_backbone="dinov2-giant",
        frame_width=1536,
        image_hidden_width=768,
        voxel_m=0.02,
    ),
}


def _fusion(preset: Preset, seed: int) -> SectionContent:
    """An untrained fusion model."""
    import torch

    from fusion.model import FusionModel

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return FusionModel(preset.width).section()


def _text(preset: Preset, seed: int, directory: Path | None = None) -> SectionContent | None:
    """Untrained text heads; left out where nothing tells the digest of their backbone."""
    import torch

    from encoders_1d.backbones import FEATURES, reference, registry
    from encoders_1d.model import TextHeads

    entry = registry().get(preset.text_backbone)
    if (made_for := reference(entry, directory)) is None:
        return None
    width = entry.widths[FEATURES]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        heads = TextHeads(feature_width=width, hidden_width=width, width=preset.width)
    return heads.section(*made_for)


def _image(
    preset: Preset, seed: int, directory: Path | None = None, *, floorplan: bool = False
) -> SectionContent | None:
    """Untrained heads of images or of floorplans; left out where nothing tells their backbone's digest."""
    import torch

    from encoders_2d.backbones import CLS, reference, registry
    from encoders_2d.heads import ImageHeads

    entry = registry().get(preset.image_backbone)
    if (made_for := reference(entry, directory)) is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        heads = ImageHeads(
            feature_width=entry.widths[CLS],
            frame_width=preset.frame_width,
            hidden_width=preset.image_hidden_width,
            width=preset.width,
        )
    return (heads.floorplan() if floorplan else heads).section(made_for, entry.preprocessing)


_floorplan = partial(_image, floorplan=True)


def _networks(preset: Preset) -> tuple[SceneResNetConfig, PointTransformerConfig]:
    """The networks of clouds and of objects; the published one of clouds has colours alone."""
    from encoders_3d.point_transformer import COMPACT, STANDARD
    from encoders_3d.scenes import WITH_PRESENCE
    from encoders_3d.sparse.scene_resnet import NARROW, RESNET34

    if preset.name == PresetName.CROSSOVER:
        return RESNET34, STANDARD
    return replace(NARROW, in_channels=WITH_PRESENCE), COMPACT


def _points(preset: Preset, seed: int) -> SectionContent:
    """An untrained encoder of clouds."""
    import torch

    from encoders_3d.scenes import CloudConstants, SceneEncoder

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        constants = CloudConstants(voxel_m=preset.voxel_m)
        return SceneEncoder(_networks(preset)[0], constants, preset.width).section()


def _objects(preset: Preset, seed: int) -> SectionContent:
    """An untrained encoder of objects."""
    import torch

    from encoders_3d.objects import ObjectConstants, ObjectEncoder

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ObjectEncoder(_networks(preset)[1], ObjectConstants(), preset.width).section()


# Section name to the function that makes its untrained content from a preset and a seed.
INITIALISERS: Mapping[str, Initialiser] = {
    "fusion": _fusion,
    "text": _text,
    "image": _image,
    "floorplan": _floorplan,
    "points": _points,
    "objects": _objects,
}
# A section that shares tensors with another is made from the same random numbers.
SEEDED_AS: Mapping[str, str] = {"floorplan": "image"}


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

        made = {each: make(preset, _section_seed(each, seed)) for each, make in initialisers.items()}
        content = BundleContent(
            name=name,
            preset=preset.name,
            width=preset.width,
            trained=False,
            sections={each: section for each, section in made.items() if section is not None},
            notes=f"Random weights, seed {seed}.",
        )
    return write_bundle(content, directory)


def ensure_untrained(path: Path, *, seed: int) -> None:
    """Make the untrained `small` bundle where there is none, or one that lacks sections."""
    if path.is_dir():
        manifest = parse(load_json((path / MANIFEST_FILE).read_bytes(), MANIFEST_FILE))
        if manifest.trained or set(INITIALISERS) <= set(manifest.sections):
            return
        shutil.rmtree(path)
    init_bundle(PRESETS[PresetName.SMALL], path, name=path.name, seed=seed)


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="Directory to write; its parent is made where needed.")],
    preset: Annotated[PresetName, typer.Option(help="Sizes of the model.")] = PresetName.SMALL,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; without it, that of the directory.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    text_backbone: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the text backbone; needed where none is published, as for crossover."
        ),
    ] = None,
    image_backbone: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the image backbone; needed where none is published, as for crossover."
        ),
    ] = None,
) -> None:
    """Make an untrained bundle, for tests and as a place to start training.

    Example: python -m deploy bundle init --preset small --out bundles/small
    """
    initialisers: dict[str, Initialiser] = {
        **INITIALISERS,
        "text": partial(_text, directory=text_backbone),
        "image": partial(_image, directory=image_backbone),
        "floorplan": partial(_floorplan, directory=image_backbone),
    }
    name = name or out.absolute().name
    with one_sentence():
        bundle = init_bundle(PRESETS[preset], out, name=name, seed=seed, initialisers=initialisers)
    sections = ", ".join(sorted(bundle.manifest.sections))
    typer.echo(f"{out}: untrained bundle {name} of {sections}, model_id {bundle.model_id}")
    if left_out := sorted(set(initialisers) - set(bundle.manifest.sections)):
        typer.echo(f"left out: {', '.join(left_out)}; no published digest of a backbone", err=True)


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    max_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of all tensor files.")] = MAX_BUNDLE_BYTES,
) -> None:
    """Verify a bundle and show what is in it.

    Example: python -m deploy bundle show bundles/small --json
    """
    with one_sentence(), _extra():
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
    name = SEEDED_AS.get(section, section)
    return int.from_bytes(hashlib.sha256(f"{name}:{seed}".encode()).digest()[:4], "little")


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Name the extra where torch or safetensors is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        extras = {"tokenizers": "text", "PIL": "image"}
        if error.name not in ("torch", "safetensors", "numpy", *extras):
            raise
        extra = extras.get(error.name, "fusion")
        raise ExtraMissing.named("bundle", extra) from error
