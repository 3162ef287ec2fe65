"""The command line of the client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from xscene.client import health
from xscene.client.connection import Connection
from xscene.errors import XSceneError
from xscene.services import SERVICES

app = typer.Typer(help="Client of the xscene services.", no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """Client of the xscene services."""


@app.command()
def doctor(
    services: Annotated[
        list[str] | None, typer.Argument(help="Names, or NAME=HOST:PORT [default: all].")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Host of services that are named without an address.")
    ] = "localhost",
    token: Annotated[str, typer.Option(envvar="XSCENE_CLIENT_TOKEN", help="Bearer token.")] = "",
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS with the system's authorities.")] = False,
    ca_cert: Annotated[Path | None, typer.Option(help="PEM file of the authority; turns TLS on.")] = None,
    client_cert: Annotated[Path | None, typer.Option(help="PEM file to show to the server.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for each answer.")] = 2.0,
) -> None:
    """Ask each service whether it is ready; exit 1 unless all that were asked are.

    Example: xscene doctor fusion gateway=robot.local:50050
    """
    table = Table("service", "address", "state", "ms", "detail")
    all_ready = True
    for name, address in _addresses(services or list(SERVICES), host):
        connection = Connection(
            address=address,
            token=token,
            tls=tls,
            ca_cert=ca_cert,
            client_cert=client_cert,
            client_key=client_key,
        )
        found = health.check(connection, timeout_s=timeout_s)
        all_ready &= found.ready
        table.add_row(name, address, found.state, f"{found.seconds * 1000:.0f}", found.detail)
    Console().print(table)
    if not all_ready:
        raise typer.Exit(1)


def _addresses(services: list[str], host: str) -> list[tuple[str, str]]:
    found = []
    for item in services:
        name, _, address = item.partition("=")
        if name not in SERVICES:
            raise typer.BadParameter(f"{name} is none of {', '.join(SERVICES)}")
        found.append((name, address or f"{host}:{SERVICES[name].port}"))
    return found


def main() -> None:
    """Entry point; errors of ours end in one sentence."""
    try:
        app()
    except XSceneError as error:
        typer.echo(f"{type(error).__name__}: {error.message}", err=True)
        raise SystemExit(1) from None
