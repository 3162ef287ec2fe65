"""Ways of calling a server that is no Open Inference Protocol server."""

from __future__ import annotations

from typing import Any, Protocol

import grpc

from deploy.bench import workloads
from deploy.bench.jobs import Job
from xscene.errors import ExtraMissing

CALL_TIMEOUT_S = 60.0
MAX_MESSAGE_BYTES = 64 << 20
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)


class Caller(Protocol):
    """One way of calling a server; made inside the event loop that uses it."""

    async def call(self, index: int) -> list[float]:
        """Make the call of this number; the answer's values, where they can be compared."""

    async def close(self) -> None:
        """Close the connection."""


def metadata(job: Job) -> dict[str, str]:
    """The credential of a job's calls."""
    return {"authorization": f"Bearer {job.token}"} if job.token else {}


class BytesCaller:
    """A call whose request is plain bytes: gRPC alone, without any message."""

    def __init__(self, job: Job) -> None:
        self._channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
        self._call: Any = self._channel.unary_unary(workloads.BYTES_METHOD)
        self._request = workloads.as_bytes(workloads.payload(job.payload))
        self._metadata = tuple(metadata(job).items())

    async def call(self, index: int) -> list[float]:
        """Send the bytes."""
        await self._call(self._request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
        return []

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class HttpTextCaller:
    """A sentence in the body of a POST, its embedding in the answer's body."""

    def __init__(self, job: Job) -> None:
        try:
            import aiohttp  # type: ignore[import-not-found, unused-ignore]
        except ModuleNotFoundError as error:
            raise ExtraMissing.named("the HTTP client", "bench") from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S),
            raise_for_status=True,
        )
        self._url = f"http://{job.address}/inference"
        self._texts = [text.encode() for text in workloads.sentences()]

    async def call(self, index: int) -> list[float]:
        """Encode a sentence."""
        text = self._texts[index % len(self._texts)]
        async with self._session.post(self._url, data=text) as response:
            return list(memoryview(await response.read()).cast("f"))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
