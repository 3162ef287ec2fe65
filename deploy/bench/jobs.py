"""What the benchmark and its working processes say to each other: one line of JSON at a time.

A job is warmed up, then the worker waits for the word to begin, so that CPU time can be read
just before and just after the calls.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from deploy.bench import figures
from deploy.bench.processes import Child
from xscene.errors import PreconditionFailed

BEGIN = "begin\n"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement, as a worker is told of it."""

    kind: str
    seconds: float
    num_callers: int = 1
    address: str = ""
    token: str = ""
    payload: str = ""
    shape: tuple[int, ...] = ()
    batch: int = 1
    num_threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a worker saw of the calls it made."""

    num_calls: int
    wall_s: float
    cpu_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


class Work(Protocol):
    """A job in a worker."""

    def warm_up(self) -> list[float]:
        """Make a few calls; the values of an answer, where they can be compared with others'."""

    def run(self) -> list[float]:
        """Make calls until the time is up; the seconds of each."""

    def close(self) -> None:
        """Give everything back."""


def answer(make: Callable[[Job], Work]) -> None:
    """Do the jobs that come over standard input, until it ends."""
    for line in iter(sys.stdin.readline, ""):
        try:
            _do(make(_job(line)))
        except Exception as error:  # noqa: BLE001 - told to the benchmark
            _say({"error": repr(error)})


def _do(work: Work) -> None:
    try:
        _say({"values": work.warm_up()})
        if sys.stdin.readline() != BEGIN:
            return
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        seconds = sorted(work.run())
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        latencies = {f"p{n}_ms": figures.quantile(seconds, n / 100) * 1e3 for n in (50, 90, 99)}
        outcome = Outcome(num_calls=len(seconds), wall_s=wall_s, cpu_s=cpu_s, **latencies)
        _say(dataclasses.asdict(outcome))
    finally:
        work.close()


def _job(line: str) -> Job:
    given = json.loads(line)
    return Job(**given | {"shape": tuple(given["shape"])})


def _say(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Measurement:
    """A job that was done: what the worker saw, and the CPU time that the measured process took."""

    outcome: Outcome
    server_cpu_s: float
    values: list[float]


def measure(worker: Child, job: Job, measured: Child) -> Measurement:
    """Have a worker do a job, and account the CPU time of a process over exactly its calls."""
    _tell(worker, json.dumps(dataclasses.asdict(job)) + "\n")
    values = _hear(worker)["values"]
    before_s = measured.cpu_s()
    _tell(worker, BEGIN)
    outcome = Outcome(**_hear(worker))
    server_cpu_s = measured.cpu_s() - before_s
    measured.check_alive()
    return Measurement(outcome, server_cpu_s, values)


def _tell(worker: Child, line: str) -> None:
    worker.check_alive()
    worker.stdin.write(line)
    worker.stdin.flush()


def _hear(worker: Child) -> dict[str, Any]:
    line = worker.stdout.readline()
    if not line:
        worker.check_alive()
        raise PreconditionFailed(f"{worker.program.name} closed its output:\n{worker.log()}")
    content: dict[str, Any] = json.loads(line)
    if "error" in content:
        raise PreconditionFailed(f"{worker.program.name}: {content['error']}")
    return content
