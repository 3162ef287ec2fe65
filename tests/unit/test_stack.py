"""The stack of services: what it refuses before it starts, and what it notices when all seems ready."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.stack import Member, Stack, free_port
from tests.service.probe import Probe, serving_in_thread
from xscene.errors import NotReady, SettingsInvalid
from xscene.serving.settings import ServerSettings


class Outrun(Stack):
    """A stack of one service that ends because another process was quicker to take its port."""

    def __init__(self, member: Member, log_dir: Path) -> None:
        super().__init__([member], log_dir)
        self.others = ExitStack()

    def _start(self, member: Member) -> None:
        settings = ServerSettings(metrics_port=0, port=member.port)
        self.others.enter_context(serving_in_thread(Probe, settings))
        with self.log_file(member.name).open("wb") as log:
            command = [sys.executable, "-c", "raise SystemExit('the port is taken')"]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        process.wait()
        self._processes[member.name] = process


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_another_process_uses_is_named_before_anything_starts(tmp_path: Path, host: str) -> None:
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        stack = Stack([Member("text", free_port()), Member("fusion", port)], tmp_path)
        with pytest.raises(SettingsInvalid, match=f"fusion: port {port}: another process uses it"):
            stack.__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_port_whose_last_connection_was_just_closed_is_free(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as services do
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # this side waits for stray packets from now on
    with pytest.raises(NotReady, match="fusion ended with exit code 2"):
        Stack([Member("fusion", port, ("--no-such-flag", "1"))], tmp_path).__enter__()


def test_an_answer_of_another_process_is_not_taken_for_the_service(tmp_path: Path) -> None:
    stack = Outrun(Member("fusion", free_port()), tmp_path)
    with stack.others, pytest.raises(NotReady, match="fusion ended with exit code 1:\nthe port is taken"):
        stack.__enter__()
