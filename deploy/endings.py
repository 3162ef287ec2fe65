"""How a command ends that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import typer

from xscene.errors import ExtraMissing, XSceneError


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End the command with one sentence and exit status 1 where it failed."""
    try:
        yield
    except (XSceneError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextlib.contextmanager
def extra(part: str, name: str, packages: Collection[str]) -> Iterator[None]:
    """Name the extra that a part needs, where one of its packages is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:
            raise
        raise ExtraMissing.named(part, name) from error
