"""Our runtime with nothing to compute: a model that ignores its inputs, and a call of plain bytes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import numpy as np

from deploy.bench import echo
from deploy.bench.workloads import BYTES_SERVICE, NULL_MODEL
from xscene.serving import process
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.models import ANY, Factory, Job, Model, Tensors, TensorSpec
from xscene.serving.server import run

# A service whose settings may stand on the command line; the environment is not read.
SETTINGS_OF = "text"
ANSWER = np.zeros(1, np.float32)


def _optional(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape, optional=True)


@dataclass(frozen=True)
class Nothing:
    """One request."""

    cost: int = 1


class NullModel(Model):
    """Takes what a cloud, an image or a number is sent as, and answers with a number."""

    name = NULL_MODEL
    bundle = NULL_MODEL
    model_id = hashlib.sha256(NULL_MODEL.encode()).hexdigest()
    version = str(int(model_id[:15], 16))
    trained = True
    inputs = (
        _optional("value", "FP32", ANY),
        _optional("points", "FP32", ANY, ANY),
        _optional("colors", "UINT8", ANY, 3),
        _optional("image", "BYTES", ANY),
        _optional("pixels", "UINT8", ANY, ANY, ANY, 3),
    )
    outputs = (TensorSpec(name="answer", datatype="FP32", shape=(1,)),)
    parameters: Mapping[str, str] = MappingProxyType({})
    max_batch_cost = 32
    # As the model of clouds has.
    light_bytes = 4 << 20

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Nothing to prepare."""
        return Job(items=[Nothing()])

    def forward(self, items: Sequence[Any]) -> Sequence[Any]:
        """Nothing to compute."""
        return [ANSWER] * len(items)

    def warm_up(self) -> None:
        """Nothing to warm up."""

    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        """The number."""
        return {"answer": results[0]}


class NullFactory(Factory):
    """Makes the model of any directory."""

    names = (NULL_MODEL,)

    def load(self, name: str, directory: Path) -> Model:
        """The model."""
        return NullModel()


class NullService(EncoderService):
    """The protocol and the plain call behind the same border."""

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Offer both."""
        server.add_generic_rpc_handlers((echo.handlers(),))
        return (*super().register(server), BYTES_SERVICE)


def make(given: EncoderSettings) -> NullService:
    """The service with these settings."""
    return NullService(SETTINGS_OF, given, NullFactory())


if __name__ == "__main__":
    process.prepare()
    sys.exit(run(SETTINGS_OF, EncoderSettings, make, sys.argv[1:], {}))
