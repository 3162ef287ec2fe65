"""The image model without a server around it, as the bare reference runs it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from deploy.bench.text import NUM_THREADS
from deploy.bench.workloads import IMAGE_MODEL
from encoders_2d.model import Limits, VisionFactory
from xscene.nn.devices import Compute
from xscene.serving.models import Model


def load(setup: str) -> Model:
    """The model as the image service loads it: a JSON object of bundle, backbones and limits."""
    given = json.loads(setup)
    torch.set_num_threads(NUM_THREADS)
    factory = VisionFactory(Path(given["backbones"]), Limits(**given["limits"]), Compute(torch.device("cpu")))
    model = factory.load(IMAGE_MODEL, Path(given["bundle"]))
    model.warm_up()
    return model
