"""httpcore's pool for one endpoint, from tasks, under asyncio or trio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any

import anyio
import httpcore

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.kept.backends import PinnedAsyncBackend, sending
from meshlib.transport.kept.wire import ERRORS, as_httpcore, as_wire_error, count_response, pool_options

__all__ = ["AsyncKeptPool"]


class AsyncKeptPool:
    """Connections to one endpoint, in the event loop ``loop``."""

    def __init__(self, target: Target, loop: Any) -> None:
        self._target = target
        self._loop = loop
        backend = PinnedAsyncBackend(target)
        self._pool = httpcore.AsyncConnectionPool(network_backend=backend, **pool_options(target))
        self._active = 0
        self._retired = False

    async def send(self, request: WireRequest) -> WireResponse:
        """See ``CooperativeTransport.send``."""
        self._active += 1
        token = sending.set(request) if request.ticket is not None else None
        try:
            if token is not None and any(each.is_idle() for each in self._pool.connections):
                request.has_connection()
            theirs = as_httpcore(self._target, request)
            response = await _until(request.timeouts, self._pool.handle_async_request, theirs)
        except BaseException as error:
            self._end()
            if isinstance(error, ERRORS):
                raise as_wire_error(error, request.timeouts) from error
            raise
        finally:
            if token is not None:
                sending.reset(token)
        count_response(response)
        version = response.extensions.get("http_version", b"HTTP/1.1")
        reason = response.extensions.get("reason_phrase", b"")
        body = _AsyncBody(response, request.timeouts, self._loop, self._end)
        return WireResponse(response.status, list(response.headers), body, version, reason, dict(response.extensions))

    def _end(self) -> None:
        self._active -= 1
        if self._retired and not self._active:
            _soon(self._loop, self.aclose)

    def retire(self) -> None:
        """Close every connection once nothing is under way."""
        self._retired = True
        if not self._active:
            _soon(self._loop, self.aclose)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _until(timeouts: Timeouts, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """``work``, cancelled at the deadline."""
    if timeouts.deadline is None:
        return await work(*args)
    with anyio.move_on_after(timeouts.deadline - monotonic()):
        return await work(*args)
    raise WireError(Failure.DEADLINE, "the timeout ran out", sent=True)


class _AsyncBody:
    """A response body; closing completes even when the task is being cancelled."""

    def __init__(self, response: httpcore.Response, timeouts: Timeouts, loop: Any, over: Callable[[], None]) -> None:
        self._response = response
        self._timeouts = timeouts
        self._loop = loop
        self._over = over
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._response.aiter_stream()
        try:
            while True:
                try:
                    chunk = await _until(self._timeouts, chunks.__anext__)
                except StopAsyncIteration:
                    return
                yield chunk
        except ERRORS as error:
            raise as_wire_error(error, self._timeouts) from error

    def whole(self) -> None:
        """Nothing is known to be complete before it is read."""

    async def aclose(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        try:
            with anyio.CancelScope(shield=True):
                await self._response.aclose()
        finally:
            if self._open:
                self._open = False
                self._over()

    def abandon(self) -> None:
        """Have the event loop close it soon, from whichever thread collects the garbage."""
        _soon(self._loop, self.aclose)


def _soon(loop: Any, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have ``loop`` run it, from any thread; a loop that is gone took its connections with it."""
    with contextlib.suppress(Exception):
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(_spawn, close)
        else:
            import trio

            loop.run_sync_soon(trio.lowlevel.spawn_system_task, close)


_closing: set[asyncio.Task[None]] = set()


def _spawn(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.ensure_future(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
