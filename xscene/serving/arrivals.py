"""Requests that wait to be prepared."""

from __future__ import annotations

import threading

from xscene.serving.lanes import Request


class Arrivals:
    """Gives the lightest request first, yet none is passed by more than its own weight.

    So a small request does not stand behind large ones, and under a stream of small ones a large
    one still has its turn. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._waiting: dict[Request, None] = {}
        self._passed = 0
        """Weight of those that were taken before the oldest."""
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: Request) -> None:
        """Let a request wait."""
        with self._changed:
            self._waiting[request] = None
            self._changed.notify()

    def take(self) -> Request | None:
        """The next request, as soon as there is one; None when closed."""
        with self._changed:
            while not self._closed:
                if self._waiting:
                    return self._next()
                self._changed.wait()
        return None

    def drop(self, request: Request) -> None:
        """A request whose caller has left waits no more."""
        with self._changed:
            if request in self._waiting:
                self._remove(request)

    def close(self) -> None:
        """Nothing more is given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> Request:
        oldest = next(iter(self._waiting))
        lightest = min(self._waiting, key=lambda request: request.weight)
        if lightest is oldest or self._passed + lightest.weight > oldest.weight:
            self._remove(oldest)
            return oldest
        self._remove(lightest)
        self._passed += lightest.weight
        return lightest

    def _remove(self, request: Request) -> None:
        if request is next(iter(self._waiting)):
            self._passed = 0
        del self._waiting[request]
