"""The call that is being served: who asks, until when, under which trace."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

from xscene.errors import DeadlineExceeded
from xscene.serving.security import Identity


@dataclass(frozen=True)
class Call:
    """What the work for a call may need to know about it."""

    method: str
    identity: Identity
    deadline: float | None
    """On the clock of time.monotonic(); None for streams that may last."""
    trace_id: str

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, for calls to other services; raises when it has passed."""
        if self.deadline is None:
            return None
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded("the deadline has passed")
        return remaining


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The call of this task; a LookupError outside one."""
    return _current.get()


def enter(call: Call) -> None:
    """Make `call` the current one; each gRPC call runs in a context of its own."""
    _current.set(call)
