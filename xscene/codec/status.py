"""Errors on the wire: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from xscene import errors

TRAILER = "grpc-status-details-bin"
DOMAIN = "xscene"
# Metadata are limited to 8 KiB by default, past which the error is lost altogether: the message,
# whose bytes may be written as three each, and the details must fit in together.
MAX_MESSAGE_BYTES = 1000
MAX_DETAILS_BYTES = 3000
MAX_FIELD_BYTES = 500


def encode(error: errors.XSceneError, trace_id: str) -> tuple[str, bytes]:
    """The error as a message and a google.rpc.Status, cut so that both can travel."""
    message = _cut(error.message, MAX_MESSAGE_BYTES)
    num_violations = len(error.violations)
    while len(details := _details_of(error, message, trace_id, num_violations)) > MAX_DETAILS_BYTES:
        assert num_violations
        num_violations -= 1
    return message, details


def _details_of(error: errors.XSceneError, message: str, trace_id: str, num_violations: int) -> bytes:
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.reason(), domain=DOMAIN, metadata={"trace_id": trace_id})
    )
    if num_violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:num_violations]:
            field, text = (_cut(each, MAX_FIELD_BYTES) for each in (violation.field, violation.description))
            bad.field_violations.add(field=field, description=text)
        status.details.add().Pack(bad)
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    encoded: bytes = status.SerializeToString()
    return encoded


def _cut(text: str, max_bytes: int) -> str:
    return text.encode(errors="replace")[:max_bytes].decode(errors="ignore")


def decode(code: str, message: str, details: bytes | None) -> errors.XSceneError:
    """The error of the same class that the server raised."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), None
    for packed in _details(details):
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            packed.Unpack(info)
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            packed.Unpack(bad)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            packed.Unpack(found := error_details_pb2.RetryInfo())
            retry = found.retry_delay.ToMilliseconds() / 1000
    cls = errors.find(info.reason if info.domain == DOMAIN else "", code)
    violations = tuple(errors.FieldViolation(v.field, v.description) for v in bad.field_violations)
    return cls(message, violations=violations, retry_after_s=retry)


def _details(raw: bytes | None) -> list[Any]:
    if raw is None:
        return []
    try:
        return list(status_pb2.Status.FromString(raw).details)
    except DecodeError:
        return []
