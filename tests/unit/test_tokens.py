"""The command that makes tokens."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.tokens import app
from xscene.serving.security import Role, parse_tokens

RUNNER = CliRunner()
ROOT = Path(__file__).resolve().parents[2]


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


ADD_MANY = """
import sys
from pathlib import Path
from deploy.tokens import RoleName, add
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    add(Path(sys.argv[1]), "acme", RoleName.READER, None)
"""


def test_what_many_processes_add_at_the_same_time_is_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    command = [sys.executable, "-c", ADD_MANY, str(path)]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **piped) for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [token for process in processes for token in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * 8
    digests = {hashlib.sha256(token.encode()).digest() for token in printed}
    assert len(digests) == 80
    assert {entry.sha256 for entry in parse_tokens(path.read_text())} == digests
    assert sorted(found.name for found in tmp_path.iterdir()) == [".tokens.json.lock", "tokens.json"]


def test_a_table_keeps_its_mode_and_the_link_that_leads_to_it(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "table.json", tmp_path / "tokens.json"
    real.parent.mkdir()
    link.symlink_to(real)
    add(link)
    assert real.stat().st_mode & 0o777 == 0o600
    real.chmod(0o640)
    add(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(parse_tokens(real.read_text())) == 2


def test_a_table_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    add(path)
    # Who is not root can give a file only to a group of their own.
    user, group = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getgroups()[-1])
    os.chown(path, user, group)
    add(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (user, group)


def test_a_table_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.mkdir()
    result = RUNNER.invoke(app, ["add", str(path), "--tenant", "acme"])
    assert (result.exit_code, "Is a directory" in result.output) == (1, True)
    assert sorted(found.name for found in tmp_path.iterdir()) == [".tokens.json.lock", "tokens.json"]
