"""The reference of plain gRPC: a server that takes bytes and answers with none."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from deploy.bench.callers import MAX_MESSAGE_BYTES
from deploy.bench.workloads import BYTES_METHOD, BYTES_SERVICE


async def take(request: bytes, context: Any) -> bytes:
    """Answer with nothing."""
    return b""


def handlers() -> grpc.GenericRpcHandler:
    """The method, with neither parsing nor serialising."""
    method = BYTES_METHOD.rpartition("/")[2]
    return grpc.method_handlers_generic_handler(
        BYTES_SERVICE, {method: grpc.unary_unary_rpc_method_handler(take)}
    )


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    server.add_generic_rpc_handlers((handlers(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
