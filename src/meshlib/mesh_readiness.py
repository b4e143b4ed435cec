"""The part of a mesh that callers wait by: for the first snapshot, for hosts, for a control plane's word, for DNS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.dataplane.explain import explain
from meshlib.dataplane.request import Request
from meshlib.errors import NotReady, NotYet

if TYPE_CHECKING:
    from meshlib.dataplane.prepared import Prepared
    from meshlib.lookups import Lookups
    from meshlib.model.snapshot import Snapshot
    from meshlib.supervise import ProviderState

__all__ = ["BecomesReady"]


class BecomesReady:
    """What ``Mesh`` inherits.

    Attributes:
        is_ready: A snapshot has been published.
    """

    is_ready: bool

    if TYPE_CHECKING:  # the mesh's
        prepared: Prepared
        _closed: bool
        _lookups: Lookups
        _published: threading.Condition
        _ready_timeout: float
        _states: list[ProviderState]

        def start(self) -> None: ...

        @property
        def is_started(self) -> bool: ...

        @property
        def snapshot(self) -> Snapshot: ...

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return at once unless no snapshot has ever been published; then wait for the first.

        Raises:
            NotReady: None came within ``ready_timeout``, nor within ``timeout`` seconds, or the mesh is closed.
        """
        if not self.is_ready or not self.is_started:
            self.ready(timeout=self._patience(timeout))

    def ready(self, hosts: Sequence[str] | None = None, timeout: float | None = None) -> None:
        """Wait until a snapshot is in force and each of ``hosts`` (``name`` or ``name:port``) has an endpoint.

        Raises:
            NotReady: That did not happen within ``timeout`` seconds (``ready_timeout`` by default), or cannot happen
                because every source failed for good.
        """
        if self._closed:
            raise NotReady("the mesh is closed")
        self.start()
        limit = self._ready_timeout if timeout is None else timeout
        with self._published:
            self._published.wait_for(lambda: self._is_hopeless or (self.is_ready and self._has_endpoints(hosts)), limit)
            if self.is_ready and self._has_endpoints(hosts):
                return
        states = ", ".join(f"{s.name} {s.state} {s.error}".strip() for s in self._states) or "no source"
        what = f"endpoints for {', '.join(hosts)}" if hosts and self.is_ready else "configuration"
        raise NotReady(f"no {what}{'' if self._is_hopeless else f' within {limit:g} s'} ({states})")

    def wait_known(self, asked: NotYet, timeout: float | None = None) -> None:
        """Wait until a control plane, or DNS, has answered what was asked for a host; the first request to it does.

        Raises:
            NotReady: It did not within ``ready_timeout``, nor within ``timeout`` seconds, or the mesh is closed.
        """
        with self._published:
            answered = self._published.wait_for(lambda: self._closed or self._knows(asked), self._patience(timeout))
        if answered and not self._closed:
            return
        raise NotReady(str(asked))

    async def await_known(self, asked: NotYet, timeout: float | None = None) -> None:
        """The cooperative form of ``wait_known``."""
        import anyio.to_thread

        await anyio.to_thread.run_sync(self.wait_known, asked, timeout, abandon_on_cancel=True)

    def _knows(self, asked: NotYet) -> bool:
        if asked.cluster is not None:
            return not self._is_awaited(asked.cluster)
        try:
            self.prepared.host(asked.host, asked.port)
        except NotYet:
            return False
        return True

    def _is_awaited(self, name: str) -> bool:
        """Whether DNS has not answered yet for some name of that cluster, or its answer is not in force yet."""
        cluster = self.prepared.cluster(name)
        return cluster is not None and bool(cluster.awaited)

    async def await_ready(self, timeout: float | None = None) -> None:
        """The cooperative form of ``wait_ready``."""
        if not self.is_ready or not self.is_started:
            await self.aready(timeout=self._patience(timeout))

    def _patience(self, timeout: float | None) -> float:
        """Seconds to wait for the sources, for a caller that has so many; None has no end of its own."""
        return self._ready_timeout if timeout is None else min(self._ready_timeout, timeout)

    async def aready(self, hosts: Sequence[str] | None = None, timeout: float | None = None) -> None:
        """The cooperative form of ``ready``."""
        import anyio.to_thread

        await anyio.to_thread.run_sync(self.ready, hosts, timeout, abandon_on_cancel=True)

    @property
    def _is_hopeless(self) -> bool:
        return not self.is_ready and bool(self._states) and all(state.state == "failed" for state in self._states)

    def _has_endpoints(self, hosts: Sequence[str] | None) -> bool:
        return all(self._reachable(host) for host in hosts or ()) and not (hosts and self._lookups.names.pending)

    def _reachable(self, address: str) -> bool:
        name, _, port = address.partition(":")
        known = () if port else self.snapshot.source.listing()
        ports = [int(port)] if port else [p for host, p in known if name in (host, host.partition(".")[0])]
        for number in ports:
            try:
                decision = explain(self.prepared, Request("GET", "http", f"{name}:{number}", number, "/"))
            except NotYet:
                continue
            if any(destination.endpoints for destination in decision.destinations):
                return not any(self._is_awaited(destination.cluster) for destination in decision.destinations)
        return False
