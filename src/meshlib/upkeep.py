"""What runs in the background for one mesh, until it is closed or nobody holds it any more.

A mesh that is dropped without ``close`` is collected as any other object: what runs for it holds it weakly, and ends.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from meshlib import background
from meshlib.clock import Clock
from meshlib.config.feed import Feed
from meshlib.dataplane.prepared import Prepared
from meshlib.dns.resolving import Resolving
from meshlib.health import HealthChecks
from meshlib.lag import LagMonitor
from meshlib.model.snapshot import Snapshot
from meshlib.providers.base import Provider
from meshlib.supervise import ProviderState, supervise

__all__ = ["Kept", "Upkeep", "prepared_of"]

_LOG = logging.getLogger("meshlib")

_TENDED = 1.0
"""Seconds between two looks at connections that rest."""

Publish = Callable[[Snapshot | None], None]


class Kept(Protocol):
    """What is kept up: a mesh."""

    prepared: Prepared

    def tend_connections(self) -> None:
        """See ``BlockingTransport.tend``."""


class Upkeep:
    """The coroutine of one mesh in the background's event loop, from ``start`` until ``stop``.

    Args:
        mesh: Whose it is; held weakly. When it is collected, the coroutine ends.
        publish: Its method that puts a snapshot in force.
        providers: Where facts come from.
        states: How the providers are doing.
        feed: What makes snapshots of the facts.
        clock: The mesh's.
        checks: Its health checks.
        lag: Notes when event loops are late.
        resolving: Looks DNS names up.
        beats: Whether to watch the process as well as the loops of callers.
    """

    def __init__(
        self,
        mesh: Kept,
        publish: Publish,
        providers: Sequence[Provider],
        states: Sequence[ProviderState],
        feed: Feed,
        clock: Clock,
        checks: HealthChecks,
        lag: LagMonitor,
        resolving: Resolving,
        *,
        beats: bool,
    ) -> None:
        known = providers, states, feed, clock, checks, lag if beats else None, resolving
        run = partial(_run, weakref.WeakMethod(publish), weakref.ref(mesh), *known)
        running = background.shared.start(run)
        self._collected = weakref.finalize(mesh, background.shared.call_soon, partial(_end, running, lag))
        self._collected.atexit = False  # at exit the whole background ends
        self._running = running

    def stop(self) -> None:
        """End it; the last mesh of the process waits for the background thread, two seconds at most."""
        self._collected.detach()
        self._running.cancel()
        background.shared.release()

    def forget(self) -> None:
        """In a forked child: it runs in the parent."""
        self._collected.detach()


def prepared_of(mesh: weakref.ref[Kept]) -> Callable[[], Prepared]:
    """What is in force, for those who must not keep the mesh alive; cancels whoever asks once it is collected."""

    def prepared() -> Prepared:
        known = mesh()
        if known is None:
            raise asyncio.CancelledError
        return known.prepared

    return prepared


async def _run(
    publish: weakref.WeakMethod[Publish],
    mesh: weakref.ref[Kept],
    providers: Sequence[Provider],
    states: Sequence[ProviderState],
    feed: Feed,
    clock: Clock,
    checks: HealthChecks,
    lag: LagMonitor | None,
    resolving: Resolving,
) -> None:
    def published(snapshot: Snapshot | None) -> None:
        known = publish()
        if known is not None:
            known(snapshot)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervise(providers, states, feed, published, clock, resolving))
        tasks.create_task(checks.run())
        tasks.create_task(_tend(mesh))
        if lag is not None:
            tasks.create_task(lag.watch_process())


async def _tend(mesh: weakref.ref[Kept]) -> None:
    """Threads look after connections only while they call; event loops look after their own."""
    while True:
        await asyncio.sleep(_TENDED)
        if (known := mesh()) is not None:
            try:
                known.tend_connections()
            except Exception:  # the rest of the upkeep goes on
                _LOG.exception("connections at rest could not be seen to")
        del known


def _end(running: Future[None], lag: LagMonitor) -> None:
    """In the background thread: a finalizer may run while anybody holds any lock, and must not wait."""
    lag.close()
    running.cancel()
    background.shared.release()
