"""The `bench` commands: measuring, and writing the page about what was measured."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from deploy import backbones, bundles
from deploy.bench import cases, fleet, machine, plot, report, rounds, samples, workloads
from deploy.bench.cases import Choice
from deploy.bench.fleet import Fleet, Places
from deploy.bench.samples import Record
from deploy.stack import until_interrupted

app = typer.Typer(help="Measure what serving costs.", no_args_is_help=True)

NAME = "serving"
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Files:
    """Where a run leaves what it found."""

    directory: Path
    name: str

    @property
    def record(self) -> Path:
        """All samples."""
        return self.directory / f"{self.name}.json"

    @property
    def page(self) -> Path:
        """What they say."""
        return self.directory / f"{self.name}.md"

    def write_page(self, record: Record) -> None:
        """The page, and its picture where the text encoder was measured."""
        self.page.write_text(report.page(record, self.record.name))
        if record.cells(cases.TEXT):
            (self.directory / report.EFFICIENCY_PLOT).write_text(plot.efficiency_svg(record))


@app.callback()
def root() -> None:
    """Measure what serving costs."""


@app.command()
def serving(
    num_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; figures are medians.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time of each measurement.")] = 3.0,
    only: Annotated[str, typer.Option(help="Groups to measure.")] = ",".join(cases.GROUPS),
    peers: Annotated[str, typer.Option(help="Other servers to compare; empty: none.")] = ",".join(
        cases.PEERS
    ),
    window_ms: Annotated[float, typer.Option(min=0, help="Time a batch may wait, everywhere.")] = 5.0,
    max_batch: Annotated[int, typer.Option(min=1, help="Sentences of a batch, bare and peers'.")] = 32,
    out: Annotated[Path, typer.Option(help="Directory of the page and the samples.")] = Path(
        "docs/benchmarks"
    ),
    name: Annotated[str, typer.Option(help="Name of the page and of the file of samples.")] = NAME,
    data_dir: Annotated[Path, typer.Option(help="Backbones, environments of peers, logs.")] = Path("var"),
    resume: Annotated[bool, typer.Option("--resume", help="Add what the record in --out lacks.")] = False,
) -> None:
    """Measure the serving runtime beside bare computation, plain gRPC and other servers.

    Every round is kept; after an interruption, --resume goes on.

    Example: python -m deploy bench serving --rounds 2 --seconds 1 --only text,empty --peers mosec
    """
    choice = Choice(
        groups=_named(only, cases.GROUPS, "--only"),
        peers=_named(peers, cases.PEERS, "--peers"),
        seconds=seconds,
        max_batch=max_batch,
    )
    files = Files(out, name)
    record = _record(choice, window_ms, files.record, resume=resume)
    places = _places(data_dir.absolute(), choice)
    record.run |= {"peers": fleet.peer_versions(places.venvs, choice.peers)} if choice.peers else {}
    console = Console(stderr=True)
    if not _measured(Fleet(choice, places, window_ms), record, num_rounds, files, console):
        console.print("interrupted; what was measured is kept, --resume goes on")
        raise typer.Exit(EXIT_INTERRUPTED)
    console.print(f"{files.page} is written")


@app.command()
def sparse(
    num_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; the fastest counts.")] = 5,
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "2,1",
    max_voxels: Annotated[int, typer.Option(min=1, help="Leave out larger cases.")] = 200_000,
    out: Annotated[Path, typer.Option(help="Directory of the page and the record.")] = Path(
        "docs/benchmarks"
    ),
) -> None:
    """Measure the engines of sparse convolution, beside MinkowskiEngine where it is installed.

    Example: python -m deploy bench sparse --rounds 2 --threads 2 --max-voxels 20000
    """
    from deploy.bench import sparse_page, sparse_run

    numbers = [int(number) for number in _named(threads, [str(n) for n in range(1, 65)], "--threads")]
    run = _run_facts(num_rounds)
    with Progress(console=Console(stderr=True)) as progress:
        rows = sparse_run.measure_all(numbers, num_rounds, max_voxels, progress)
    run["load_after"] = machine.load()
    sparse_page.save(rows, run, out / sparse_page.RECORD_FILE)
    (out / sparse_page.PAGE_FILE).write_text(sparse_page.page(rows, run))
    typer.echo(f"{out / sparse_page.PAGE_FILE} is written")


@app.command()
def points(
    num_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; figures are medians.")] = 7,
    num_threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of a computation.")] = 1,
    out: Annotated[Path, typer.Option(help="Directory of the page and the record.")] = Path(
        "docs/benchmarks"
    ),
    data_dir: Annotated[Path, typer.Option(help="Bundle and logs.")] = Path("var"),
) -> None:
    """Measure the points service beside its bare network, and batches beside single clouds.

    Example: python -m deploy bench points --rounds 3
    """
    from deploy.bench import points as encoder

    bundle = (data_dir / "bench" / "points" / bundles.PresetName.SMALL).absolute()
    sections = {name: bundles.INITIALISERS[name] for name in ("points", "objects")}
    preset = bundles.PRESETS[bundles.PresetName.SMALL]
    bundles.init_bundle(preset, bundle, name=bundle.name, seed=workloads.SEED, initialisers=sections)
    run = _run_facts(num_rounds) | {"num_threads": num_threads}
    logs = data_dir.absolute() / "bench" / "logs"
    found, engine = encoder.measure(bundle, logs, num_rounds=num_rounds, num_threads=num_threads)
    run |= {"engine": engine, "load_after": machine.load()}
    out.mkdir(parents=True, exist_ok=True)
    content = {"run": run, "seconds": found.seconds}
    (out / encoder.RECORD_FILE).write_text(json.dumps(content, indent=1) + "\n")
    (out / encoder.PAGE_FILE).write_text(encoder.page(found, run))
    typer.echo(f"{out / encoder.PAGE_FILE} is written")


@app.command()
def rooms(
    data: Annotated[Path, typer.Argument(help="Folder of furnished rooms.")],
    prepared: Annotated[Path, typer.Option(help="Folder of the scenes that were prepared from them.")],
    out: Annotated[Path, typer.Option(help="Directory of the page and the record.")] = Path(
        "docs/benchmarks"
    ),
    backbones_dir: Annotated[Path, typer.Option(help="Frozen networks.")] = backbones.CACHE_DIR,
    min_pixels: Annotated[int, typer.Option(min=1, help="Pixels of a piece that is seen.")] = 500,
    min_vertices: Annotated[int, typer.Option(min=1, help="Vertices of a piece that is scanned.")] = 50,
    num_draws: Annotated[int, typer.Option("--draws", min=1, help="Draws for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> None:
    """Count what furnished rooms hold, and probe them with cheap cues and frozen features.

    Example: python -m deploy bench rooms var/rooms --prepared var/prepared/rooms
    """
    from deploy.bench import rooms as pages
    from trainer.data.probes.census import Seen
    from trainer.data.probes.neighbours import FrozenNetwork
    from trainer.data.probes.study import Settings, study
    from trainer.data.probes.trials import Bootstrap

    settings = Settings(
        seen=Seen(min_pixels=min_pixels, min_vertices=min_vertices),
        bootstrap=Bootstrap(num_draws=num_draws, seed=seed),
    )
    run = _run_facts(1) | pages.origin(data)
    network = FrozenNetwork(backbones.ensure(backbones.MOBILENET, backbones_dir)[0])
    found = study(data, prepared, network, settings)
    out.mkdir(parents=True, exist_ok=True)
    record = pages.record(found, run, settings)
    (out / pages.RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
    (out / pages.PAGE_FILE).write_text(pages.page(found, run, settings))
    typer.echo(f"{out / pages.PAGE_FILE} is written")


def _run_facts(num_rounds: int) -> dict[str, Any]:
    """When, where and how a run was made."""
    return {
        "command": shlex.join(["python", "-m", "deploy", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": machine.commit(),
        "num_rounds": num_rounds,
        "machine": machine.facts(),
        "load_before": machine.load(),
    }


@app.command(name="page")
def write_page(
    out: Annotated[Path, typer.Option(help="Directory of the samples.")] = Path("docs/benchmarks"),
    name: Annotated[str, typer.Option(help="Name of the page and of the file of samples.")] = NAME,
) -> None:
    """Write the page anew from the samples that are there.

    Example: python -m deploy bench page --out docs/benchmarks
    """
    files = Files(out, name)
    files.write_page(samples.load(files.record))
    typer.echo(files.page)


def _named(text: str, known: Sequence[str], flag: str) -> tuple[str, ...]:
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(f"{flag}: {', '.join(unknown)} is none of {', '.join(known)}")
    return wanted


def _record(choice: Choice, window_ms: float, path: Path, *, resume: bool) -> Record:
    """The record that samples go to: a new one, or the one that is there."""
    plan: dict[str, Any] = {
        "commit": machine.commit(),
        "seconds": choice.seconds,
        "window_ms": window_ms,
        "max_batch": choice.max_batch,
        "seed": workloads.SEED,
        "cells": {group: list(cells) for group, cells in cases.CELLS.items()},
        "machine": machine.facts(),
    }
    record = samples.resumed(path, plan) if resume else Record(plan=plan)
    command = shlex.join(["python", "-m", "deploy", *sys.argv[1:]])
    record.run.setdefault("command", command)
    record.run.setdefault("date", datetime.now(UTC).isoformat(timespec="minutes"))
    record.run.setdefault("load_before", machine.load())
    return record


def _places(data_dir: Path, choice: Choice) -> Places:
    """The directories of a run, with the model in them where it is needed."""
    places = Places(
        bundle=data_dir / "bench" / "bundles" / bundles.PresetName.SMALL,
        backbones=data_dir / "backbones",
        venvs=data_dir / "venvs",
        work=data_dir / "bench" / "logs",
    )
    if {cases.TEXT, cases.IMAGE} & set(choice.groups):
        for each in backbones.SOURCES:
            backbones.ensure(each, places.backbones)
        bundles.ensure_untrained(places.bundle, seed=workloads.SEED)
    return places


def _measured(processes: Fleet, record: Record, num_rounds: int, files: Files, console: Console) -> bool:
    """Measure and write the page; False when interrupted."""
    with until_interrupted(), processes as running, Progress(console=console) as progress:
        rounds.measure(running, record, num_rounds, files.record, progress)
        record.run["load_after"] = machine.load()
        samples.save(record, files.record)
        files.write_page(record)
        return True
    return False
