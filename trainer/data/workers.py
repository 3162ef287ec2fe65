"""Processes that work through items line by line, so that one that dies takes nothing else along.

A worker is `python -m <module>`: it reads its job as one line of JSON, answers with a line that says it
is ready, then reads an item a line and answers each with a line. A line with the key `error` ends all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TextIO

from xscene.errors import Overloaded, PreconditionFailed

SOURCES = Path(__file__).resolve().parents[2]
LOCK_FILE = ".lock"
LOCK_POLL_S = 0.1
Answer = dict[str, Any]


class FieldsFormatter(logging.Formatter):
    """A record as one line with its fields, such as how many scans are missing."""

    _OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message"}

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The message, then `name=value` of each field."""
        fields = (f"{name}={value}" for name, value in vars(record).items() if name not in self._OWN)
        return " ".join((f"{record.levelname.lower()}: {record.message}", *fields))


def log_to_stderr() -> None:
    """Show warnings of readers to whoever runs the command; they are not to be kept."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


@contextlib.contextmanager
def locked(folder: Path, timeout_s: float) -> Iterator[int]:
    """Hold a folder alone; workers that hold the descriptor open do so until they have ended."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with (folder / LOCK_FILE).open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Overloaded(f"another run has been writing to {folder} for long") from None
                time.sleep(LOCK_POLL_S)
        yield file.fileno()


def work_through(
    items: Sequence[str],
    *,
    module: str,
    job: Mapping[str, Any],
    num_workers: int,
    done: Callable[[Answer, Answer], None],
    lost: Callable[[str, str], None] | None = None,
    held_open: Sequence[int] = (),
) -> None:
    """Have each item worked on; `done` takes a worker's first answer and that to the item, one at a time.

    Where a worker ends at an item, `lost` takes the item and the reason, and another worker goes on;
    without it that ends all. Descriptors held open stay open in the workers until they end, which
    keeps a lock on a file.
    """
    crew = _Crew(items, lambda: Worker(module, job, held_open), done, lost)
    try:
        crew.work(min(num_workers, len(items)))
    except EOFError as error:
        raise PreconditionFailed(str(error)) from None


class _Crew:
    """Workers that take items from one queue, each served by a thread."""

    def __init__(
        self,
        items: Sequence[str],
        hire: Callable[[], Worker],
        done: Callable[[Answer, Answer], None],
        lost: Callable[[str, str], None] | None,
    ) -> None:
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for item in items:
            self._waiting.put(item)
        self._hire, self._done, self._lost = hire, done, lost
        self._workers: list[Worker] = []
        self._is_ending = False
        self._lock = threading.Lock()

    def work(self, num_workers: int) -> None:
        """Work through all items."""
        try:
            workers = [self._hired() for _ in range(num_workers)]
            self._serve_all(workers)
        finally:
            for worker in self._workers:
                worker.close()

    def _serve_all(self, workers: Sequence[Worker]) -> None:
        if not workers:
            return
        with ThreadPoolExecutor(len(workers)) as pool:
            running = [pool.submit(self._serve, worker) for worker in workers]
            try:
                for each in running:
                    each.result()
            except BaseException:
                # The other threads wait for their workers, which must end first.
                with self._lock:
                    self._is_ending = True
                    for worker in self._workers:
                        worker.kill()
                raise

    def _serve(self, worker: Worker) -> None:
        ready = worker.read()
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answer = worker.ask(item)
            except EOFError as error:
                worker = self._replaced(item, error)
                ready = worker.read()
                continue
            with self._lock:
                self._done(ready, answer)

    def _hired(self) -> Worker:
        self._workers.append(worker := self._hire())
        return worker

    def _replaced(self, item: str, error: EOFError) -> Worker:
        with self._lock:
            if self._lost is None or self._is_ending:
                raise error
            self._lost(item, str(error))
            return self._hired()


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
        """The worker's next answer; EOFError where it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._ended()
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
            raise self._ended() from None

    def _ended(self) -> EOFError:
        return EOFError(f"a worker ended early, exit code {self._process.wait()}")

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

    def __init__(self, job: Answer, answers: TextIO) -> None:
        self.job = job
        self._answers = answers

    @classmethod
    def opened(cls) -> Self:
        """Read the job; from now on Ctrl-C is the business of whoever started this worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        # What the work prints, also below Python, must not stand between answers.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return cls(json.loads(sys.stdin.readline()), answers)

    def items(self) -> Iterator[str]:
        """Items one by one, until there are no more."""
        return (line.rstrip("\n") for line in sys.stdin)

    def answer(self, value: Mapping[str, Any]) -> None:
        """One line to whoever started this worker."""
        self._answers.write(json.dumps(value) + "\n")
        self._answers.flush()
