"""Processes that work through items line by line, so that one that dies takes nothing else along.

A worker is `python -m <module>`: it reads its job as one line of JSON, answers with a line that says it
is ready, then reads an item a line and answers each with a line. A line with the key `error` ends all.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from xscene.errors import PreconditionFailed

SOURCES = Path(__file__).resolve().parents[2]
Answer = dict[str, Any]


def work_through(
    items: Sequence[str],
    *,
    module: str,
    job: Mapping[str, Any],
    num_workers: int,
    done: Callable[[Answer, Answer], None],
    held_open: Sequence[int] = (),
) -> None:
    """Have each item worked on; `done` takes a worker's first answer and that to the item, one at a time.

    Descriptors held open stay open in the workers until they end, which keeps a lock on a file.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    lock = threading.Lock()
    workers = [Worker(module, job, held_open) for _ in range(min(num_workers, len(items)))]

    def serve(worker: Worker) -> None:
        ready = worker.read()
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            answer = worker.ask(item)
            with lock:
                done(ready, answer)

    try:
        _serve_all(serve, workers)
    finally:
        for worker in workers:
            worker.close()


def _serve_all(serve: Callable[[Worker], None], workers: Sequence[Worker]) -> None:
    if not workers:
        return
    with ThreadPoolExecutor(len(workers)) as pool:
        running = [pool.submit(serve, worker) for worker in workers]
        try:
            for each in running:
                each.result()
        except BaseException:
            # The other threads wait for their workers, which must end first.
            for worker in workers:
                worker.kill()
            raise


class Worker:
    """A process that works on one item at a time."""

    def __init__(self, module: str, job: Mapping[str, Any], held_open: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module],
            cwd=SOURCES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=tuple(held_open),
        )
        self._send(json.dumps(job))

    def ask(self, item: str) -> Answer:
        """Have an item worked on."""
        self._send(item)
        return self.read()

    def read(self) -> Answer:
        """The worker's next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PreconditionFailed(f"a worker ended early, exit code {self._process.wait()}")
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise PreconditionFailed(answer["error"])
        return answer

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PreconditionFailed(f"a worker ended early, exit code {self._process.wait()}") from None

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()

    def close(self) -> None:
        """Let the process end, and wait for it, so that its time is counted."""
        # Closing fails where the process is gone and a line to it was still held back.
        try:
            self._process.communicate()
        except (BrokenPipeError, ValueError):
            self._process.wait()


class Station:
    """The worker's own side: the job that it was given, items, and answers."""

    def __init__(self, job: Answer) -> None:
        self.job = job

    @classmethod
    def opened(cls) -> Self:
        """Read the job; from now on Ctrl-C is the business of whoever started this worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return cls(json.loads(sys.stdin.readline()))

    def items(self) -> Iterator[str]:
        """Items one by one, until there are no more."""
        return (line.rstrip("\n") for line in sys.stdin)

    def answer(self, value: Mapping[str, Any]) -> None:
        """One line to whoever started this worker."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()
