"""Processes that work through items: all are answered once, and one that ends early ends the others."""

from __future__ import annotations

import threading
from collections import Counter

import psutil
import pytest

from trainer.data.workers import work_through
from xscene.errors import PreconditionFailed

MODULE = "tests.service.fickle_worker"


def worked(items: list[str], num_workers: int) -> tuple[list[str], set[int]]:
    answers: list[str] = []
    workers: set[int] = set()
    lock = threading.Lock()

    def done(ready, answer):
        assert lock.acquire(blocking=False), "answers come one at a time"
        assert ready["greeting"] == "hello"
        assert ready["pid"] == answer["pid"]
        workers.add(answer["pid"])
        answers.append(answer["item"])
        lock.release()

    work_through(items, module=MODULE, job={"greeting": "hello"}, num_workers=num_workers, done=done)
    return answers, workers


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_item_is_answered_once_and_all_workers_end(num_workers):
    items = [str(at) for at in range(20)]
    answers, workers = worked(items, num_workers)
    assert Counter(answers) == Counter(items)
    assert len(workers) <= num_workers
    assert not any(psutil.pid_exists(pid) for pid in workers)


def test_no_items_need_no_worker():
    assert worked([], 2) == ([], set())


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("exit", "a worker ended early, exit code 3"),
        ("die", "a worker ended early, exit code -9"),
        ("fail", "no such thing"),
    ],
)
def test_a_worker_that_ends_early_ends_the_run_by_its_reason(item, words):
    with pytest.raises(PreconditionFailed, match=words):
        worked(["0", item, *map(str, range(200))], 2)
    assert not [p for p in psutil.Process().children(recursive=True) if MODULE in " ".join(p.cmdline())]
