"""The `token` commands: making entries of a token table."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xscene.errors import SettingsInvalid
from xscene.serving.security import parse_tokens

app = typer.Typer(help="Make bearer tokens.", no_args_is_help=True)
TOKEN_BYTES = 32
PRIVATE = 0o600


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
        _append(file.resolve(), entry)
    except (OSError, ValueError, TypeError, SettingsInvalid) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(token)


def _append(table: Path, entry: dict[str, str | None]) -> None:
    """Add an entry to a table, one process at a time."""
    with _locked(table.with_name(f".{table.name}.lock")):
        entries = json.loads(table.read_text()) if table.exists() else []
        if not isinstance(entries, list):
            raise SettingsInvalid("the file must hold a list")
        text = json.dumps([*entries, entry], indent=2) + "\n"
        parse_tokens(text)
        _replace(table, text)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock; the file stays, the lock ends with the process."""
    held = os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _replace(table: Path, text: str) -> None:
    """Write a table as a whole, with the owner and the mode it had; a new one only its owner may read."""
    descriptor, staging = tempfile.mkstemp(prefix=f".{table.name}.", dir=table.parent)
    try:
        with os.fdopen(descriptor, "w") as out:
            if table.exists():
                had = table.stat()
                os.fchown(descriptor, had.st_uid, had.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(had.st_mode))
            out.write(text)
            out.flush()
            os.fsync(descriptor)
        Path(staging).replace(table)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
