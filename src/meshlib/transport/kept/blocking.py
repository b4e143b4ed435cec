"""httpcore's pool for one endpoint, from threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import httpcore

from meshlib.transport.base import Target, Timeouts, WireRequest, WireResponse
from meshlib.transport.kept.backends import Bounded, PinnedBackend
from meshlib.transport.kept.wire import ERRORS, as_httpcore, as_wire_error, count_response, pool_options

__all__ = ["KeptPool"]

_bounded = Bounded()


class KeptPool:
    """Connections to one endpoint. Safe to share between threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        backend = PinnedBackend(target, _bounded)
        self._pool = httpcore.ConnectionPool(network_backend=backend, **pool_options(target))
        self._lock = threading.RLock()
        self._active = 0
        self._retired = False

    def send(self, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        timeouts = request.timeouts
        _bounded.timeouts, _bounded.request = timeouts, request
        self._count(1)
        try:
            if any(each.is_idle() for each in self._pool.connections):
                request.has_connection()
            response = self._pool.handle_request(as_httpcore(self._target, request))
        except BaseException as error:
            self._count(-1)
            if isinstance(error, ERRORS):
                raise as_wire_error(error, timeouts) from error
            raise
        finally:
            _bounded.timeouts = _bounded.request = None
        count_response(response)
        version = response.extensions.get("http_version", b"HTTP/1.1")
        reason = response.extensions.get("reason_phrase", b"")
        body = _Body(response, timeouts, partial(self._count, -1))
        return WireResponse(response.status, list(response.headers), body, version, reason, dict(response.extensions))

    def _count(self, change: int) -> None:
        with self._lock:
            self._active += change
            over = self._retired and not self._active
        if over:
            self._pool.close()

    def retire(self) -> None:
        """Close every connection once nothing is under way."""
        self._retired = True
        self._count(0)

    def tend(self) -> None:
        """Nothing: the pool sees to its connections with each request."""

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Body:
    """A response body whose every read is bounded by the exchange's deadline."""

    def __init__(self, response: httpcore.Response, timeouts: Timeouts, over: Callable[[], None]) -> None:
        self._response = response
        self._timeouts = timeouts
        self._over = over
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._response.iter_stream()
        while True:
            _bounded.timeouts = self._timeouts
            try:
                chunk = next(chunks, None)
            except ERRORS as error:
                raise as_wire_error(error, self._timeouts) from error
            finally:
                _bounded.timeouts = None
            if chunk is None:
                return
            yield chunk

    def whole(self) -> None:
        """Nothing is known to be complete before it is read."""

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        self._response.close()
        if self._open:
            self._open = False
            self._over()

    def abandon(self) -> None:
        """The same: closing never waits here."""
        self.close()
