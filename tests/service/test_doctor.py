"""The command that asks services whether they are ready."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.credentials import Authority
from tests.service.probe import Probe, serving_in_thread
from xscene import cli
from xscene.serving.settings import ServerSettings

COMMAND = [sys.executable, "-c", "from xscene.cli import main; main()", "doctor"]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *flags: str) -> tuple[int, str, str]:
    """Exit code, and what is printed on either stream."""
    monkeypatch.setattr(sys, "argv", ["xscene", "doctor", *flags])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--ca-cert", "none.pem"), "InvalidInput: ca_cert: cannot be read: No such file or directory"),
        (("--ca-cert", "."), "InvalidInput: ca_cert: cannot be read: Is a directory"),
        (
            ("--client-cert", "none.pem"),
            "InvalidInput: client_cert, client_key: go together; one of them is n",
        ),
        (("--timeout-s", "0"), "InvalidInput: timeout_s: 0.0 s, needs more than 0"),
        (("--timeout-s", "nan"), "InvalidInput: timeout_s: nan s, needs more than 0"),
    ],
)
def test_a_flag_that_cannot_be_right_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    flags: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(monkeypatch, capsys, "fusion", *flags)
    assert code == 1
    assert error.startswith(sentence)
    assert len(error.splitlines()) == 1


def test_tls_is_asked_with_the_authority_that_is_named_or_with_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    authority = Authority()
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert)
    cert, key = authority.issue().write(tmp_path, "server")
    settings = ServerSettings(metrics_port=0, tls_cert=cert, tls_key=key)
    with serving_in_thread(Probe, settings) as server:
        asked = f"fusion=localhost:{server.port}"
        assert run(monkeypatch, capsys, asked, "--ca-cert", str(ca))[0] == 0
        assert run(monkeypatch, capsys, asked)[0] == 1
        stranger = tmp_path / "stranger.crt"
        stranger.write_bytes(Authority("stranger").cert)
        assert exit_code_where_the_system_trusts(ca, asked) == 0
        assert exit_code_where_the_system_trusts(stranger, asked) == 1


def exit_code_where_the_system_trusts(authority: Path, asked: str) -> int:
    """Of a process of its own: it reads the authorities of the system once."""
    environment = os.environ | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority)}
    return subprocess.run([*COMMAND, "--tls", asked], check=False, env=environment, timeout=60).returncode
