"""The text model behind PyTriton: a Triton server with its dynamic batcher and a Python backend."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch  # type: ignore[import-not-found, unused-ignore]
from pytriton.model_config import (  # type: ignore[import-not-found, unused-ignore]
    DynamicBatcher,
    ModelConfig,
    Tensor,
)
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found, unused-ignore]

from deploy.bench import text
from deploy.bench.workloads import TEXT_INPUT, TEXT_MODEL, TEXT_OUTPUT


def serve(setup: str, ports: Sequence[int], max_batch: int, window_ms: float) -> None:
    """Serve until SIGTERM; Triton wants ports for gRPC, HTTP and metrics."""
    model = text.load(setup)
    width = next(spec.shape[-1] for spec in model.outputs if spec.name == TEXT_OUTPUT)

    @batch  # type: ignore[untyped-decorator, unused-ignore]
    def encode(**inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {TEXT_OUTPUT: text.encode(model, inputs[TEXT_INPUT].ravel().tolist())}

    config = TritonConfig(
        grpc_port=ports[0],
        http_port=ports[1],
        metrics_port=ports[2],
        grpc_address="127.0.0.1",
        http_address="127.0.0.1",
        log_verbose=0,
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=round(window_ms * 1000))
    with Triton(config=config) as triton:
        triton.bind(
            model_name=TEXT_MODEL,
            infer_func=encode,
            inputs=[Tensor(name=TEXT_INPUT, dtype=bytes, shape=(1,))],
            outputs=[Tensor(name=TEXT_OUTPUT, dtype=np.float32, shape=(width,))],
            config=ModelConfig(max_batch_size=max_batch, batcher=batcher),
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        triton.run()
        signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    given, *numbers = sys.argv[1:]
    serve(given, [int(each) for each in numbers[:3]], int(numbers[3]), float(numbers[4]))
