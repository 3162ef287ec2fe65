"""All services of one machine as child processes: start, watch, report, stop."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from xscene.client import health
from xscene.client.connection import Connection
from xscene.errors import NotReady, SettingsInvalid
from xscene.services import SERVICES

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0
LOG_TAIL_LINES = 5


@dataclass(frozen=True)
class Member:
    """One service of the stack and the flags it is started with."""

    name: str
    port: int
    flags: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"


class Stack:
    """The running services; leaving the context stops them in reverse order."""

    def __init__(self, members: Sequence[Member], log_dir: Path) -> None:
        self.members = tuple(members)
        self._log_dir = log_dir
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Stack:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for member in self.members:
                _require_free(member)
            for member in self.members:
                self._start(member)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, member: Member) -> None:
        module = SERVICES[member.name].package
        command = [sys.executable, "-m", module, "--port", str(member.port), *member.flags]
        with self.log_file(member.name).open("wb") as log:
            # A session of its own: Ctrl-C reaches this process only, which then stops them in order.
            self._processes[member.name] = subprocess.Popen(  # noqa: S603 - our own modules
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _wait_ready(self) -> None:
        until = time.monotonic() + READY_TIMEOUT_S
        for member in self.members:
            while not health.check(Connection(address=member.address)).ready:
                self.check_alive()
                if time.monotonic() > until:
                    raise NotReady(f"{member.name} was not ready within {READY_TIMEOUT_S:.0f} s")
                time.sleep(0.1)
        # What answered may be another process, which took the port before a service of ours could.
        self.check_alive()

    def check_alive(self) -> None:
        """Raise when a service has ended by itself, with the end of its log."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                lines = self.log_file(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
                tail = "\n".join(lines)
                raise NotReady(f"{name} ended with exit code {process.returncode}:\n{tail}")

    def log_file(self, name: str) -> Path:
        """Where a service's output goes."""
        return self._log_dir / f"{name}.log"

    def stop(self) -> None:
        """SIGTERM to each, wait for its drain, SIGKILL only past the limit."""
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_TIMEOUT_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def table(self) -> Table:
        """What runs where, and how it is."""
        table = Table("service", "address", "metrics", "state", "log")
        for member in self.members:
            state = health.check(Connection(address=member.address)).state
            page = f"http://127.0.0.1:{SERVICES[member.name].metrics_port}/metrics"
            shown = page if member.port == SERVICES[member.name].port else "off"
            log = os.path.relpath(self.log_file(member.name))
            table.add_row(member.name, member.address, shown, state, log)
        return table


def _require_free(member: Member) -> None:
    """Refuses a port that another process uses, which would be taken for the service."""
    with socket.socket() as probe:
        # Connections that were closed a moment ago do not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", member.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "another process uses it" if taken else error.strerror
            raise SettingsInvalid(f"{member.name}: port {member.port}: {reason}") from None


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, and end quietly on either."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)
