"""The text model without a server around it, as the bare reference and the peers run it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploy.bench.workloads import TEXT_MODEL, TEXT_OUTPUT
from encoders_1d.model import Limits, TextFactory
from xscene.nn.devices import Compute
from xscene.serving.models import Job, Model

WANTED = frozenset({TEXT_OUTPUT})
NUM_THREADS = 1


def load(setup: str) -> Model:
    """The model as the text service loads it: a JSON object of bundle, backbones and limits."""
    given = json.loads(setup)
    torch.set_num_threads(NUM_THREADS)
    factory = TextFactory(Path(given["backbones"]), Limits(**given["limits"]), Compute(torch.device("cpu")))
    model = factory.load(TEXT_MODEL, Path(given["bundle"]))
    model.warm_up()
    return model


def prepare(model: Model, values: Sequence[bytes]) -> Job:
    """Texts to tokens, or files to pixels: each model's input has its name."""
    return model.prepare({model.name: np.array(values, np.object_)}, WANTED)


def encode(model: Model, values: Sequence[bytes]) -> NDArray[Any]:
    """Texts or files to embeddings, all that a request needs."""
    job = prepare(model, values)
    return model.finish(job, model.forward(job.items))[TEXT_OUTPUT]
