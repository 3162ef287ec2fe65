"""The errors of xscene, one tree for both sides of the wire.

    XSceneError                      INTERNAL
    |- InvalidInput                  INVALID_ARGUMENT     a field that cannot be right; names it
    |  '- LimitExceeded              INVALID_ARGUMENT     a field past a limit; names limit and value
    |- NotFound                      NOT_FOUND
    |- AlreadyExists                 ALREADY_EXISTS
    |- PreconditionFailed            FAILED_PRECONDITION  right request, wrong state of the system
    |  |- ModelMismatch              FAILED_PRECONDITION  vectors of different models or spaces
    |  |- StaleRevision              FAILED_PRECONDITION  an older revision than the stored one
    |  |- BundleInvalid              FAILED_PRECONDITION  torn, tampered or unknown bundle
    |  |- PreparedInvalid            FAILED_PRECONDITION  torn, tampered or unknown prepared data
    |  |- SettingsInvalid            FAILED_PRECONDITION  a service cannot start as configured
    |  '- ExtraMissing               FAILED_PRECONDITION  an optional package is not installed
    |- Unauthenticated               UNAUTHENTICATED
    |- PermissionDenied              PERMISSION_DENIED
    |- Overloaded                    RESOURCE_EXHAUSTED   a bounded queue, memory or disk is full
    |- DeadlineExceeded              DEADLINE_EXCEEDED
    |- Cancelled                     CANCELLED
    |- NotReady                      UNAVAILABLE          warming up, draining or unreachable
    '- Unsupported                   UNIMPLEMENTED

A server answers with `status`; the client finds the class again by `reason`, or by `status` when
the server is another product. Statuses are names, so that models may raise errors without gRPC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request and what is wrong with it."""

    field: str
    description: str


class XSceneError(Exception):
    """Root of all errors; raised itself only for faults of ours."""

    status: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s

    @classmethod
    def reason(cls) -> str:
        """Name on the wire: `ModelMismatch` is MODEL_MISMATCH."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()


class InvalidInput(XSceneError):
    """The request can never succeed as it is."""

    status = "INVALID_ARGUMENT"

    @classmethod
    def at(cls, field: str, description: str) -> InvalidInput:
        """An error that names the field it is about."""
        return cls(f"{field}: {description}", violations=(FieldViolation(field, description),))


class LimitExceeded(InvalidInput):
    """A field is larger than the server allows."""

    @classmethod
    def of(cls, field: str, *, value: int | float, limit: int | float, unit: str) -> LimitExceeded:
        """An error that names field, value, limit and unit."""
        description = f"{value} {unit}, the limit is {limit}"
        return cls(f"{field}: {description}", violations=(FieldViolation(field, description),))


class NotFound(XSceneError):
    """What the request names is not there."""

    status = "NOT_FOUND"


class AlreadyExists(XSceneError):
    """What the request would create is there, and differs."""

    status = "ALREADY_EXISTS"


class PreconditionFailed(XSceneError):
    """The request is right, but not in the state that the system is in."""

    status = "FAILED_PRECONDITION"


class ModelMismatch(PreconditionFailed):
    """Vectors of different models, or of different spaces, would be compared."""


class StaleRevision(PreconditionFailed):
    """The stored scene is newer than the one sent."""


class BundleInvalid(PreconditionFailed):
    """A bundle is torn, tampered with, or of a version that this code does not know."""


class PreparedInvalid(PreconditionFailed):
    """Prepared data is torn, tampered with, or of a version that this code does not know."""


class SettingsInvalid(PreconditionFailed):
    """A service cannot start with the settings it was given."""


class ExtraMissing(PreconditionFailed):
    """A part needs packages that are not installed."""

    @classmethod
    def named(cls, part: str, extra: str) -> ExtraMissing:
        """An error that says what to install."""
        return cls(f"{part} needs packages that are not installed: pip install 'xscene[{extra}]'")


class Unauthenticated(XSceneError):
    """No credential, or none that counts."""

    status = "UNAUTHENTICATED"


class PermissionDenied(XSceneError):
    """The credential's role does not allow the call."""

    status = "PERMISSION_DENIED"


class Overloaded(XSceneError):
    """A bounded resource is full; trying again later may help."""

    status = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(XSceneError):
    """The caller's deadline passed before the answer was ready."""

    status = "DEADLINE_EXCEEDED"


class Cancelled(XSceneError):
    """The caller gave up."""

    status = "CANCELLED"


class NotReady(XSceneError):
    """The server cannot be reached, is warming up or is draining."""

    status = "UNAVAILABLE"


class Unsupported(XSceneError):
    """The server does not offer this."""

    status = "UNIMPLEMENTED"


def _walk(root: type[XSceneError]) -> list[type[XSceneError]]:
    """The class and all below it, parents first."""
    return [root, *(found for child in root.__subclasses__() for found in _walk(child))]


def find(reason: str, status: str) -> type[XSceneError]:
    """The class with this reason, else the first with this status, else the root."""
    classes = _walk(XSceneError)
    by_reason = {cls.reason(): cls for cls in classes}
    by_status = {cls.status: cls for cls in reversed(classes)}
    return by_reason.get(reason) or by_status.get(status, XSceneError)
