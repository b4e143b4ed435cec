"""The mesh: providers, the snapshot in force, the live state, and the transports that all clients of it share."""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.clock import SYSTEM_CLOCK, Clock
from meshlib.config.feed import Feed, Options
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.validation import mesh_config_given
from meshlib.dataplane.balancing.subsetting import seed_of
from meshlib.dataplane.departed import departed
from meshlib.dataplane.events import Observer
from meshlib.dataplane.policies.stalls import Stalls
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import State
from meshlib.dataplane.status import cluster_status
from meshlib.environment import keywords
from meshlib.errors import ConfigError
from meshlib.health import HealthChecks
from meshlib.lag import LagMonitor
from meshlib.lookups import Lookups
from meshlib.mesh_inspection import ExplainsItself
from meshlib.mesh_readiness import BecomesReady
from meshlib.mesh_sources import Source, providers_of
from meshlib.mesh_status import STATUS_LIMIT, MeshStatus, provider_status, sources_of
from meshlib.mirror import Mirrors
from meshlib.model.endpoint import Locality
from meshlib.model.problem import LEVELS, Problem
from meshlib.model.snapshot import EMPTY, Client, Snapshot
from meshlib.providers.urls import split
from meshlib.replay import ReplayMemory
from meshlib.supervise import ProviderState
from meshlib.tcp.opens import OpensConnections
from meshlib.upkeep import Upkeep, prepared_of

if TYPE_CHECKING:
    from meshlib.transport.base import BlockingTransport, CooperativeTransport

__all__ = ["Mesh", "MeshSource", "MeshStatus", "as_mesh"]


class Follower(Protocol):
    """Somebody who keeps connections to endpoints beside the mesh's transports."""

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """Nobody is to be sent there any more; may not wait, and what runs there runs on."""
        ...


_LOG = logging.getLogger("meshlib")


