"""The reference process: the models without a server, and yardsticks of the machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from itertools import count

import numpy as np
import torch

from deploy.bench import image, text, workloads
from deploy.bench.jobs import Job, Work
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


LOADERS: Mapping[str, Callable[[str], Model]] = {
    workloads.TEXT_MODEL: text.load,
    workloads.IMAGE_MODEL: image.load,
}


class Reference:
    """Makes the jobs' work; a model is loaded when a job first needs it."""

    def __init__(self, setups: Mapping[str, str]) -> None:
        self._setups = setups
        self._models: dict[str, Model] = {}

    def work(self, job: Job) -> Work:
        """The work of a job."""
        kinds: dict[str, Callable[[Job], Work]] = {
            "embed": self._embed,
            "forward": self._forward,
            "sgemm": _sgemm,
            "memcpy": _memcpy,
        }
        return kinds[job.kind](job)

    def _loaded(self, job: Job) -> Model:
        name = job.payload
        if name not in self._models:
            self._models[name] = LOADERS[name](self._setups[name])
        return self._models[name]

    def _embed(self, job: Job) -> Work:
        """Sentences or pictures to embeddings."""
        model = self._loaded(job)
        values = text.encode(model, workloads.batch(0, 1, model.name)).ravel().tolist()
        batch = functools.partial(workloads.batch, size=job.batch, model=model.name)
        return Loop(job, lambda index: text.encode(model, batch(index)), values)

    def _forward(self, job: Job) -> Work:
        """Tokens or pixels to results: torch alone."""
        model = self._loaded(job)
        num_batches = max(1, len(workloads.inputs(model.name)) // job.batch)
        batches = [
            text.prepare(model, workloads.batch(index, job.batch, model.name)).items
            for index in range(num_batches)
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
