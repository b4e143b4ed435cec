"""The HTTP/2 pool of one endpoint under asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from meshlib.transport.asyncio_dial import dial
from meshlib.transport.base import Target
from meshlib.transport.http1.asyncio_pools import EndpointPool
from meshlib.transport.http2.asyncio_connection import Connection
from meshlib.transport.http2.cooperative_pool import CooperativeHttp2Pool, Http1Pool
from meshlib.transport.sockets import tune

__all__ = ["AsyncioHttp2Pool"]


class AsyncioHttp2Pool(CooperativeHttp2Pool):
    """See ``CooperativeHttp2Pool``."""

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(target)
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self) -> Connection:
        """See ``CooperativeHttp2Pool.dial``."""
        connection = await dial(self.target, self._loop, self._connection, self.sessions)
        tune(connection.get_extra_info("socket"), self.target.settings.tcp_keepalive)
        return connection

    def _connection(self) -> Connection:
        return Connection(self.target, self._loop, self, self.sessions)

    def spawn(self, work: Any) -> None:
        """See ``CooperativeHttp2Pool.spawn``."""
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fall_back(self, target: Target) -> Http1Pool:
        """See ``CooperativeHttp2Pool.fall_back``."""
        return EndpointPool(target, self._loop)
