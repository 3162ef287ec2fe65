"""The Open Inference Protocol over gRPC: decode, work, encode."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from tritonclient.grpc import service_pb2 as pb  # type: ignore[import-untyped, unused-ignore]
from tritonclient.grpc import service_pb2_grpc

from xscene.errors import InvalidInput, NotReady, Unsupported, XSceneError
from xscene.services import INFERENCE
from xscene.serving import calls
from xscene.serving.batching import Batcher
from xscene.serving.inference import metadata, stream, tensors, wire
from xscene.serving.inference.repository import Repository, check_version
from xscene.serving.inference.shared_memory import Regions
from xscene.serving.inference.tensors import TensorLimits
from xscene.serving.inference.wire import InferRequest
from xscene.serving.telemetry import Telemetry

log = logging.getLogger(__name__)
Message = Any  # the protocol's messages come without types
Context = Any  # grpc.aio.ServicerContext, generic in request and response
EXTENSIONS = ("model_repository", "model_configuration", "statistics", "parameters")
SHARED_MEMORY = "system_shared_memory"
FINAL = "triton_final_response"
# Typed values are read one by one: more of them keep a thread busy, not the loop.
MAX_TYPED_BYTES_ON_LOOP = 1 << 16


@dataclass(frozen=True)
class Engine:
    """What there is once the service has started."""

    repository: Repository
    batcher: Batcher
    telemetry: Telemetry


class InferenceServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc, unused-ignore]
    """Answers with the models of a repository, once it was opened."""

    def __init__(
        self,
        service: str,
        regions: Regions,
        limits: TensorLimits,
        *,
        max_header_bytes: int,
        max_stream_requests: int,
    ) -> None:
        self._service = service
        self._regions = regions
        self._limits = limits
        self._max_stream_requests = max_stream_requests
        self._parse = functools.partial(wire.parse, max_header_bytes=max_header_bytes)
        self._opened: Engine | None = None

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Offer the protocol on a server; requests of inference are read by ourselves."""
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        handlers = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                self.ModelInfer, self._parse, pb.ModelInferResponse.SerializeToString
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self.ModelStreamInfer, self._parse, pb.ModelStreamInferResponse.SerializeToString
            ),
        }
        # Of two handlers of a method the one registered last is taken.
        server.add_registered_method_handlers(INFERENCE, handlers)
        return (INFERENCE,)

    def open(self, engine: Engine) -> None:
        """Have something to answer with."""
        self._opened = engine

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise NotReady("the service is warming up")
        return self._opened

    async def ServerLive(self, request: Message, context: Context) -> Message:
        """Whether the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Message, context: Context) -> Message:
        """Whether the service takes calls: not while it warms up, nor while it drains."""
        ready = False
        if self._opened is not None:
            # Readiness is the server's, which tells it to its metrics.
            (gauge,) = self._opened.telemetry.ready.collect()
            ready = bool(gauge.samples[0].value)
        return pb.ServerReadyResponse(ready=ready)

    async def ModelReady(self, request: Message, context: Context) -> Message:
        """Whether a model, or one version of it, is loaded."""
        check_version(request.version)
        loaded = {(name, model.version) for name, model in self._engine.repository.index() if model}
        ready = any(request.name == name and request.version in ("", version) for name, version in loaded)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Message, context: Context) -> Message:
        """Name and version of the service, and which extensions of the protocol it has."""
        extensions = (*EXTENSIONS, SHARED_MEMORY) if self._regions.enabled else EXTENSIONS
        return pb.ServerMetadataResponse(
            name=f"xscene-{self._service}", version=_version(), extensions=extensions
        )

    async def ModelMetadata(self, request: Message, context: Context) -> Message:
        """A model's tensors and versions."""
        repository = self._engine.repository
        model = repository.find(request.name, request.version).model
        return metadata.model_metadata(model, repository.versions(request.name))

    async def ModelConfig(self, request: Message, context: Context) -> Message:
        """A model's configuration, with its identity and limits."""
        return metadata.model_config(self._engine.repository.find(request.name, request.version).model)

    async def ModelStatistics(self, request: Message, context: Context) -> Message:
        """What has been computed, by model and version."""
        engine = self._engine
        check_version(request.version)
        if request.name:
            engine.repository.find(request.name, request.version)
        chosen = [
            (model, engine.batcher.statistics.of(name, model.version))
            for name, model in engine.repository.index()
            if model and request.name in ("", name) and request.version in ("", model.version)
        ]
        return metadata.statistics(chosen)

    async def ModelInfer(self, request: InferRequest, context: Context) -> Message:
        """The outputs of one request."""
        return await self._infer(request)

    def ModelStreamInfer(self, requests: Any, context: Context) -> AsyncIterator[Message]:
        """The outputs of each request, or why it failed; a failure does not end the stream."""
        return stream.in_order(requests, self._infer_alone, self._max_stream_requests)

    async def _infer(self, asked: InferRequest) -> Message:
        engine, request = self._engine, asked.message
        find = functools.partial(self._regions.find, calls.current().identity.credential)
        with engine.repository.use(request.model_name, request.model_version) as model:
            decode = functools.partial(tensors.decode_inputs, asked, model, find, self._limits)
            many = asked.num_typed_bytes > MAX_TYPED_BYTES_ON_LOOP
            inputs = await asyncio.to_thread(decode) if many else decode()
            wanted = tensors.decode_outputs(request, model, find)
            names = frozenset(want.spec.name for want in wanted)
            outputs = await engine.batcher.run(model, inputs, names)
            return tensors.encode(request, model, wanted, outputs)

    async def _infer_alone(self, asked: InferRequest) -> Message:
        try:
            response = await self._infer(asked)
        except XSceneError as error:
            why = error.message
        except Exception as error:
            trace = calls.current().trace_id
            log.error("request of a stream failed", extra={"model": asked.message.model_name}, exc_info=error)
            why = f"internal error; the server's log has it under trace {trace}"
        else:
            response.parameters[FINAL].bool_param = True
            return pb.ModelStreamInferResponse(infer_response=response)
        return pb.ModelStreamInferResponse(
            error_message=why, infer_response=pb.ModelInferResponse(id=asked.message.id)
        )

    async def RepositoryIndex(self, request: Message, context: Context) -> Message:
        """Which versions of which models are loaded."""
        _refuse_repository(request)
        return metadata.index(self._engine.repository.index(), ready=request.ready)

    async def RepositoryModelLoad(self, request: Message, context: Context) -> Message:
        """Load a model from the bundle that the parameter names; answered when calls can use it."""
        _refuse_repository(request)
        bundle = _only_parameter(request, "bundle")
        await self._engine.repository.load(request.model_name, bundle)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Message, context: Context) -> Message:
        """Give back a version, or all; answered when the calls that used it have ended."""
        _refuse_repository(request)
        version = _only_parameter(request, "version", ignored="unload_dependents")
        await self._engine.repository.unload(request.model_name, version)
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(self, request: Message, context: Context) -> Message:
        """The caller's regions."""
        answer = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(_owner(), request.name):
            status = answer.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.num_bytes
        return answer

    async def SystemSharedMemoryRegister(self, request: Message, context: Context) -> Message:
        """Make a region known, to this caller alone."""
        self._regions.register(_owner(), request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Message, context: Context) -> Message:
        """Forget one of the caller's regions, or all of them."""
        self._regions.unregister(_owner(), request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Message, context: Context) -> Message:
        """Not offered."""
        _refuse_cuda()

    async def CudaSharedMemoryRegister(self, request: Message, context: Context) -> Message:
        """Not offered."""
        _refuse_cuda()

    async def CudaSharedMemoryUnregister(self, request: Message, context: Context) -> Message:
        """Not offered."""
        _refuse_cuda()

    async def TraceSetting(self, request: Message, context: Context) -> Message:
        """Not offered."""
        raise Unsupported("traces are set with traces_endpoint when the service starts")

    async def LogSettings(self, request: Message, context: Context) -> Message:
        """Not offered."""
        raise Unsupported("logs are set with log_level and log_format when the service starts")


def _owner() -> str:
    return calls.current().identity.credential


def _refuse_cuda() -> NoReturn:
    raise Unsupported("CUDA shared memory is not offered: send the tensor, or use system shared memory")


def _refuse_repository(request: Message) -> None:
    if request.repository_name:
        raise Unsupported("repository_name: there is one repository, which has no name")


def _only_parameter(request: Message, name: str, *, ignored: str = "") -> str:
    """The text of the one parameter that a call takes; empty when it is not given."""
    for key in request.parameters:
        if key not in (name, ignored):
            raise InvalidInput.at(f"parameters[{key!r}]", f"is not known; the call takes {name}")
    if name not in request.parameters:
        return ""
    text: str = request.parameters[name].string_param
    if not text:
        raise InvalidInput.at(f"parameters[{name!r}]", "must be a text that is not empty")
    return text


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("xscene")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
