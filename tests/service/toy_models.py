"""Small models of numpy for tests of the runtime; the same ones run inside other model servers."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xscene.errors import BundleInvalid, InvalidInput, NotFound
from xscene.serving.models import ANY, Factory, Job, Model, Tensors, TensorSpec

FILE = "toy.json"
POISON = 13
"""A value that makes `forward` fail."""
DEADLY = 666
"""A value that ends the thread which computes."""
Compute = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Rows:
    """One request's tensors."""

    tensors: Tensors
    cost: int


class Toy(Model):
    """A function of arrays; remembers what reached it."""

    max_batch_cost = 1024

    def __init__(self, name: str, bundle: str, content: bytes) -> None:
        self.name = name
        self.bundle = bundle
        self.content = json.loads(content)
        self.model_id = hashlib.sha256(content).hexdigest()
        self.version = str(int(self.model_id[:15], 16))
        self.trained = self.content["trained"]
        self.parameters = {"max_values": "1024"}
        self.inputs, self.outputs, self.compute = SIGNATURES[name]
        self.batches: list[int] = []
        self.seen: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.num_warm_ups = 0

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        values = next(iter(inputs.values()))
        if self.name == "poisonous":
            for index in np.flatnonzero(values < 0):
                raise InvalidInput.at(f"values[{index}]", f"{values[index]} is negative")
        return Job(items=[Rows(inputs, max(values.size, 1))], plan=outputs)

    def forward(self, items: Sequence[Rows]) -> Sequence[Tensors]:
        self.gate.wait()
        self.batches.append(len(items))
        if "values" in items[0].tensors and items[0].tensors["values"].dtype == np.int32:
            self.seen += [int(item.tensors["values"][0]) for item in items if item.tensors["values"].size]
        return [self.compute({**item.tensors, "offset": np.int32(self.content["offset"])}) for item in items]

    def warm_up(self) -> None:
        self.num_warm_ups += 1

    def finish(self, job: Job, results: Sequence[Tensors]) -> Tensors:
        (result,) = results
        return {name: value for name, value in result.items() if name in job.plan}


def identity(tensors: Tensors) -> Tensors:
    return {"copy": tensors["values"]}


def shift(tensors: Tensors) -> Tensors:
    return {"copy": tensors["values"] + tensors["offset"]}


def add_sub(tensors: Tensors) -> Tensors:
    left, right = tensors["left"], tensors.get("right", np.zeros(4, np.int32))
    return {"sum": left + right, "difference": left - right}


def sleep(tensors: Tensors) -> Tensors:
    time.sleep(int(tensors["values"][0]) / 1000)
    return identity(tensors)


def poison(tensors: Tensors) -> Tensors:
    if POISON in tensors["values"]:
        raise RuntimeError("an item is poisoned")
    if DEADLY in tensors["values"]:
        raise SystemExit("the computing thread is to end")
    return identity(tensors)


def spec(name: str, datatype: str, *shape: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape, optional=optional)


def copied(datatype: str, compute: Compute = identity) -> tuple[Any, ...]:
    return (spec("values", datatype, ANY),), (spec("copy", datatype, ANY),), compute


SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "identity_fp32": copied("FP32"),
    "identity_int32": copied("INT32"),
    "identity_bytes": copied("BYTES"),
    "identity_bool": copied("BOOL"),
    "shift": copied("INT32", shift),
    "add_sub": (
        (spec("left", "INT32", 4), spec("right", "INT32", 4, optional=True)),
        (spec("sum", "INT32", 4), spec("difference", "INT32", 4)),
        add_sub,
    ),
    "sleepy": copied("INT32", sleep),
    "poisonous": copied("INT32", poison),
    "matrix": (
        (spec("values", "FP32", ANY, 3),),
        (spec("copy", "FP32", ANY, 3),),
        identity,
    ),
}


class ToyFactory(Factory):
    """Makes toys of bundles that are one JSON file; keeps them, so that tests can look inside."""

    def __init__(self, *names: str) -> None:
        self.names = names or tuple(SIGNATURES)
        self.made: list[Toy] = []
        self.gate = threading.Event()
        self.gate.set()

    def load(self, name: str, directory: Path) -> Toy:
        self.gate.wait()
        content = (directory / FILE).read_bytes()
        if not content.startswith(b"{"):
            raise BundleInvalid(f"bundle {directory.name}: torn")
        if name in json.loads(content).get("without", ()):
            raise NotFound(f"bundle {directory.name}: holds no {name}")
        toy = Toy(name, directory.name, content)
        self.made.append(toy)
        return toy

    def toy(self, name: str) -> Toy:
        """The toy of this name that was made last."""
        return next(toy for toy in reversed(self.made) if toy.name == name)


def write_bundle(
    folder: Path, name: str, *, offset: int = 0, trained: bool = True, without: Sequence[str] = ()
) -> str:
    """Write a toy bundle; its version."""
    directory = folder / name
    directory.mkdir(parents=True)
    content = json.dumps({"offset": offset, "trained": trained, "without": list(without)})
    (directory / FILE).write_text(content)
    return Toy("shift", name, content.encode()).version
