"""Processes that work through items: all are answered once, whatever the work prints or dies of."""

from __future__ import annotations

import threading
from collections import Counter

import psutil
import pytest

from trainer.data.workers import work_through
from xscene.errors import PreconditionFailed

MODULE = "tests.service.fickle_worker"


def worked(items: list[str], num_workers: int, lost=None) -> tuple[list[str], set[int]]:
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

    job = {"greeting": "hello"}
    work_through(items, module=MODULE, job=job, num_workers=num_workers, done=done, lost=lost)
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


@pytest.mark.parametrize("num_workers", [1, 3])
def test_where_a_lost_item_is_borne_another_worker_goes_on_with_the_others(num_workers):
    lost: dict[str, str] = {}
    items = [str(at) for at in range(6)]
    answers, workers = worked(["exit", *items[:3], "die", *items[3:], "die"], num_workers, lost.__setitem__)
    assert Counter(answers) == Counter(items)
    assert lost == {
        "exit": "a worker ended early, exit code 3",
        "die": "a worker ended early, exit code -9",
    }
    assert not any(psutil.pid_exists(pid) for pid in workers)


def test_what_the_work_prints_stands_between_no_answers(capfd):
    answers, _ = worked(["0", "talk", "1"], 1)
    assert answers == ["0", "talk", "1"]
    assert capfd.readouterr().err == "as I was saying\nand a library too"
