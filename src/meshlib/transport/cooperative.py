"""Moves bytes from tasks: a pool for each endpoint, in the event loop where it was made.

HTTP/2, and HTTP/1.1 under asyncio, take our own connections; HTTP/1.1 under trio, upgrades, CONNECT and requests with
a trace hook take httpcore.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Protocol

from meshlib.transport.base import Target, WireRequest, WireResponse, is_plain
from meshlib.transport.forks import generation
from meshlib.transport.http1.asyncio_pools import EndpointPool

__all__ = ["CooperativePools", "running_loop"]


class _Pool(Protocol):
    def send(self, request: WireRequest) -> Coroutine[Any, Any, WireResponse]: ...

    def retire(self) -> None: ...

    async def aclose(self) -> None: ...


Pools = dict[tuple[Target, bool], _Pool]


def _nowhere() -> None:
    """No event loop yet."""


def running_loop() -> Any:
    """The running event loop, as an object that lives exactly as long as it does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()


class CooperativePools:
    """A ``CooperativeTransport``."""

    keeps_deadlines = True

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._born = generation()
        self._loops: weakref.WeakKeyDictionary[Any, Pools] = weakref.WeakKeyDictionary()
        self._users: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()
        self._last: tuple[Callable[[], Any], Pools] = _nowhere, {}

    def enter(self, user: object) -> None:
        """``user`` sends in the running event loop from now on; see ``leave``."""
        with self._lock:
            self._users.setdefault(running_loop(), weakref.WeakSet()).add(user)

    async def leave(self, user: object) -> None:
        """``user`` is done in the running event loop; the last one out closes its connections."""
        with self._lock:
            users = self._users.get(running_loop())
            if users is not None:
                users.discard(user)
        if not users:
            await self.aclose()

    def send(self, target: Target, request: WireRequest) -> Coroutine[Any, Any, WireResponse]:
        """See ``CooperativeTransport.send``."""
        loop = running_loop()
        known, pools = self._last
        if known() is not loop or self._born != generation():
            pools = self._pools_of(loop)
        key = (target, is_plain(request))
        pool = pools.get(key)
        if pool is None:
            pool = pools[key] = _make(target, loop, ours=key[1])
        return pool.send(request)

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """See ``CooperativeTransport.retire``."""
        with self._lock:
            known = list(self._loops.items()) if self._born == generation() else []
        for loop, pools in known:
            soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
            with contextlib.suppress(Exception):  # a loop that is gone took its connections with it
                soon(_retire, pools, addresses)

    async def aclose(self) -> None:
        """See ``CooperativeTransport.aclose``."""
        pools = self._loops.pop(running_loop(), {}) if self._born == generation() else {}
        self._last = _nowhere, {}
        for pool in pools.values():
            await pool.aclose()

    def _pools_of(self, loop: Any) -> Pools:
        if self._born != generation():  # a forked child leaves its parent's sockets alone
            self._reset()
        with self._lock:
            pools = self._loops.setdefault(loop, {})
            self._last = weakref.ref(loop), pools
            return pools


def _retire(pools: Pools, addresses: Collection[tuple[str, int]]) -> None:
    for key in [key for key in pools if (key[0].address, key[0].port) in addresses]:
        pools.pop(key).retire()


def _make(target: Target, loop: Any, *, ours: bool) -> _Pool:
    if ours and isinstance(loop, asyncio.AbstractEventLoop):
        if not target.http2:
            return EndpointPool(target, loop)
        from meshlib.transport.http2.asyncio_pool import AsyncioHttp2Pool

        return AsyncioHttp2Pool(target, loop)
    if ours and target.http2:
        from meshlib.transport.http2.trio_pool import TrioHttp2Pool

        return TrioHttp2Pool(target, loop)
    from meshlib.transport.kept.cooperative import AsyncKeptPool

    return AsyncKeptPool(target, loop)
