"""Child processes of a benchmark: started with equal threads, accounted as a tree, always ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from deploy.stack import ROOT
from xscene.errors import ExtraMissing, NotReady

if TYPE_CHECKING:
    import psutil

STOP_TIMEOUT_S = 20.0
# For children that clean up when their parent has ended.
LEFT_BEHIND_TIMEOUT_S = 1.0
LOG_TAIL_LINES = 12
MAX_LINE_CHARS = 300
# OpenMP's waiting threads spin by default, and tokenizers starts a thread for each core.
EQUAL_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to start."""

    name: str
    command: Sequence[str]
    port: int = 0
    """Where it listens; 0: it is spoken to over its standard input."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A running program."""

    def __init__(self, program: Program, log_file: Path) -> None:
        self.program = program
        self._log_file = log_file
        settings = EQUAL_THREADS | dict(program.environment)
        assignments = [f"{name}={value}" for name, value in settings.items()]
        piped = subprocess.DEVNULL if program.port else subprocess.PIPE
        with log_file.open("wb") as log:
            # A session of its own: Ctrl-C reaches the benchmark only, which then ends its children.
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                ["env", *assignments, *program.command],  # noqa: S607 - the system's own env
                stdin=piped,
                stdout=log if program.port else subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self) -> int:
        """Its process; `env` replaces itself by the program."""
        return self._process.pid

    @property
    def stdin(self) -> IO[str]:
        """Where it is told what to do."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[str]:
        """Where it answers."""
        assert self._process.stdout is not None
        return self._process.stdout

    def wait_until_listening(self, timeout_s: float) -> None:
        """Return once its port takes connections."""
        until = time.monotonic() + timeout_s
        while not _listens(self.program.port):
            self.check_alive()
            if time.monotonic() > until:
                raise NotReady(f"{self.program.name} did not listen within {timeout_s:.0f} s:\n{self.log()}")
            time.sleep(0.1)

    def check_alive(self) -> None:
        """Raise when it has ended by itself, with the end of its log."""
        if (code := self._process.poll()) is not None:
            raise NotReady(f"{self.program.name} ended with exit code {code}:\n{self.log()}")

    def log(self) -> str:
        """The last lines it wrote."""
        lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(line[:MAX_LINE_CHARS] for line in lines)

    def cpu_s(self) -> float:
        """CPU time of the process and of all below it."""
        return tree_cpu_s(self.pid)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL past the limit, to it and to whatever it leaves behind."""
        below = _below(self.pid)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _end(below)


def accounting() -> ModuleType:
    """The package that knows what processes take; only benchmarks need it."""
    try:
        import psutil
    except ModuleNotFoundError as error:
        raise ExtraMissing.named("bench", "bench") from error
    return psutil


def tree_cpu_s(pid: int) -> float:
    """User and system time of a process, of its descendants, and of those that have ended."""
    lib = accounting()
    total = 0.0
    with contextlib.suppress(lib.NoSuchProcess):
        root = lib.Process(pid)
        for process in (root, *root.children(recursive=True)):
            # A process that ends now is counted in the next look, by its parent.
            with contextlib.suppress(lib.NoSuchProcess):
                times: Any = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _below(pid: int) -> list[psutil.Process]:
    lib = accounting()
    try:
        found: list[psutil.Process] = lib.Process(pid).children(recursive=True)
    except lib.NoSuchProcess:
        return []
    return found


def _end(processes: Iterable[psutil.Process]) -> None:
    lib = accounting()
    _, alive = lib.wait_procs(list(processes), timeout=LEFT_BEHIND_TIMEOUT_S)
    # Start times are compared too, so that a pid that was given anew is left alone.
    for process in alive:
        with contextlib.suppress(lib.NoSuchProcess):
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
