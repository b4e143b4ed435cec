"""Moves bytes from threads: a pool for each endpoint, made at first use, left alone in a forked child.

HTTP/1.1 and HTTP/2 go over our own sockets; upgrades, CONNECT and requests with a trace hook take httpcore.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Protocol

from meshlib.transport.base import Target, WireRequest, WireResponse, is_plain
from meshlib.transport.forks import generation
from meshlib.transport.http1.blocking_pools import BlockingEndpointPool

__all__ = ["BlockingPools"]


class _Pool(Protocol):
    def send(self, request: WireRequest) -> WireResponse: ...

    def retire(self) -> None: ...

    def tend(self) -> None: ...

    def close(self) -> None: ...


class BlockingPools:
    """A ``BlockingTransport``. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._born = generation()
        self._pools: dict[tuple[Target, bool], _Pool] = {}

    def send(self, target: Target, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        key = (target, is_plain(request))
        pool = self._pools.get(key) if self._born == generation() else None
        if pool is None:
            pool = self._make(key)
        return pool.send(request)

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """See ``BlockingTransport.retire``."""
        with self._lock:
            keys = [key for key in self._pools if (key[0].address, key[0].port) in addresses]
            pools = [self._pools.pop(key) for key in keys]
        for pool in pools:
            pool.retire()

    def tend(self) -> None:
        """See ``BlockingTransport.tend``."""
        with self._lock:
            pools = list(self._pools.values()) if self._born == generation() else []
        for pool in pools:
            pool.tend()

    def close(self) -> None:
        """See ``BlockingTransport.close``."""
        with self._lock:
            pools, self._pools = self._pools, {}
            inherited = self._born != generation()
        for pool in pools.values():
            if not inherited:
                pool.close()

    def _make(self, key: tuple[Target, bool]) -> _Pool:
        with self._lock:
            if self._born != generation():  # a forked child leaves its parent's sockets alone
                self._pools, self._born = {}, generation()
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = _make(*key)
            return pool


def _make(target: Target, ours: bool) -> _Pool:
    if ours and not target.http2:
        return BlockingEndpointPool(target)
    if ours:
        from meshlib.transport.http2.blocking_pool import BlockingHttp2Pool

        return BlockingHttp2Pool(target)
    from meshlib.transport.kept.blocking import KeptPool

    return KeptPool(target)