class Mesh(BecomesReady, ExplainsItself, OpensConnections):
    """What a process knows of the mesh, kept up to date in the background.

    Nothing is started before the first use, so that a mesh may be made at import time and before a fork.

    Args:
        sources: Paths of files and folders, URLs of providers (``meshlib.providers.urls``), providers, resource
            objects or plain mappings. Where two sources hold the
            same object, the earlier wins.
        namespace: Of the caller, and of objects that name none.
        labels: Of the caller, for ``sourceLabels`` and selectors.
        cluster_domain: DNS suffix of Kubernetes services.
        locality: Of the caller, ``region/zone/subzone``.
        service_account: Of the caller.
        network: Istio network of the caller.
        cluster: Id of the Kubernetes cluster that the caller and the objects are of.
        address: IP address of the caller, which ``consistentHash: {useSourceIp: true}`` hashes; without it all callers
            count as one.
        node: Kubernetes node that the caller runs on, for ``internalTrafficPolicy: Local``.
        revision: Control plane revision whose objects (label ``istio.io/rev``) count beside those of no revision;
            ``""`` takes all.
        strict: Refuse objects with unknown fields.
        ready_timeout: Seconds that the first request waits for the first snapshot.
        mesh_config: Istio's mesh-wide settings; by default those of a ConfigMap ``istio``, else Istio's defaults.
        replay_buffer: Bytes kept of a request body that can be taken only once (a generator, a file), so that a retry
            can send it again; beyond it there is no retry. 0 keeps none.
        replay_memory: Bytes kept of all such bodies together.
        telemetry: False makes neither spans nor metrics; True makes them through OpenTelemetry's API, which costs next
            to nothing while no SDK is configured.
        propagation: Trace context headers: any of ``w3c``, ``b3``, ``b3multi``.
        grpc_metrics: Count RPCs also by gRPC's own names (``grpc.client.attempt.started`` and kin), besides Istio's.
        stall_bound: Seconds by which an event loop, or the process, may be late; timeouts seen while it is later count
            against no endpoint. 0 counts them all.
        worker: Name of this process among others of its kind, for example ``host-3``: with it the process uses the same
            few of very many endpoints after a restart (ClientPolicy ``loadBalancer.subsetSize``). By default, and in a
            forked child, the choice is drawn at random.
        nameservers: DNS servers to ask for the names of ServiceEntries, ``address`` or ``address:port``; by default the
            system's. Needs ``meshlib[dns]``, which also lets answers hold as long as they say.
        clock: For tests.
        rng: For tests.

    Raises:
        ConfigError: A path does not exist, or an argument is of no use.
    """

    def __init__(
        self,
        *sources: Source,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        cluster_domain: str = "cluster.local",
        locality: str | None = None,
        service_account: str = "",
        network: str = "",
        cluster: str = "",
        node: str = "",
        revision: str = "",
        strict: bool = False,
        ready_timeout: float = 10.0,
        mesh_config: MeshConfig | Mapping[str, Any] | None = None,
        replay_buffer: int = 64 * 1024,
        replay_memory: int = 16 * 1024 * 1024,
        telemetry: bool = True,
        propagation: Sequence[str] = ("w3c",),
        grpc_metrics: bool = False,
        stall_bound: float = 0.5,
        worker: str = "",
        address: str = "",
        nameservers: Sequence[str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.clock = clock
        self.rng = rng if rng is not None else random.Random()  # noqa: S311 - not for secrets
        self._draws_itself = rng is None
        self.client = Client(
            namespace,
            dict(labels or {}),
            Locality.parse(locality or ""),
            cluster_domain,
            service_account,
            network,
            cluster,
            node,
            address=address,
        )
        self._providers = providers_of(sources, strict)
        self._states = [ProviderState(provider.name) for provider in self._providers]
        self._ready_timeout = ready_timeout
        settings = None if mesh_config is None else mesh_config_given(mesh_config, strict=strict)
        self._lookups = Lookups(nameservers, clock, rng)
        self._feed = Feed(
            len(self._providers),
            Options(self.client, settings, revision),
            self._lookups.expansions,
        )
        self.observer: Observer | None = _observer(telemetry, propagation, grpc_metrics, self.client)
        told = self.observer
        for provider in self._providers:
            observing = getattr(provider, "observing", None)
            self.observer = observing(self.observer) if observing is not None else self.observer
        seed = self.rng.getrandbits(64) if self._draws_itself and not worker else seed_of(worker)
        self.state = State(told.health_changed if told is not None else None, Stalls(stall_bound), seed)
        if told is not None:
            told.watch(self.state)
        self._lag = LagMonitor(self.state.stalls, told.lagged if told is not None else None)
        self._checks = HealthChecks(prepared_of(weakref.ref(self)), self.state, clock, self.rng, self._lookups.latest)
        self.state.wake = self._checks.wake
        self.state.doubt = self._lookups.doubt
        self.state.sources = sources_of(self._states, clock)
        self.prepared = Prepared(EMPTY, self.state, clock.now(), self.rng)
        self.is_ready = False
        self._told: tuple[Problem, ...] = ()
        self._lock = threading.Lock()
        self._published = threading.Condition(self._lock)
        self._upkeep: Upkeep | None = None
        self._closed = False
        self.mirrors = Mirrors()
        self.replays = ReplayMemory(replay_buffer, replay_memory)
        self._blocking: BlockingTransport | None = None
        self._cooperative: CooperativeTransport | None = None
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        _meshes.add(self)

    @classmethod
    def from_env(cls, **overrides: Any) -> Mesh:
        """A mesh from the environment; keyword arguments win.

        ``MESHLIB_CONFIG`` holds paths, separated as in ``PATH``, or paths and URLs (``consul://127.0.0.1:8500``),
        separated by spaces; ``POD_NAMESPACE`` or ``MESHLIB_NAMESPACE`` the namespace; ``MESHLIB_LABELS`` ``k=v,k=v``;
        every other keyword of ``Mesh`` has a ``MESHLIB_<NAME>``.

        Raises:
            ConfigError: ``MESHLIB_CONFIG`` is not set, or a value cannot be read.
        """
        environ = os.environ
        paths = split(environ.get("MESHLIB_CONFIG", ""))
        if not paths:
            raise ConfigError("MESHLIB_CONFIG is not set: it names files, folders or URLs of configuration")
        return cls(*paths, **{**keywords(environ), **overrides})

    # Publication ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start watching the sources, unless that has been done. Called by the first request."""
        with self._lock:
            if self._upkeep is None and not self._closed:
                known = self._providers, self._states, self._feed, self.clock, self._checks, self._lag
                resolving = self._lookups.resolving
                self._upkeep = Upkeep(self, self._publish, *known, resolving, beats=self._keeps_time)

    @property
    def _keeps_time(self) -> bool:
        """Whether beats and calls are timed by one clock; a clock by hand says nothing about lateness."""
        return self.clock is SYSTEM_CLOCK

    def watch_loop(self) -> None:
        """Calls are made in the running event loop from now on: note when it stands still."""
        if self._keeps_time:
            self._lag.watch_loop()

    def _publish(self, snapshot: Snapshot | None) -> None:
        """One assignment swaps the world; a change of endpoints alone rebuilds pickers only."""
        if snapshot is not None:
            now = self.clock.now()
            if snapshot.routing is self.prepared.snapshot.routing:
                self.prepared.with_endpoints(snapshot, now)
            else:
                self._lookups.names.unwant(now)
                self.prepared = Prepared(snapshot, self.state, now, self.rng)
            problems = self._feed.problems
            if problems is not self._told:
                known = set(self._told)
                self._log([problem for problem in problems if problem not in known])
                self._told = problems
        with self._published:
            self.is_ready = self.is_ready or snapshot is not None
            self._published.notify_all()
        if snapshot is not None:
            self._retire()

    def _log(self, problems: Sequence[Problem]) -> None:
        """Each new finding in a line; of very many the first."""
        for problem in problems[:STATUS_LIMIT]:
            _LOG.warning("%s", problem)
        if len(problems) > STATUS_LIMIT:
            _LOG.warning("%d more problems of the configuration: see mesh.problems", len(problems) - STATUS_LIMIT)

    def _retire(self) -> None:
        """Let go of connections to endpoints that are gone; what runs there runs on."""
        gone = departed(self.state, self.prepared, self.clock.now())
        for transport in (self._blocking, self._cooperative, *self._followers) if gone else ():
            if transport is not None:
                transport.retire(gone)

    def follow(self, follower: Follower) -> None:
        """Tell ``follower``, for as long as it lives, which endpoints it may keep connections to no longer."""
        self._followers.add(follower)

    @property
    def is_started(self) -> bool:
        """Whether the sources are watched; not any more once closed, and in a forked child not yet."""
        return self._upkeep is not None

    @property
    def snapshot(self) -> Snapshot:
        """The one in force; an empty one before the first."""
        return self.prepared.snapshot

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the configuration now; every object without an error is in force all the same."""
        return self._feed.problems

    def status(self) -> MeshStatus:
        """How the mesh is doing; cheap enough to be asked often."""
        now = self.clock.now()
        problems, ignored = self.problems, self._feed.not_honoured
        return MeshStatus(
            self.snapshot.version,
            tuple(provider_status(state, now) for state in self._states),
            tuple(sorted(problems, key=lambda problem: LEVELS.index(problem.level))[:STATUS_LIMIT]),
            ignored[:STATUS_LIMIT],
            {"problems": len(problems), "not_honoured": len(ignored)},
            tuple(cluster_status(each, self.prepared.cluster(each.name), now) for each in self.state.clusters()),
            self.mirrors.summary(),
            tuple(self._lookups.names.rows(now)),
            self.replays.used,
        )

    def lookup(self, name: str) -> tuple[str, ...]:
        """The IP addresses that a name of a DNS cluster in use stands for, as last answered; none before."""
        return self._lookups.latest(name)

    # Transports -----------------------------------------------------------------------------------------------------

    @property
    def blocking(self) -> BlockingTransport:
        """Moves bytes for threads; shared by all clients of this mesh."""
        if self._blocking is None:
            from meshlib.transport.blocking import BlockingPools

            with self._lock:
                self._blocking = self._blocking or BlockingPools()
        return self._blocking

    def tend_connections(self) -> None:
        """See to the connections of threads that rest; the background does, about once a second."""
        if self._blocking is not None:
            self._blocking.tend()

    @property
    def cooperative(self) -> CooperativeTransport:
        """Moves bytes for tasks; shared by all clients of this mesh."""
        if self._cooperative is None:
            from meshlib.transport.cooperative import CooperativePools

            with self._lock:
                self._cooperative = self._cooperative or CooperativePools()
        return self._cooperative

    # Ending ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop watching, close the connections of threads and all raw ones. Idempotent; takes two seconds at most."""
        with self._lock:
            upkeep, self._upkeep, self._closed = self._upkeep, None, True
        if upkeep is not None:
            upkeep.stop()
        self._lag.close()
        self.mirrors.close()
        self.close_connections()
        if self._blocking is not None:
            self._blocking.close()

    async def aclose(self) -> None:
        """As ``close``, and close the connections of the running event loop."""
        import anyio.to_thread

        if self._cooperative is not None:
            await self._cooperative.aclose()
        await anyio.to_thread.run_sync(self.close)

    def after_fork(self) -> None:
        """In a forked child: nothing of the parent runs here; the last good snapshot goes on serving."""
        self._lock = threading.Lock()
        self._published = threading.Condition(self._lock)
        if self._upkeep is not None:
            self._upkeep.forget()
        self._upkeep = None
        self._lookups.names.after_fork()
        if self._draws_itself:
            self.rng.seed()  # else all children would draw alike
        self.state.after_fork(self.rng.getrandbits(64))
        self.prepared.after_fork()
        self.mirrors = Mirrors()
        self.replays = ReplayMemory(self.replays.per_request, self.replays.total)
        self._blocking = self._cooperative = None
        self.forget_connections()

    def __enter__(self) -> Mesh:
        """Start watching."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> Mesh:
        """Start watching."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()


MeshSource = Mesh | Source
"""What the faces take: a mesh, or what ``Mesh`` takes."""

_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


def _after_fork() -> None:
    for mesh in list(_meshes):
        mesh.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def as_mesh(source: MeshSource) -> tuple[Mesh, bool]:
    """The mesh, and whether it was made here."""
    return (source, False) if isinstance(source, Mesh) else (Mesh(source), True)


def _observer(telemetry: bool, propagation: Sequence[str], grpc_metrics: bool, client: Client) -> Observer | None:
    if not telemetry:
        return None
    from meshlib.telemetry.otel import OpenTelemetry

    return OpenTelemetry(client, propagation, grpc_metrics=grpc_metrics)
