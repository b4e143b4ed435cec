"""Does the active health checks of a mesh, in the background's event loop, over connections of their own.

What is due and what an answer means is decided in ``dataplane.policies.checks``; here it is only done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator

from meshlib.clock import Clock
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.policies.checked import Probe
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import EndpointState, State
from meshlib.model.client_policy import HealthCheck, ProbeKind
from meshlib.transport.cooperative import CooperativePools
from meshlib.transport.probe import probe
from meshlib.transport.targets import Lookup, Targets
from meshlib.transport.tls import TlsContexts, TlsUnavailable

__all__ = ["HealthChecks"]

_LOG = logging.getLogger("meshlib")
_AT_ONCE = 32
"""Checks that may be under way at a time."""
_LOOK = 1.0
"""Seconds after which clusters are looked at anew: some are used no more, some are configured otherwise."""


class HealthChecks:
    """Checks the clusters that are in use.

    Args:
        prepared: What is in force.
        state: The live state.
        clock: The mesh's.
        rng: For jitter.
        lookup: Tells what the name of a ``LOGICAL_DNS`` cluster stands for; see ``transport.targets``.
    """

    def __init__(
        self,
        prepared: Callable[[], Prepared],
        state: State,
        clock: Clock,
        rng: random.Random,
        lookup: Lookup | None = None,
    ) -> None:
        self._prepared = prepared
        self._state = state
        self._clock = clock
        self._rng = rng
        self._lookup = lookup
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def wake(self, name: str) -> None:
        """A cluster is used, or has new endpoints; from any thread."""
        with self._lock:
            self._names.add(name)
            loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the mesh is closing
                loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Check until cancelled; then all verdicts are forgotten and the connections closed."""
        self._woken = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        transport, targets = CooperativePools(), Targets(TlsContexts(), self._lookup)
        slots = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    for cluster, state in self._due():
                        tasks.create_task(self._check(cluster, state, transport, targets, slots))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pause()):
                            await self._woken.wait()
        finally:
            with self._lock:
                self._loop, names, self._names = None, self._names, set()
            for name in names:
                self._state.cluster(name).forget_checks()
            await transport.aclose()

    def _due(self) -> Iterator[tuple[PreparedCluster, EndpointState]]:
        """Whom to ask now; clusters that are used no more, or have no checks any more, are let go."""
        now = self._clock.now()
        for name in list(self._names):
            cluster = self._prepared().cluster(name)
            checks = cluster.checks if cluster is not None else None
            if cluster is None or checks is None or checks.is_idle(now):
                with self._lock:
                    self._names.discard(name)
                self._state.cluster(name).forget_checks()
                continue
            for state in checks.due(now, self._rng):
                yield cluster, state

    def _pause(self) -> float | None:
        """Seconds until somebody is due; None while no cluster is in use."""
        if not self._names:
            return None
        now, found = self._clock.now(), _LOOK
        for name in list(self._names):
            cluster = self._prepared().cluster(name)
            due = cluster.checks.next_due() if cluster is not None and cluster.checks is not None else None
            if due is not None:
                found = min(found, due - now)
        return max(0.01, found)

    async def _check(
        self,
        cluster: PreparedCluster,
        state: EndpointState,
        transport: CooperativePools,
        targets: Targets,
        slots: asyncio.Semaphore,
    ) -> None:
        checks = cluster.checks
        assert checks is not None
        settings, result, words = checks.settings, Probe.NOTHING, ""
        try:
            async with slots:
                started = self._clock.now()
                result, words = await self._ask(cluster, state, settings, transport, targets)
            if result is Probe.NO_ANSWER and self._state.stalls.excuse(started, self._clock.now()):
                result = Probe.NOTHING
        except TlsUnavailable as error:
            _LOG.warning("health check of %s: %s", state.key, error)
        except Exception:  # a defect here must not end the checks of all
            _LOG.exception("health check of %s failed", state.key)
        finally:
            change = checks.record(state, result, self._clock.now(), words)
        if change is not None:
            _LOG.info("%s of %s: %s (%s)", state.key, cluster.cluster.name, change.value, words)

    async def _ask(
        self,
        cluster: PreparedCluster,
        state: EndpointState,
        settings: HealthCheck,
        transport: CooperativePools,
        targets: Targets,
    ) -> tuple[Probe, str]:
        http2 = True if settings.kind is ProbeKind.GRPC else None
        authority = cluster.cluster.service
        target = targets.to(
            cluster.cluster,
            state.endpoint,
            settings.host or authority,
            port=settings.port,
            http2=http2,
            idle=2.5 * settings.interval,  # kept from one check to the next, and not long after the last
        )
        return await probe(transport, target, settings, authority)
