"""The `token` commands: making entries of a token table."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xscene.errors import SettingsInvalid
from xscene.serving.security import parse_tokens

app = typer.Typer(help="Make bearer tokens.", no_args_is_help=True)
TOKEN_BYTES = 32


class RoleName(StrEnum):
    """What a token may do; each role includes the ones before it."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"


@app.callback()
def root() -> None:
    """Make bearer tokens."""


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Token table; made when it is not there.")],
    tenant: Annotated[str, typer.Option(help="Tenant whose scenes the token reaches.")],
    role: Annotated[RoleName, typer.Option(help="What the token may do.")] = RoleName.READER,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires [default: never].")] = None,
) -> None:
    """Add a new token to a table and print it; only its digest is kept.

    Example: python -m deploy token add tokens.json --tenant acme --role writer --days 90
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    digest = hashlib.sha256(token.encode()).hexdigest()
    entry = {"sha256": digest, "tenant": tenant, "role": role.value, "expires": expires}
    try:
        entries = json.loads(file.read_text()) if file.exists() else []
        if not isinstance(entries, list):
            raise SettingsInvalid("the file must hold a list")
        text = json.dumps([*entries, entry], indent=2) + "\n"
        parse_tokens(text)
        _replace(file, text)
    except (OSError, ValueError, TypeError, SettingsInvalid) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(token)


def _replace(file: Path, text: str) -> None:
    """Write a file as a whole, readable by its owner only."""
    staging = file.with_name(f".{file.name}.tmp")
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    staging.replace(file)
