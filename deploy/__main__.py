"""The operator's command line: `python -m deploy --help`."""

from __future__ import annotations

import importlib.util
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy import backbones, bundles, prepare, rooms, tokens
from deploy.bench.app import app as bench_app
from deploy.demo import calls
from deploy.stack import free_port, until_interrupted
from xscene.cli import app as client_app
from xscene.errors import XSceneError
from xscene.services import SERVICES
from xscene.serving import process

app = typer.Typer(help="Operates xscene from the source tree.", no_args_is_help=True, add_completion=False)
app.add_typer(backbones.app, name="backbones")
app.add_typer(bench_app, name="bench")
app.add_typer(bundles.app, name="bundle")
app.add_typer(tokens.app, name="token")
app.add_typer(rooms.app, name="rooms")
app.add_typer(prepare.app, name="prepare")
for command in client_app.registered_commands:
    app.registered_commands.append(command)

WATCH_INTERVAL_S = 1.0
BackbonesDir = Annotated[Path, typer.Option(help="Frozen networks, as `backbones fetch` writes them.")]
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASS_ON)
def serve(ctx: typer.Context, service: Annotated[str, typer.Argument(help="Name of the service.")]) -> None:
    """Run one service in this process; everything after its name is its own flags.

    Example: python -m deploy serve fusion --help
    """
    if service == "--help":  # after a service's name it is the service's own
        typer.echo(ctx.get_help())
        raise typer.Exit
    if service not in SERVICES:
        raise typer.BadParameter(f"{service} is none of {', '.join(SERVICES)}")
    if importlib.util.find_spec(SERVICES[service].package) is None:
        raise typer.BadParameter(f"{service} is not part of this version")
    sys.argv = [service, *ctx.args]
    runpy.run_module(SERVICES[service].package, run_name="__main__", alter_sys=True)


@app.command()
def up(
    data_dir: Annotated[Path, typer.Option(help="Bundles and logs.")] = Path("var"),
    backbones_dir: BackbonesDir = backbones.CACHE_DIR,
) -> None:
    """Start every service on its own port and stay until Ctrl-C.

    Example: python -m deploy up
    """
    console = Console()
    ports = {name: info.port for name, info in SERVICES.items()}
    with until_interrupted(), calls.whole_stack(data_dir, backbones_dir, ports) as stack:
        console.print(stack.table())
        calls.show(stack, console)
        console.print("up; Ctrl-C stops everything")
        while True:
            time.sleep(WATCH_INTERVAL_S)
            stack.check_alive()


@app.command(name="demo")
def run_demo(backbones_dir: BackbonesDir = backbones.CACHE_DIR) -> None:
    """Start every service on free ports in a temporary folder, run the demo's calls, stop.

    Example: python -m deploy demo
    """
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        ports = {name: free_port() for name in SERVICES}
        with calls.whole_stack(Path(folder), backbones_dir, ports, "--metrics-port", "0") as stack:
            console.print(stack.table())
            calls.show(stack, console)


def main() -> None:
    """Entry point; errors of ours end in one sentence."""
    process.prepare()
    try:
        app()
    except XSceneError as error:
        typer.echo(f"{type(error).__name__}: {error.message}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
