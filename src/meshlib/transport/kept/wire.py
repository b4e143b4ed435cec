"""Between our words and httpcore's: requests, timeouts and failures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpcore

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest

__all__ = ["ERRORS", "as_httpcore", "as_wire_error", "count_response", "pool_options"]

ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""What httpcore raises of the wire."""

_FAILURES: tuple[tuple[type[Exception], Failure], ...] = (
    (httpcore.ConnectTimeout, Failure.CONNECT_TIMEOUT),
    (httpcore.ConnectError, Failure.CONNECT),
    (httpcore.PoolTimeout, Failure.POOL_TIMEOUT),
    (httpcore.ReadTimeout, Failure.READ_TIMEOUT),
    (httpcore.WriteTimeout, Failure.WRITE_TIMEOUT),
    (httpcore.WriteError, Failure.WRITE),
    (httpcore.ReadError, Failure.CLOSED),
    (httpcore.ConnectionNotAvailable, Failure.REFUSED_STREAM),
    (httpcore.LocalProtocolError, Failure.LOCAL),
    (httpcore.RemoteProtocolError, Failure.PROTOCOL),
    (httpcore.UnsupportedProtocol, Failure.LOCAL),
)
_NOT_SENT = frozenset(
    {Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.POOL_TIMEOUT, Failure.REFUSED_STREAM, Failure.TLS}
)
_TIMEOUTS = frozenset({Failure.CONNECT_TIMEOUT, Failure.READ_TIMEOUT, Failure.WRITE_TIMEOUT, Failure.POOL_TIMEOUT})
_REFUSED_STREAM = 7


def pool_options(target: Target) -> dict[str, Any]:
    """Keyword arguments of the pool for one endpoint.

    How many connections carry something is decided before, by the cluster's gate; where it bounds them, no endpoint
    keeps more than its share.
    """
    settings = target.settings
    resting = None if target.gate is None else target.gate.connections.share
    return {
        "ssl_context": target.tls,
        "max_connections": None,
        "max_keepalive_connections": 0 if settings.max_requests_per_connection == 1 else resting,
        "keepalive_expiry": settings.idle_timeout,
        "http1": not target.http2 or target.http1_too,
        "http2": target.http2,
    }


def as_httpcore(target: Target, request: WireRequest) -> httpcore.Request:
    """The request in httpcore's form; the URL names the endpoint so that all hosts share its connections."""
    timeouts = request.timeouts
    connect = target.settings.connect_timeout
    if timeouts.connect is not None:
        connect = min(connect, timeouts.connect)
    extensions: dict[str, Any] = {
        "timeout": {"connect": connect, "read": timeouts.read, "write": timeouts.write, "pool": timeouts.pool}
    }
    if target.tls is not None:
        extensions["sni_hostname"] = target.server_name
    if request.trace is not None:
        extensions["trace"] = request.trace
    host = "unix" if target.address.startswith("unix:") else target.address
    scheme = b"https" if target.tls is not None else b"http"
    url = httpcore.URL(scheme=scheme, host=host.encode(), port=target.port or None, target=request.target)
    content: Any = Content(request.body or b"") if isinstance(request.body, bytes | None) else request.body
    return httpcore.Request(request.method, url, headers=request.headers, content=content, extensions=extensions)


class Content:
    """A body that is at hand, for both colours; no generator, which a broken exchange would leave unfinished."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._content,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._content)


class _Once:
    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def count_response(response: httpcore.Response) -> None:
    """The connection has carried one more; see ``Ageing``."""
    ageing = getattr(response.extensions.get("network_stream"), "ageing", None)
    if ageing is not None:
        ageing.served += 1


def as_wire_error(error: Exception, timeouts: Timeouts) -> WireError:
    """What an httpcore exception means; a timeout at the exchange's own deadline is ``DEADLINE``."""
    failure = next((kind for type_, kind in _FAILURES if isinstance(error, type_)), Failure.LOCAL)
    if failure is Failure.PROTOCOL:
        failure = _protocol(error)
    sent = failure not in _NOT_SENT
    if failure in _TIMEOUTS and timeouts.deadline is not None and time.monotonic() >= timeouts.deadline - 1e-3:
        failure = Failure.DEADLINE
    return WireError(failure, str(error) or type(error).__name__, sent=sent)


def _protocol(error: Exception) -> Failure:
    text = str(error)
    if "disconnected" in text or "closed connection" in text:
        return Failure.CLOSED
    if "StreamReset" in text:
        return Failure.REFUSED_STREAM if f"error_code:{_REFUSED_STREAM}" in text.replace(" ", "") else Failure.RESET
    if "ConnectionTerminated" in text:
        return Failure.CLOSED
    return Failure.PROTOCOL
