"""CPU time of whole process trees, and children that are ended for certain; on real processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.bench.jobs import Job, measure
from deploy.bench.processes import Child, Program, tree_cpu_s
from deploy.stack import free_port
from xscene.errors import NotReady, PreconditionFailed

BURN = """
import time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""
# Burns in a child that it waits for, or in one that stays.
TREE = (
    BURN
    + """
import subprocess, sys
code = sys.argv[1]
child = subprocess.Popen([sys.executable, "-c", code])
if sys.argv[2] == "wait": child.wait()
burn(0.05)
sys.stdout.write("done\\n"); sys.stdout.flush()
sys.stdin.readline()
"""
)
BURNT_S = 0.3
WORKER = """
import json, sys
from deploy.bench.jobs import answer
class Work:
    def __init__(self, job): self.job = job
    def warm_up(self): return [1.5]
    def run(self): return [0.001] * 98 + [0.004, 0.005]
    def close(self): sys.stderr.write("closed " + self.job.kind)
def make(job):
    if job.kind == "bad": raise ValueError("no such job")
    return Work(job)
answer(make)
"""


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        child.stop()


def tree(how: str, after: str = "") -> Program:
    code = f"{BURN}\nburn({BURNT_S})\n{after}"
    return Program(name="tree", command=[sys.executable, "-c", TREE, code, how])


@pytest.mark.parametrize(("how", "after"), [("wait", ""), ("stay", "time.sleep(60)")])
def test_cpu_time_of_children_counts_whether_they_live_or_have_ended(
    tmp_path: Path, children: list[Child], how: str, after: str
) -> None:
    children.append(Child(tree(how, after), tmp_path / "log"))
    assert children[0].stdout.readline() == "done\n"
    until = time.monotonic() + 30
    while children[0].cpu_s() < BURNT_S + 0.05 and time.monotonic() < until:
        time.sleep(0.05)
    # Starting two interpreters takes some too.
    assert BURNT_S + 0.05 <= children[0].cpu_s() < BURNT_S + 1.5
    assert psutil.Process(children[0].pid).cpu_times().user < BURNT_S


def test_stopping_ends_the_whole_tree(tmp_path: Path) -> None:
    child = Child(tree("stay", "time.sleep(60)"), tmp_path / "log")
    assert child.stdout.readline() == "done\n"
    below = psutil.Process(child.pid).children(recursive=True)
    assert len(below) == 1
    child.stop()
    psutil.wait_procs(below, timeout=10)
    assert [process for process in below if process.is_running()] == []
    assert not psutil.pid_exists(child.pid)


def test_a_process_that_is_gone_has_taken_nothing(tmp_path: Path) -> None:
    child = Child(Program(name="short", command=["true"]), tmp_path / "log")
    child.stop()
    assert tree_cpu_s(child.pid) == 0.0


def test_children_have_equal_threads_and_what_they_were_given(tmp_path: Path, children: list[Child]) -> None:
    code = "import os; print(*[os.environ[n] for n in ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'OWN')])"
    program = Program(name="shows", command=[sys.executable, "-c", code], environment={"OWN": "x y"})
    children.append(Child(program, tmp_path / "log"))
    assert children[0].stdout.readline() == "1 PASSIVE x y\n"


def test_a_server_that_ends_at_once_is_told_with_the_end_of_its_log(
    tmp_path: Path, children: list[Child]
) -> None:
    program = Program(
        name="broken", command=[sys.executable, "-c", "raise SystemExit('no model')"], port=free_port()
    )
    children.append(Child(program, tmp_path / "log"))
    with pytest.raises(NotReady, match="broken ended with exit code 1:\nno model"):
        children[0].wait_until_listening(30)


def test_a_server_that_never_listens_is_given_up(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(Program(name="deaf", command=["sleep", "60"], port=free_port()), tmp_path / "log"))
    with pytest.raises(NotReady, match="deaf did not listen within 0 s"):
        children[0].wait_until_listening(0.2)


def test_a_worker_answers_with_quantiles_of_the_calls_it_made(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(Program(name="worker", command=[sys.executable, "-c", WORKER]), tmp_path / "log"))
    found = measure(children[0], Job(kind="good", seconds=0.1, shape=(1, 1)), children[0])
    assert found.values == [1.5]
    assert found.outcome.num_calls == 100
    assert (found.outcome.p50_ms, found.outcome.p90_ms) == (1.0, 1.0)
    assert found.outcome.p99_ms == pytest.approx(4.01)
    assert found.server_cpu_s >= 0


def test_a_job_that_fails_is_told_and_the_worker_lives_on(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(Program(name="worker", command=[sys.executable, "-c", WORKER]), tmp_path / "log"))
    with pytest.raises(PreconditionFailed, match=r"worker: ValueError.*no such job"):
        measure(children[0], Job(kind="bad", seconds=0.1), children[0])
    assert measure(children[0], Job(kind="good", seconds=0.1), children[0]).outcome.num_calls == 100
