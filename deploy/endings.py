"""How a command ends that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from xscene.errors import XSceneError


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End the command with one sentence and exit status 1 where it failed."""
    try:
        yield
    except (XSceneError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
