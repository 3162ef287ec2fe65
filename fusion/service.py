"""FusionService over gRPC: decode, work, encode."""

from __future__ import annotations

from typing import Any

import grpc

from fusion.models import Models
from xscene import codec
from xscene.errors import Unsupported
from xscene.serving.worker import Worker
from xscene.v1 import fusion_pb2, fusion_pb2_grpc


def register(server: grpc.aio.Server, models: Models, worker: Worker, limits: codec.Limits) -> None:
    """Offer FusionService on a server."""
    fusion_pb2_grpc.add_FusionServiceServicer_to_server(FusionServicer(models, worker, limits), server)


class FusionServicer(fusion_pb2_grpc.FusionServiceServicer):
    """Answers with the models that are loaded."""

    def __init__(self, models: Models, worker: Worker, limits: codec.Limits) -> None:
        self._models = models
        self._worker = worker
        self._limits = limits

    async def Fuse(
        self, request: fusion_pb2.FuseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fusion_pb2.FuseResponse:
        """One vector of each item's embeddings."""
        return await self._worker.run(self._fuse, request)

    def _fuse(self, request: fusion_pb2.FuseRequest) -> fusion_pb2.FuseResponse:
        """Decoding a large request takes long too: all of it is done off the event loop."""
        query = codec.decode_fuse_request(request, self._limits)
        return codec.encode_fuse_response(self._models.find(query.model_id).fuse(query.items))

    async def EmbedObjects(
        self, request: fusion_pb2.EmbedObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fusion_pb2.EmbedObjectsResponse:
        """Objects in context; no bundle that this version reads holds the network for it."""
        info = self._models.find(request.model_id).info
        raise Unsupported(f"bundle {info.bundle} has no network for objects in context")
