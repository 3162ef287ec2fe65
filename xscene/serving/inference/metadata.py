"""What the Open Inference Protocol tells of models: metadata, configuration, index, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2  # type: ignore[import-untyped, unused-ignore]

from xscene.serving.models import Model, TensorSpec
from xscene.serving.statistics import Duration, ModelStatistics

Message = Any  # the protocol's messages come without types
PLATFORM = "xscene"


def model_metadata(model: Model, versions: Iterable[str]) -> Message:
    """Names and shapes of a model's tensors, and the versions that are loaded."""
    return service_pb2.ModelMetadataResponse(
        name=model.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[_tensor(spec) for spec in model.inputs],
        outputs=[_tensor(spec) for spec in model.outputs],
    )


def _tensor(spec: TensorSpec) -> Message:
    return service_pb2.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def model_config(model: Model) -> Message:
    """A model's configuration; its parameters say what the model is and which limits it has."""
    config = model_config_pb2.ModelConfig(name=model.name, backend=PLATFORM, max_batch_size=0)
    for spec in model.inputs:
        config.input.add(name=spec.name, data_type=_data_type(spec), dims=spec.shape, optional=spec.optional)
    for spec in model.outputs:
        config.output.add(name=spec.name, data_type=_data_type(spec), dims=spec.shape)
    for name, text in {**model.parameters, **identity(model)}.items():
        config.parameters[name].string_value = text
    return service_pb2.ModelConfigResponse(config=config)


def identity(model: Model) -> dict[str, str]:
    """What tells one version of a model from another."""
    return {
        "model_id": model.model_id,
        "bundle": model.bundle,
        "version": model.version,
        "trained": str(model.trained).lower(),
    }


def _data_type(spec: TensorSpec) -> int:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    number: int = model_config_pb2.DataType.Value(f"TYPE_{name}")
    return number


def index(models: Iterable[tuple[str, Model | None]], *, ready: bool) -> Message:
    """Every version that is loaded, and unless only `ready` ones are wanted, models without one."""
    answer = service_pb2.RepositoryIndexResponse()
    for name, model in models:
        if model is not None:
            answer.models.add(name=name, version=model.version, state="READY")
        elif not ready:
            answer.models.add(name=name, state="UNAVAILABLE", reason="no version is loaded")
    return answer


def statistics(counts: Sequence[tuple[Model, ModelStatistics]]) -> Message:
    """What models have done since the service started."""
    return service_pb2.ModelStatisticsResponse(
        model_stats=[_model_statistics(model, found) for model, found in counts]
    )


def _model_statistics(model: Model, counts: ModelStatistics) -> Message:
    return service_pb2.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=counts.last_request_ms,
        inference_count=counts.num_items,
        execution_count=counts.num_batches,
        inference_stats=service_pb2.InferStatistics(
            success=_duration(counts.success),
            fail=_duration(counts.fail),
            queue=_duration(counts.queue),
            compute_input=_duration(counts.prepare),
            compute_infer=_duration(counts.compute),
            compute_output=_duration(counts.finish),
        ),
        batch_stats=_batches(dict(counts.batches)),
    )


def _batches(batches: Mapping[int, Duration]) -> list[Message]:
    return [
        service_pb2.InferBatchStatistics(batch_size=num_items, compute_infer=_duration(batches[num_items]))
        for num_items in sorted(batches)
    ]


def _duration(duration: Duration) -> Message:
    return service_pb2.StatisticDuration(count=duration.count, ns=duration.ns)
