"""The command that makes tokens."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.tokens import app
from xscene.serving.security import Role, parse_tokens

RUNNER = CliRunner()


def add(path: Path, *flags: str) -> str:
    result = RUNNER.invoke(app, ["add", str(path), "--tenant", "acme", *flags])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_token_is_printed_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    first, second = add(path), add(path, "--role", "admin", "--days", "2")
    entries = parse_tokens(path.read_text())
    assert [entry.sha256 for entry in entries] == [
        hashlib.sha256(t.encode()).digest() for t in (first, second)
    ]
    assert [entry.identity.role for entry in entries] == [Role.READER, Role.ADMIN]
    assert entries[0].expires is None
    assert timedelta(days=1) < entries[1].expires - datetime.now(UTC) <= timedelta(days=2)
    assert first not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["{", "{}", "[1]"])
def test_a_broken_table_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    result = RUNNER.invoke(app, ["add", str(path), "--tenant", "acme"])
    assert result.exit_code == 1
    assert path.read_text() == content
    assert "Traceback" not in result.output


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["add", str(tmp_path / "none" / "tokens.json"), "--tenant", "acme"])
    assert (result.exit_code, "none" in result.output) == (1, True)
