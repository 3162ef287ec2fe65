"""The reference process: the text model without a server, and yardsticks of the machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import torch

from deploy.bench import text, workloads
from deploy.bench.jobs import Job, Work, answer
from xscene.serving.models import Model

NUM_WARM_UP_CALLS = 3


class Loop:
    """Calls one after the other, until the time is up."""

    def __init__(self, job: Job, call: Callable[[int], object], values: list[float]) -> None:
        self._job = job
        self._call = call
        self._values = values

    def warm_up(self) -> list[float]:
        """Call a few times."""
        torch.set_num_threads(self._job.num_threads)
        for index in range(NUM_WARM_UP_CALLS):
            self._call(index)
        return self._values

    def run(self) -> list[float]:
        """Call until the time is up."""
        latencies: list[float] = []
        end = time.perf_counter() + self._job.seconds
        for index in count():
            if (started := time.perf_counter()) >= end:
                break
            self._call(index)
            latencies.append(time.perf_counter() - started)
        return latencies

    def close(self) -> None:
        """Threads back to one."""
        torch.set_num_threads(text.NUM_THREADS)


class Reference:
    """Makes the jobs' work; the model is loaded when a job first needs it."""

    def __init__(self, setup: str) -> None:
        self._setup = setup
        self._model: Model | None = None

    def work(self, job: Job) -> Work:
        """The work of a job."""
        kinds: dict[str, Callable[[Job], Work]] = {
            "embed": self._embed,
            "forward": self._forward,
            "sgemm": _sgemm,
            "memcpy": _memcpy,
        }
        return kinds[job.kind](job)

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = text.load(self._setup)
        return self._model

    def _embed(self, job: Job) -> Work:
        """Sentences to embeddings."""
        model = self._loaded()
        values = text.encode(model, workloads.batch(0, 1)).ravel().tolist()
        return Loop(job, lambda index: text.encode(model, workloads.batch(index, job.batch)), values)

    def _forward(self, job: Job) -> Work:
        """Tokens to results: torch alone."""
        model = self._loaded()
        num_batches = max(1, workloads.NUM_SENTENCES // job.batch)
        batches = [
            text.prepare(model, workloads.batch(index, job.batch)).items for index in range(num_batches)
        ]
        return Loop(job, lambda index: model.forward(batches[index % num_batches]), [])


def _sgemm(job: Job) -> Work:
    a, b = torch.rand(2, workloads.SGEMM_SIZE, workloads.SGEMM_SIZE)
    out = torch.empty_like(a)
    return Loop(job, lambda _: torch.mm(a, b, out=out), [])


def _memcpy(job: Job) -> Work:
    source = np.ones(workloads.COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    return Loop(job, lambda _: np.copyto(target, source), [])


if __name__ == "__main__":
    answer(Reference(sys.argv[1]).work)
