"""The `rooms` commands: fetching furniture, making furnished rooms, looking at them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.endings import extra, one_sentence
from deploy.progress import progress_bar

if TYPE_CHECKING:
    from trainer.data.rooms.production import Report

app = typer.Typer(help="Make furnished rooms, the built-in data set.", no_args_is_help=True)

FURNITURE = Path("var/furniture")
PARTS = ("numpy", "PIL", "trimesh", "moderngl")
Furniture = Annotated[Path, typer.Option(help="Folder of the furniture library.")]


@app.command()
def fetch_furniture(
    furniture: Furniture = FURNITURE,
    package: Annotated[
        Path | None, typer.Option(help="The Debian package's file, where apt-get cannot download it.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    max_faces: Annotated[int, typer.Option(min=100, help="Most faces of a model.")] = 9000,
) -> None:
    """Download the furniture of Debian's sweethome3d-furniture and turn it into a library.

    Example: python -m deploy rooms fetch-furniture
    """
    with one_sentence(), extra("rooms", "rooms", PARTS):
        from trainer.data.rooms.library import build_library
        from trainer.data.rooms.models import BakeLimits
        from trainer.data.rooms.package import unpack_archives

        archives = unpack_archives(furniture / "archives", file=package)
        with progress_bar("models") as progress:
            library = build_library(
                archives,
                furniture,
                limits=BakeLimits(max_faces=max_faces),
                workers=workers,
                progress=progress,
            )
    families = len({asset.family for asset in library.assets})
    typer.echo(f"{furniture}: {len(library.assets)} models of {families} families")


@app.command()
def make(
    out: Annotated[Path, typer.Option(help="Folder of the data set; made or completed.")],
    count: Annotated[int, typer.Option(min=1, help="Places; some are scanned twice.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same rooms.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    rescan_share: Annotated[float, typer.Option(min=0, max=1, help="Share of places scanned twice.")] = 0.5,
    furniture: Furniture = FURNITURE,
    report: Annotated[bool, typer.Option("--report", help="Print what each step cost.")] = False,
) -> None:
    """Make rooms; a run that was stopped, even killed, goes on where it was.

    Example: python -m deploy rooms make --count 12 --seed 0 --out var/rooms
    """
    with one_sentence(), extra("rooms", "rooms", PARTS):
        from trainer.data.rooms.captures import Recipe
        from trainer.data.rooms.production import MANIFEST, Order
        from trainer.data.rooms.production import make as produce

        recipe = Recipe(seed=seed, rescan_share=rescan_share)
        order = Order(out=out, furniture=furniture, count=count, recipe=recipe, workers=workers)
        with progress_bar("places") as progress:
            cost = produce(order, progress)
    typer.echo(f"{out}: {len(order.scans())} scans of {count} places, {cost.num_scans} made now; {MANIFEST}")
    if report:
        _print_report(cost, recipe.num_views, recipe.num_scan_views)


@app.command()
def show(
    room: Annotated[Path, typer.Argument(help="Folder of a scan, such as var/rooms/scans/scene0000_00.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write [default: ROOM.png here].")] = None,
) -> None:
    """Write one picture of a room: views, cloud, floorplans, sentences.

    Example: python -m deploy rooms show var/rooms/scans/scene0000_00
    """
    with one_sentence(), extra("rooms", "rooms", PARTS):
        from trainer.data.rooms.pictures import picture

        target = out or Path(f"{room.absolute().name}.png")
        picture(room.absolute()).save(target)
    typer.echo(str(target))


@app.command()
def sheet(
    data: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("rooms.png"),
    count: Annotated[int, typer.Option(min=1, help="Rooms, of different kinds and splits.")] = 24,
) -> None:
    """Write one picture of many rooms, each with a view, cloud, floorplan and sentence.

    Example: python -m deploy rooms sheet var/rooms --out rooms.png
    """
    with one_sentence(), extra("rooms", "rooms", PARTS):
        from trainer.data.rooms.sheet import sheet as drawn

        image, scans = drawn(data, count)
        image.save(out)
    typer.echo(f"{out}: {len(scans)} rooms")


@app.command()
def check(out: Annotated[Path, typer.Argument(help="Folder of the data set.")]) -> None:
    """Compare every file of a data set with its digest; exit 1 where one differs.

    Example: python -m deploy rooms check var/rooms
    """
    with one_sentence(), extra("rooms", "rooms", PARTS):
        from trainer.data.rooms.production import check as compare

        faults = compare(out)
    for fault in faults:
        typer.echo(f"differs: {fault}", err=True)
    if faults:
        typer.echo("rooms make with the same options makes anew what differs", err=True)
        raise typer.Exit(1)
    typer.echo("all files are as they were made")


def _print_report(cost: Report, num_views: int, num_scan_views: int) -> None:
    console = Console()
    if not cost.num_scans:
        console.print("nothing was made, so nothing is measured")
        return
    table = Table("step", "CPU ms a room", "share")
    for name, seconds, share in cost.shares():
        table.add_row(name, f"{seconds * 1000:.0f}", f"{share:.0%}")
    console.print(table)
    for name, count in (("render views", num_views), ("render scan", num_scan_views)):
        each = cost.seconds[name] / cost.num_scans / count
        console.print(f"{name}: {each * 1000:.1f} CPU ms a view")
    console.print(
        f"{cost.rooms_per_cpu_hour:.0f} rooms per CPU-hour on {cost.device}; all but rendering and loading"
        f" takes {1 - cost.rendering_share:.0%}"
    )
