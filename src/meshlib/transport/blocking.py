"""Moves bytes from threads: one httpcore pool per endpoint, made at first use, reset in a forked child."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import httpcore

from meshlib.transport.backends import Bounded, PinnedBackend
from meshlib.transport.base import Target, Timeouts, WireRequest, WireResponse
from meshlib.transport.wire import as_httpcore, as_wire_error, count_response, pool_options

__all__ = ["BlockingPools"]


class BlockingPools:
    """A ``BlockingTransport`` on httpcore. Safe to share between threads."""

    def __init__(self) -> None:
        self._bounded = Bounded()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pools: dict[Target, httpcore.ConnectionPool] = {}

    def send(self, target: Target, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        pool = self._pools.get(target) if self._pid == os.getpid() else None
        if pool is None:
            pool = self._make(target)
        timeouts = request.timeouts
        self._bounded.timeouts = timeouts
        try:
            response = pool.handle_request(as_httpcore(target, request))
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise as_wire_error(error, timeouts) from error
        finally:
            self._bounded.timeouts = None
        count_response(response)
        version = response.extensions.get("http_version", b"HTTP/1.1")
        reason = response.extensions.get("reason_phrase", b"")
        body = _Body(response, timeouts, self._bounded)
        return WireResponse(response.status, list(response.headers), body, version, reason, dict(response.extensions))

    def close(self) -> None:
        """See ``BlockingTransport.close``."""
        with self._lock:
            pools, self._pools = self._pools, {}
            inherited = self._pid != os.getpid()
        for pool in pools.values():
            if not inherited:
                pool.close()

    def retain(self, targets: set[Target]) -> None:
        """Close the idle connections of every endpoint that is not among ``targets``."""
        with self._lock:
            gone = [self._pools.pop(target) for target in list(self._pools) if target not in targets]
        for pool in gone:
            pool.close()

    def _make(self, target: Target) -> httpcore.ConnectionPool:
        with self._lock:
            if self._pid != os.getpid():  # a forked child leaves its parent's sockets alone
                self._pools, self._pid = {}, os.getpid()
            pool = self._pools.get(target)
            if pool is None:
                backend = PinnedBackend(target, self._bounded)
                pool = self._pools[target] = httpcore.ConnectionPool(network_backend=backend, **pool_options(target))
            return pool


class _Body:
    """A response body whose every read is bounded by the exchange's deadline."""

    def __init__(self, response: httpcore.Response, timeouts: Timeouts, bounded: Bounded) -> None:
        self._response = response
        self._timeouts = timeouts
        self._bounded = bounded

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._response.iter_stream()
        while True:
            self._bounded.timeouts = self._timeouts
            try:
                chunk = next(chunks, None)
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
                raise as_wire_error(error, self._timeouts) from error
            finally:
                self._bounded.timeouts = None
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        self._response.close()

    def abandon(self) -> None:
        """The same: closing never waits here."""
        self._response.close()
