"""The one interceptor between gRPC and the services.

It admits calls (credential, role, limit), gives each a deadline and a trace, turns errors into
statuses by their `status` attribute, and counts what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from xscene.codec import status
from xscene.errors import DeadlineExceeded, InvalidInput, XSceneError
from xscene.serving import calls
from xscene.serving.admission import Admission
from xscene.serving.security import Gate, Role
from xscene.serving.telemetry import Telemetry, trace_id

log = logging.getLogger(__name__)
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

Handler = Any  # grpc.RpcMethodHandler, whose attributes the type stubs leave out
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]
Context = Any  # grpc.aio.ServicerContext, generic in request and response


class Border(grpc.aio.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Wraps every handler; a handler is wrapped once, then found by its method."""

    def __init__(
        self, gate: Gate, admission: Admission, telemetry: Telemetry, default_deadline_s: float
    ) -> None:
        self.gate = gate
        self.admission = admission
        self.telemetry = telemetry
        self.default_deadline_s = default_deadline_s
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """The wrapped handler of a method; None for a method that nobody offers."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        kinds = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }
        make, behaviour = kinds[handler.request_streaming, handler.response_streaming]
        parse = _parse_stream if handler.request_streaming else _parse
        read = functools.partial(parse, handler.request_deserializer)
        wrap = self._streaming if handler.response_streaming else self._unary
        # Without a deserialiser gRPC hands over bytes: parsed here, bytes that are no message are the
        # caller's fault like any other, and nothing is parsed for a caller who is not let in.
        return make(wrap(method, behaviour, read), None, handler.response_serializer)

    def _unary(self, method: str, behaviour: Any, read: Any) -> Callable[[Any, Context], Awaitable[Any]]:
        async def run(raw: Any, context: Context) -> Any:
            visit = _Visit(self, method, context)
            try:
                if visit.enter():
                    return await behaviour(read(raw), context)
                return await visit.within_default_deadline(behaviour(read(raw), context))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the server's border
                await visit.fail(error)
            finally:
                visit.leave()

        return run

    def _streaming(
        self, method: str, behaviour: Any, read: Any
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def run(raw: Any, context: Context) -> AsyncIterator[Any]:
            visit = _Visit(self, method, context)
            try:
                visit.enter()
                answers = behaviour(read(raw), context)
                if inspect.isawaitable(answers):  # a handler that writes to the context itself
                    await answers
                    return
                async with contextlib.aclosing(answers):
                    async for answer in answers:
                        yield answer
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the server's border
                await visit.fail(error)
            finally:
                visit.leave()

        return run


def _parse(deserialise: Callable[[bytes], Any] | None, raw: bytes) -> Any:
    try:
        return deserialise(raw) if deserialise else raw
    except DecodeError:
        raise InvalidInput.at("request", f"{len(raw)} bytes that are not the message of this call") from None


async def _parse_stream(
    deserialise: Callable[[bytes], Any] | None, raw: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for message in raw:
        yield _parse(deserialise, message)


class _Visit:
    """One call's way through the border."""

    __slots__ = ("_border", "_context", "_deadline", "_entered", "_method", "_started", "_trace", "code")

    def __init__(self, border: Border, method: str, context: Context) -> None:
        self._border = border
        self._method = method
        self._context = context
        self._started = time.monotonic()
        self._deadline: float | None = None
        self._entered = False
        self._trace = ""
        self.code = "OK"

    def enter(self) -> bool:
        """Admit the call or raise; True when its caller set a deadline."""
        border, metadata = self._border, self._context.invocation_metadata() or ()
        self._trace = border.telemetry.span_trace_id() or _trace(metadata)
        trace_id.set(self._trace)
        identity = border.gate.admit(self._method, metadata)
        if border.gate.required(self._method) is not Role.PUBLIC:
            border.admission.acquire()
            self._entered = True
        remaining_s = self._context.time_remaining()
        if remaining_s is not None:
            self._deadline = self._started + remaining_s
        calls.enter(calls.Call(self._method, identity, self._deadline, self._trace))
        return remaining_s is not None

    async def within_default_deadline(self, work: Awaitable[Any]) -> Any:
        """The answer of a call whose caller set no deadline."""
        allowed_s = self._border.default_deadline_s
        self._deadline = self._started + allowed_s
        calls.enter(calls.Call(self._method, calls.current().identity, self._deadline, self._trace))
        try:
            async with asyncio.timeout(allowed_s) as scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded(
                f"the call set no deadline and took longer than default_deadline_s, {allowed_s} s"
            ) from None

    async def fail(self, error: BaseException) -> NoReturn:
        """End the call with the status that the error stands for."""
        if isinstance(error, asyncio.CancelledError):
            late = self._deadline is not None and time.monotonic() >= self._deadline
            self.code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise error
        if isinstance(error, grpc.aio.AbortError):
            self.code = _code_name(self._context.code())
            raise error
        known = error if isinstance(error, XSceneError) else self._unforeseen(error)
        self.code = known.status
        if known is error:
            log.info("call refused", extra={"method": self._method, "code": self.code, "why": known.message})
        details = status.encode(known, self._trace)
        await self._context.abort(
            grpc.StatusCode[known.status],
            known.message[: status.MAX_MESSAGE_CHARS],
            ((status.TRAILER, details),),
        )
        raise AssertionError("abort always raises")

    def _unforeseen(self, error: BaseException) -> XSceneError:
        log.error("call failed", extra={"method": self._method, "code": "INTERNAL"}, exc_info=error)
        return XSceneError(f"internal error; the server's log has it under trace {self._trace}")

    def leave(self) -> None:
        """Count the call."""
        telemetry = self._border.telemetry
        if self._entered:
            self._border.admission.release(answered=self.code == "OK")
        telemetry.count_call(self._method, self.code, time.monotonic() - self._started)


def _trace(metadata: Any) -> str:
    """The caller's trace, from its W3C traceparent, or a new one."""
    for key, value in metadata:
        if key == "traceparent" and (match := TRACEPARENT.fullmatch(value)):
            return match[1]
    return uuid.uuid4().hex


def _code_name(code: Any) -> str:
    """Name of a status code, which gRPC gives as a number or an enum member."""
    for known in grpc.StatusCode:
        if code in (known, known.value[0]):
            return known.name
    return "UNKNOWN"
