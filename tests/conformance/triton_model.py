"""A toy model inside Triton: this file is the `model.py` of each model in Triton's repository."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from tests.service.toy_models import Toy


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        self.toy = Toy(args["model_name"], "toy", b'{"offset": 0, "trained": true}')
        config = json.loads(args["model_config"])
        self.types = {
            output["name"]: triton.triton_string_to_numpy(output["data_type"]) for output in config["output"]
        }

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        wanted = frozenset(request.requested_output_names())
        try:
            job = self.toy.prepare(inputs, wanted)
            outputs = self.toy.finish(job, self.toy.forward(job.items))
        except Exception as error:  # noqa: BLE001 - told to the caller, as Triton has it
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        tensors = [
            triton.Tensor(name, np.asarray(value, self.types[name])) for name, value in outputs.items()
        ]
        return triton.InferenceResponse(output_tensors=tensors)
