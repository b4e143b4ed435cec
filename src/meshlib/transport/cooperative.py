"""Moves bytes from tasks, under asyncio and trio: httpcore pools that belong to the event loop they were made in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import httpcore

from meshlib.transport.backends import PinnedAsyncBackend
from meshlib.transport.base import Target, Timeouts, WireRequest, WireResponse
from meshlib.transport.wire import as_httpcore, as_wire_error, count_response, pool_options

__all__ = ["CooperativePools", "running_loop"]

Pools = dict[Target, httpcore.AsyncConnectionPool]


def running_loop() -> Any:
    """The running event loop, as an object that lives exactly as long as it does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()


class CooperativePools:
    """A ``CooperativeTransport`` on httpcore. Deadlines are the driver's: it cancels what takes too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loops: weakref.WeakKeyDictionary[Any, Pools] = weakref.WeakKeyDictionary()
        self._users: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()

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

    async def send(self, target: Target, request: WireRequest) -> WireResponse:
        """See ``CooperativeTransport.send``."""
        pools = self._pools()
        pool = pools.get(target)
        if pool is None:
            backend = PinnedAsyncBackend(target)
            pool = pools[target] = httpcore.AsyncConnectionPool(network_backend=backend, **pool_options(target))
        try:
            response = await pool.handle_async_request(as_httpcore(target, request))
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise as_wire_error(error, request.timeouts) from error
        count_response(response)
        version = response.extensions.get("http_version", b"HTTP/1.1")
        reason = response.extensions.get("reason_phrase", b"")
        body = _AsyncBody(response, request.timeouts)
        return WireResponse(response.status, list(response.headers), body, version, reason, dict(response.extensions))

    async def aclose(self) -> None:
        """See ``CooperativeTransport.aclose``."""
        pools = self._loops.pop(running_loop(), {}) if self._pid == os.getpid() else {}
        for pool in pools.values():
            await pool.aclose()

    def _pools(self) -> Pools:
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._loops, self._users = weakref.WeakKeyDictionary(), weakref.WeakKeyDictionary()
            self._pid = os.getpid()
        loop = running_loop()
        pools = self._loops.get(loop)
        if pools is None:
            with self._lock:
                pools = self._loops.setdefault(loop, {})
        return pools


class _AsyncBody:
    """A response body; closing completes even when the task is being cancelled."""

    def __init__(self, response: httpcore.Response, timeouts: Timeouts) -> None:
        self._response = response
        self._timeouts = timeouts
        self._loop = running_loop()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_stream():
                yield chunk
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise as_wire_error(error, self._timeouts) from error

    async def aclose(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        with anyio.CancelScope(shield=True):
            await self._response.aclose()

    def abandon(self) -> None:
        """Have the event loop close it soon, from whichever thread collects the garbage."""
        loop = self._loop
        with contextlib.suppress(Exception):  # a loop that is gone took its connections with it
            if isinstance(loop, asyncio.AbstractEventLoop):
                loop.call_soon_threadsafe(_spawn, self.aclose)
            else:
                import trio

                loop.run_sync_soon(trio.lowlevel.spawn_system_task, self.aclose)


_closing: set[asyncio.Task[None]] = set()


def _spawn(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.ensure_future(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
