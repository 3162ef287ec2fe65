"""The `prepare` commands: scans made into prepared scenes, a look at them, and small packs of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.endings import extra, one_sentence
from deploy.progress import progress_bar

PARTS = ("numpy", "PIL", "safetensors", "trimesh")
OWN_COMMAND = "dataset"


class DatasetFirst(TyperGroup):
    """What is no command is the name of a data set: `prepare NAME` is `prepare dataset NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name before a data set's."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [OWN_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(help="Prepare scans for training.", no_args_is_help=True, cls=DatasetFirst)
Prepared = Annotated[Path, typer.Argument(help="Folder of a prepared data set.")]


@app.command(OWN_COMMAND)
def dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="Name of the data set.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the prepared data set; made or completed.")],
    reader: Annotated[Path | None, typer.Option(help="A Python file that registers the data set.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Most scans, the first by id.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE; docs/data.md lists the settings.")
    ] = None,
) -> None:
    """Prepare a data set; a run that was stopped, even killed, goes on where it was.

    Scans that cannot be prepared are named and left out, and the exit status is 1.

    Example: python -m deploy prepare rooms --root var/rooms --out var/prepared/rooms
    """
    with one_sentence(), extra("prepare", "trainer", PARTS):
        from trainer.data.preparation.production import Order
        from trainer.data.preparation.production import prepare as produce
        from trainer.data.preparation.settings import Settings
        from trainer.data.workers import log_to_stderr

        log_to_stderr()
        order = Order(
            name=name,
            root=root,
            out=out,
            reader=reader,
            settings=Settings.from_words(setting or ()),
            workers=workers,
            limit=limit,
        )
        with progress_bar("scans") as progress:
            report = produce(order, progress)
    for scan_id, fault in report.faults.items():
        typer.echo(f"skipped {scan_id}: {fault}", err=True)
    made, kept, skipped = report.num_made, report.num_kept, len(report.faults)
    typer.echo(f"{out}: {made} scenes made now, {kept} were there, {skipped} skipped")
    raise typer.Exit(1 if skipped else 0)


@app.command()
def check(directory: Prepared) -> None:
    """Compare every file of a prepared data set with its digest; exit 1 at the first that differs.

    Example: python -m deploy prepare check var/prepared/rooms
    """
    with one_sentence(), extra("prepare", "trainer", PARTS):
        from xscene.prepared.dataset import open_dataset

        found = open_dataset(directory)
        found.verify()
    typer.echo(f"{directory}: {len(found.record.scenes)} scenes are as they were written")


@app.command()
def pack(
    directory: Prepared,
    scenes: Annotated[str, typer.Option(help="Ids of the scenes, with commas between them.")],
    out: Annotated[Path, typer.Option(help="Folder of the pack; replaced where it holds one.")],
    max_mib: Annotated[float, typer.Option(min=0.1, help="Largest size of all files together.")] = 12.0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE; docs/data.md lists the settings.")
    ] = None,
) -> None:
    """Make a small prepared data set of a few scenes: thinner clouds, smaller pictures.

    Example: python -m deploy prepare pack var/prepared/rooms --scenes scene0000_00 --out var/pack
    """
    with one_sentence(), extra("prepare", "trainer", PARTS):
        from trainer.data.preparation.packs import PackSettings, write_pack

        wanted = [name.strip() for name in scenes.split(",") if name.strip()]
        settings = PackSettings.from_words(setting or ())
        num_bytes = write_pack(directory, wanted, out, max_bytes=int(max_mib * 2**20), settings=settings)
    typer.echo(f"{out}: {len(wanted)} scenes, {num_bytes / 2**20:.1f} MiB")
