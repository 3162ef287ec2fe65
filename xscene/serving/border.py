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
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from xscene.codec import status
from xscene.errors import DeadlineExceeded, InvalidInput, NotReady, XSceneError
from xscene.serving import calls
from xscene.serving.admission import Admission, Phase
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
        handler = self._wrapped[method]
        visit = _Visit(self, method)
        try:
            visit.admit(handler_call_details.invocation_metadata, handler.response_streaming)
        except XSceneError as error:
            # A stream handler answers before the message is there: nobody who is refused fills memory.
            return grpc.stream_stream_rpc_method_handler(functools.partial(visit.refuse, error))
        return handler

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
        # caller's fault like any other.
        return make(wrap(method, behaviour, read), None, handler.response_serializer)

    def _unary(self, method: str, behaviour: Any, read: Any) -> Callable[[Any, Context], Awaitable[Any]]:
        async def run(raw: Any, context: Context) -> Any:
            visit = _Visit(self, method)
            try:
                if visit.enter(context):
                    answer = await behaviour(read(raw), context)
                else:
                    answer = await visit.within_default_deadline(behaviour(read(raw), context))
                visit.code = "OK"
                return answer
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the server's border
                del raw  # as in _let_go: this frame stays as long
                await visit.fail(error, context)
            finally:
                visit.leave()

        return run

    def _streaming(
        self, method: str, behaviour: Any, read: Any
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def run(raw: Any, context: Context) -> AsyncIterator[Any]:
            visit = _Visit(self, method)
            try:
                visit.enter(context, stream=True)
                answers = behaviour(read(raw), context)
                if inspect.isawaitable(answers):  # a handler that writes to the context itself
                    await answers
                else:
                    async with contextlib.aclosing(answers):
                        async for answer in answers:
                            yield answer
                visit.code = "OK"
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the server's border
                await visit.fail(error, context)
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

    def __init__(self, border: Border, method: str) -> None:
        self._border = border
        self._method = method
        self._started = time.monotonic()
        self._deadline: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_call = False
        self._public = border.gate.required(method) is Role.PUBLIC
        # Nothing but the end of the work makes it OK: a caller may leave at any point before.
        self.code = "CANCELLED"

    def admit(self, metadata: Any, stream: bool) -> None:
        """Decide on what is known before the first message; `enter` relies on it."""
        border = self._border
        trace = _trace(metadata or ())
        trace_id.set(trace)
        identity = border.gate.admit(self._method, metadata or ())
        if stream:
            border.admission.check_stream(public=self._public)
        elif not self._public:
            border.admission.check_call()
        # The handler runs in the same task, and so under the same call.
        calls.enter(calls.Call(self._method, identity, None, trace))

    def enter(self, context: Context, *, stream: bool = False) -> bool:
        """Take a place, or raise when the last one went meanwhile; True for a caller's own deadline."""
        admission = self._border.admission
        if stream:
            admission.check_stream(public=self._public)
            self._task = asyncio.current_task()
            assert self._task is not None
            admission.begin_stream(self._task, public=self._public)
        elif not self._public:
            admission.check_call()
            admission.begin_call()
            self._is_call = True
        if span_trace := self._border.telemetry.span_trace_id():
            trace_id.set(span_trace)
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            self._set_deadline(remaining_s)
        return remaining_s is not None

    def _set_deadline(self, allowed_s: float) -> None:
        self._deadline = self._started + allowed_s
        call = calls.current()
        calls.enter(calls.Call(call.method, call.identity, self._deadline, trace_id.get()))

    async def within_default_deadline(self, work: Awaitable[Any]) -> Any:
        """The answer of a call whose caller set no deadline."""
        allowed_s = self._border.default_deadline_s
        self._set_deadline(allowed_s)
        try:
            async with asyncio.timeout(allowed_s) as scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded(
                f"the call set no deadline and took longer than default_deadline_s, {allowed_s} s"
            ) from None

    async def refuse(self, error: XSceneError, _: Any, context: Context) -> AsyncIterator[Any]:
        """The handler of a call that is not admitted."""
        try:
            await self._abort(error, context)
        finally:
            self.leave()
        yield  # what makes it a stream

    async def fail(self, error: BaseException, context: Context) -> NoReturn:
        """End the call with the status that the error stands for."""
        if isinstance(error, asyncio.CancelledError):
            draining = self._border.admission.phase is Phase.DRAINING
            if self._task is None or not draining or context.cancelled():
                late = self._deadline is not None and time.monotonic() >= self._deadline
                self.code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
                raise error
            error = NotReady("the service is draining")
        if isinstance(error, grpc.aio.AbortError):
            self.code = _code_name(context.code())
            raise error
        known = error if isinstance(error, XSceneError) else self._unforeseen(error)
        _let_go(error)
        await self._abort(known, context)

    async def _abort(self, error: XSceneError, context: Context) -> NoReturn:
        self.code = error.status
        log.info("call refused", extra={"method": self._method, "code": self.code, "why": error.message})
        message, details = status.encode(error, trace_id.get())
        await context.abort(grpc.StatusCode[error.status], message, ((status.TRAILER, details),))
        raise AssertionError("abort always raises")

    def _unforeseen(self, error: BaseException) -> XSceneError:
        log.error("call failed", extra={"method": self._method, "code": "INTERNAL"}, exc_info=error)
        return XSceneError(f"internal error; the server's log has it under trace {trace_id.get()}")

    def leave(self) -> None:
        """Count the call."""
        if self._is_call:
            self._border.admission.end_call(answered=self.code == "OK")
        if self._task is not None:
            self._border.admission.end_stream(self._task)
        self._border.telemetry.count_call(self._method, self.code, time.monotonic() - self._started)


def _let_go(error: BaseException | None) -> None:
    """Drop the frames that an error came through, and with them the message.

    gRPC keeps the abort with the call, which the abort's frames hold: a circle, which would keep
    every refused message until the collector finds it.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _trace(metadata: Any) -> str:
    """The caller's trace, from its W3C traceparent, or a new one."""
    for key, value in metadata:
        if key == "traceparent" and (match := TRACEPARENT.fullmatch(value)):
            return match[1]
    # Unique, not secret: asking the system for each took as long as checking the token.
    return f"{random.getrandbits(128):032x}"


def _code_name(code: Any) -> str:
    """Name of a status code, which gRPC gives as a number or an enum member."""
    for known in grpc.StatusCode:
        if code in (known, known.value[0]):
            return known.name
    return "UNKNOWN"
