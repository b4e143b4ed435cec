"""Ends a gRPC server that fails no call: say so, wait until it is known, take nothing new, let what runs run out."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import Any

__all__ = ["adrain", "drain"]

_LOG = logging.getLogger("meshlib")


def drain(server: Any, *, grace: float = 30.0, notice: float = 0.0, health: Any = None) -> None:
    """Drain a ``grpc.Server``; returns when it has ended. Call it from the thread that waits for SIGTERM.

    Args:
        server: The server.
        grace: Seconds that calls which are under way have left; then they are cut off.
        notice: Seconds between the word that this server will end and the end of its taking calls: as long as
            discovery and health checks take to notice.
        health: The ``HealthServicer`` of ``grpc_health.v1``; from now on all its services are NOT_SERVING, for good.
    """
    if health is not None:
        health.enter_graceful_shutdown()
    if notice > 0:
        time.sleep(notice)
    _LOG.info("the gRPC server takes no more calls; those under way have %g s", grace)
    server.stop(grace).wait()


async def adrain(server: Any, *, grace: float = 30.0, notice: float = 0.0, health: Any = None) -> None:
    """As ``drain``, for a ``grpc.aio.Server``; ``health`` may be the servicer of either kind."""
    if health is not None:
        entered = health.enter_graceful_shutdown()
        if inspect.isawaitable(entered):
            await entered
    if notice > 0:
        await asyncio.sleep(notice)
    _LOG.info("the gRPC server takes no more calls; those under way have %g s", grace)
    await server.stop(grace)
