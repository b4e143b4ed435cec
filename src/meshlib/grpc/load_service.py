"""The service by which clients have a server's load told to them, out of band, at an interval that they ask for.

``xds.service.orca.v3.OpenRcaService`` has one method: one request, then a report every so often. The few bytes of both
messages are read and written here. A client of a thread pool's server occupies a thread of the pool for as long as it
listens. Source: gRFC A51.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from meshlib.dataplane.balancing.load_report import fields
from meshlib.grpc.load_report import ServerLoad, encode

__all__ = ["METHOD", "load_service", "read_interval"]

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"


def load_service(load: ServerLoad, *, aio: bool = False) -> grpc.GenericRpcHandler:
    """For ``server.add_generic_rpc_handlers``.

    Args:
        load: What is told.
        aio: The server is one of ``grpc.aio``.
    """
    return _Service(load, aio)


def read_interval(request: bytes) -> float:
    """Seconds that an ``OrcaLoadReportRequest`` asks for; 0 where it does not say.

    Raises:
        ValueError: The message cannot be read.
    """
    try:
        for number, value in fields(request):
            if number == 1 and isinstance(value, bytes):
                parts = dict(fields(value))
                return float(parts.get(1, 0)) + float(parts.get(2, 0)) / 1e9
    except (IndexError, TypeError) as error:
        raise ValueError(f"not a request for load reports: {error}") from None
    return 0.0


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, load: ServerLoad, aio: bool) -> None:
        self._load = load
        self._aio = aio

    def service(  # pyright: ignore[reportIncompatibleMethodOverride] - its name is long
        self, details: Any
    ) -> Any:
        """See ``grpc.GenericRpcHandler``."""
        if details.method != METHOD:
            return None
        return grpc.unary_stream_rpc_method_handler(self._atell if self._aio else self._tell)

    def _interval(self, request: bytes) -> float:
        return max(self._load.min_interval, read_interval(request))

    def _tell(self, request: bytes, context: Any) -> Iterator[bytes]:
        try:
            interval = self._interval(request)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        over = threading.Event()
        if not context.add_callback(over.set):
            return
        while not over.is_set():
            yield encode(self._load.report())
            over.wait(interval)

    async def _atell(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            interval = self._interval(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        while True:
            yield encode(self._load.report())
            await asyncio.sleep(interval)
