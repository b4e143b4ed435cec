"""httpcore network backends that dial one endpoint, whatever host the request names, under the target's settings."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import httpcore

from meshlib.model.policy import ConnectionPool
from meshlib.transport import sockets
from meshlib.transport.base import Target, Timeouts, WireRequest
from meshlib.transport.eyeballs import race
from meshlib.transport.proxy_header import header_of

__all__ = ["Ageing", "Bounded", "PinnedAsyncBackend", "PinnedBackend", "sending"]

SocketOptions = Iterable[Any] | None


class Bounded(threading.local):
    """The exchange that this thread is busy with; streams clamp every operation to its deadline."""

    timeouts: Timeouts | None = None
    request: WireRequest | None = None

    def clamp(self, timeout: float | None) -> float | None:
        """``timeout``, or what is left until the deadline when that is less; at least a hair above zero."""
        timeouts = self.timeouts
        if timeouts is None or timeouts.deadline is None:
            return timeout
        left = max(timeouts.deadline - time.monotonic(), 1e-4)
        return left if timeout is None else min(timeout, left)


sending: ContextVar[WireRequest | None] = ContextVar("sending", default=None)
"""The exchange that this task is busy with, while its connection may have to be made."""


class Ageing:
    """When a connection has done its share; httpcore asks whether an idle stream is readable before it uses it again.

    Attributes:
        served: Responses that came over it; the pools count.
    """

    def __init__(self, settings: ConnectionPool) -> None:
        self._settings = settings
        self._born = time.monotonic()
        self.served = 0

    @property
    def is_old(self) -> bool:
        """Whether it must not carry another request."""
        longest, most = self._settings.max_connection_duration, self._settings.max_requests_per_connection
        if most is not None and self.served >= most:
            return True
        return longest is not None and time.monotonic() - self._born >= longest


class PinnedBackend(httpcore.NetworkBackend):
    """Dials one endpoint from threads."""

    def __init__(self, target: Target, bounded: Bounded) -> None:
        self._target = target
        self._bounded = bounded
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions = None,
    ) -> httpcore.NetworkStream:
        """Connect to the endpoint; ``host`` and ``port`` are the service's and are not dialled."""
        target, timeout, request = self._target, self._bounded.clamp(timeout), self._bounded.request
        if request is not None:
            request.awaits_connection()
        if target.address.startswith("unix://"):
            stream = self._inner.connect_unix_socket(target.address[7:], timeout)
        else:
            options = sockets.socket_options(target.settings.tcp_keepalive)
            stream = self._connect(timeout, local_address, options)
        if target.settings.proxy_protocol:
            stream.write(header_of(target.settings.proxy_protocol, stream.get_extra_info("socket")), timeout)
        if request is not None:
            request.has_connection()
        return _BoundedStream(stream, self._bounded, Ageing(target.settings))

    def _connect(self, timeout: float | None, local_address: str | None, options: Any) -> httpcore.NetworkStream:
        """To one address of the endpoint; several are tried in turn, since httpcore makes its own sockets."""
        *others, last = self._target.addresses
        for address in others:
            try:
                return self._inner.connect_tcp(address, self._target.port, timeout, local_address, options)
            except httpcore.ConnectError:
                continue
        return self._inner.connect_tcp(last, self._target.port, timeout, local_address, options)


class _BoundedStream(httpcore.NetworkStream):
    """Clamps every operation to the deadline of the exchange, so that a trickling body cannot outlive it."""

    def __init__(self, inner: httpcore.NetworkStream, bounded: Bounded, ageing: Ageing) -> None:
        self._inner = inner
        self._bounded = bounded
        self.ageing = ageing

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._bounded.clamp(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._bounded.clamp(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._bounded.clamp(timeout))
        return _BoundedStream(inner, self._bounded, self.ageing)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self.ageing.is_old:
            return True
        return self._inner.get_extra_info(info)


class PinnedAsyncBackend(httpcore.AsyncNetworkBackend):
    """Dials one endpoint from tasks, under asyncio or trio."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._inner: Any = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the endpoint; ``host`` and ``port`` are the service's and are not dialled."""
        target, request = self._target, sending.get()
        if request is not None:
            request.awaits_connection()
        if target.address.startswith("unix://"):
            stream = await self._inner.connect_unix_socket(target.address[7:], timeout)
        else:
            options = sockets.socket_options(target.settings.tcp_keepalive)
            port = target.port
            stream = await race(
                target.addresses,
                lambda address: self._inner.connect_tcp(address, port, timeout, local_address, options),
                lambda made: made.aclose(),
                httpcore.ConnectError,
            )
        if target.settings.proxy_protocol:
            await stream.write(header_of(target.settings.proxy_protocol, stream.get_extra_info("socket")), timeout)
        if request is not None:
            request.has_connection()
        return _AgeingStream(stream, Ageing(target.settings))


class _AgeingStream(httpcore.AsyncNetworkStream):
    """A stream that counts; the driver bounds its operations."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, ageing: Ageing) -> None:
        self._inner = inner
        self.ageing = ageing

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _AgeingStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self.ageing)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self.ageing.is_old:
            return True
        return self._inner.get_extra_info(info)
