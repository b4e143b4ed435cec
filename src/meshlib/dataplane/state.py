"""Live state, kept by identity: it outlives every snapshot.

A cluster is known by its name and an endpoint by its address, so that counters, ejections and warm-up survive any
change of configuration, a reordered endpoint list, and an endpoint that leaves and comes back within ``KEEP``.

One lock rule for the whole data plane: a few lines, never across a wait. Locks on the way a call ends are reentrant,
since a response that is dropped ends its call in whichever thread collects it, perhaps one that holds the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.dataplane.change import Change, Tell, Wake
from meshlib.dataplane.policies.breaker import Breaker, Phase
from meshlib.dataplane.policies.budget import Window
from meshlib.dataplane.policies.checked import Checked
from meshlib.dataplane.policies.cookie_jar import CookieJar
from meshlib.dataplane.policies.gate import Gate
from meshlib.dataplane.policies.outlier_rates import Results
from meshlib.dataplane.policies.stalls import Stalls
from meshlib.dataplane.policies.token_buckets import TokenBuckets
from meshlib.model.endpoint import Endpoint

if TYPE_CHECKING:
    from meshlib.dataplane.balancing.client_weights import ReportedWeight
    from meshlib.dataplane.balancing.peak_ewma import Latency

__all__ = ["ClusterState", "EndpointState", "Source", "State"]


class EndpointState:
    """What is known of one endpoint of one cluster besides the configuration.

    Attributes:
        key: ``address:port``.
        endpoint: The endpoint as discovery last described it.
        active: Attempts on the wire now, their bodies included. Guarded by the cluster's lock.
        added_at: When discovery first named it, seconds on the mesh's clock.
        left_at: When discovery stopped naming it, or None while it is named.
        ejected_at: When it was ejected, or None.
        ejections: Envoy's multiplier: how often it was ejected, minus quiet sweeps.
        ejection_jitter: Seconds that its present ejection lasts longer, drawn at random.
        consecutive_5xx: Errors in a row.
        consecutive_gateway: 502, 503, 504 in a row.
        consecutive_local: Connection-level failures in a row.
        results: Its results since the last sweep, where rates are judged; else None.
        breaker: Its circuit breaker, once one was asked for.
        shut: Its breaker lets nothing through now.
        checked: What active health checks know of it; None while there are none.
        health_ok: Verdict of active health checks; True while there are none.
        warm_since: When it joined, or came back into discovery, or passed its first active check; slow start counts
            from here.
        reported: Weight by its own load reports, once there was one.
        latency: What is known of its latency, where that decides.
        rank: Seed of a process and the endpoint's rank under it, where a process uses few of very many.
        target: The transport's note of how to reach it; the core does not look inside.
        carried: Somebody beside the transports keeps connections to it.
    """

    __slots__ = (
        "active",
        "added_at",
        "breaker",
        "carried",
        "checked",
        "consecutive_5xx",
        "consecutive_gateway",
        "consecutive_local",
        "ejected_at",
        "ejection_jitter",
        "ejections",
        "endpoint",
        "health_ok",
        "key",
        "latency",
        "left_at",
        "rank",
        "reported",
        "results",
        "shut",
        "target",
        "warm_since",
    )

    def __init__(self, key: str, endpoint: Endpoint, now: float) -> None:
        self.key = key
        self.endpoint = endpoint
        self.active = 0
        self.added_at = self.warm_since = now
        self.left_at: float | None = None
        self.ejected_at: float | None = None
        self.ejection_jitter = 0.0
        self.ejections = 0
        self.consecutive_5xx = 0
        self.consecutive_gateway = 0
        self.consecutive_local = 0
        self.results: Results | None = None
        self.breaker: Breaker | None = None
        self.shut = False
        self.checked: Checked | None = None
        self.health_ok = True
        self.reported: ReportedWeight | None = None
        self.latency: Latency | None = None
        self.rank: tuple[int, int] | None = None
        self.target: tuple[Any, Any, Any] | None = None
        self.carried = False

    def __repr__(self) -> str:
        """For logs and test output."""
        return f"<EndpointState {self.key} active={self.active} ejected={self.ejected_at is not None}>"


class ClusterState:
    """What is known of one cluster besides the configuration. All counters are guarded by ``lock``.

    Attributes:
        name: The cluster's name.
        lock: Guards the counters here and those of the endpoints.
        endpoints: Key -> state, those that left within ``KEEP`` included.
        members: Those that discovery names now, in its order.
        has_left: Some of ``endpoints`` have left.
        active: Attempts under way, their bodies included.
        retries: Retries waiting or under way.
        retry_overflows: Retries that were wanted and not made, because too many were under way.
        stalls: When this process stood still.
        seed: Of this process, for its choice among very many endpoints.
        checking: Active health checks are under way.
        used_at: When a pick was made last, noted where there are health checks.
        health_version: Grows when an endpoint is ejected or comes back, so that every picker notices.
        next_sweep: When ejections are looked at next; None until something was reported.
        breaker: The circuit breaker of the cluster as a whole, once one was asked for.
        next_trial: When an endpoint that is shut may be tried again; None while none is.
    """

    KEEP = 300.0
    """Seconds for which an endpoint that left is remembered."""

    __slots__ = (
        "_gate",
        "_tell",
        "_wake",
        "_window",
        "active",
        "breaker",
        "checking",
        "endpoints",
        "has_left",
        "health_version",
        "lock",
        "members",
        "name",
        "next_sweep",
        "next_trial",
        "retries",
        "retry_overflows",
        "seed",
        "stalls",
        "used_at",
    )

    def __init__(
        self,
        name: str,
        tell: Tell | None = None,
        stalls: Stalls | None = None,
        seed: int = 0,
        wake: Wake | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self._wake = wake
        self.checking = False
        self.used_at = 0.0
        self._tell = tell
        self.stalls = stalls if stalls is not None else Stalls()
        self.members: list[EndpointState] = []
        self.lock = threading.RLock()
        self.endpoints: dict[str, EndpointState] = {}
        self.has_left = False
        self.active = 0
        self.retries = 0
        self.retry_overflows = 0
        self._window: Window | None = None
        self.health_version = 0
        self.next_sweep: float | None = None
        self.breaker: Breaker | None = None
        self.next_trial: float | None = None
        self._gate: Gate | None = None

    def changed(self, change: Change, state: EndpointState | None = None) -> None:
        """The health of an endpoint, or of the cluster, changed: pickers are made anew, and who watches is told."""
        self.health_version += 1
        if self._tell is not None:
            self._tell(self.name, state.key if state is not None else "", change)

    def release(self, state: EndpointState) -> None:
        """Bring an ejected endpoint back, with its counters in a row at zero; the lock is held."""
        state.ejected_at = None
        state.consecutive_5xx = state.consecutive_gateway = state.consecutive_local = 0
        self.changed(Change.RETURNED, state)

    def pardon(self) -> None:
        """Nobody ejects any more: bring back all that are out, for no sweep will."""
        with self.lock:
            self.next_sweep = None
            for state in self.endpoints.values():
                if state.ejected_at is not None:
                    self.release(state)
                    state.ejections = 0

    def wake_checks(self) -> None:
        """Some endpoint is to be checked now."""
        if self._wake is not None:
            self._wake(self.name)

    def forget_checks(self) -> None:
        """Nobody checks any more: their verdicts go with them."""
        with self.lock:
            self.checking = False
            for state in self.endpoints.values():
                state.checked = None
                if not state.health_ok:
                    state.health_ok = True
                    self.changed(Change.CHECKS_PASS, state)

    def unbreak(self) -> None:
        """Nobody asks breakers any more: forget them."""
        with self.lock:
            self.breaker = self.next_trial = None
            for state in self.endpoints.values():
                if state.breaker is not None:
                    state.breaker, state.shut = None, False
                    self.health_version += 1

    def gate(self, capacity: int | None, max_pending: int | None) -> Gate:
        """The gate in front of this cluster's connections, with these limits from now on."""
        with self.lock:
            if self._gate is None:
                self._gate = Gate(capacity, max_pending)
        self._gate.resize(capacity, max_pending)
        return self._gate

    def window(self, interval: float) -> Window:
        """The count of this cluster's calls over the last ``interval`` seconds; kept while the interval stays."""
        with self.lock:
            if self._window is None or self._window.interval != interval:
                self._window = Window(interval)
            return self._window

    def adopt(self, endpoints: Iterable[Endpoint], now: float) -> list[EndpointState]:
        """The state of each of ``endpoints``, in their order; known ones keep their counters, new ones start empty."""
        with self.lock:
            adopted = [self._adopted(endpoint, now) for endpoint in endpoints]
            self.has_left = len(adopted) < len(self.endpoints)
            if self.has_left:
                self._forget({state.key for state in adopted}, now)
            return adopted

    def _adopted(self, endpoint: Endpoint, now: float) -> EndpointState:
        key = endpoint.key
        state = self.endpoints.get(key)
        if state is None:
            state = self.endpoints[key] = EndpointState(key, endpoint, now)
        else:
            if state.left_at is not None:
                state.left_at, state.warm_since = None, now
            if state.endpoint.accepts_mtls is not endpoint.accepts_mtls:
                state.target = None  # it is reached another way from now on
            state.endpoint = endpoint
        return state

    DYNAMIC = 1024
    """Endpoints remembered of a cluster that dials whatever its callers name."""

    def dynamic(self, endpoint: Endpoint, now: float) -> EndpointState:
        """The state of an endpoint that no discovery names."""
        with self.lock:
            state = self.endpoints.get(endpoint.key)
            if state is None:
                if len(self.endpoints) >= self.DYNAMIC:
                    self.endpoints = {key: known for key, known in self.endpoints.items() if known.active}
                state = self.endpoints[endpoint.key] = EndpointState(endpoint.key, endpoint, now)
            return state

    def _forget(self, current: set[str], now: float) -> None:
        for key, state in list(self.endpoints.items()):
            if key in current:
                continue
            if state.left_at is None:
                state.left_at = now
            if now - state.left_at >= self.KEEP and not state.active:
                del self.endpoints[key]

    def after_fork(self) -> None:
        """In a forked child: what was under way is the parent's."""
        self.lock = threading.RLock()
        self.active = self.retries = 0
        self._gate = None
        self.checking = False
        for state in self.endpoints.values():
            state.active = 0
            state.checked, state.health_ok = None, True  # who checks begins anew with the first pick
            if state.breaker is not None and state.breaker.phase is Phase.HALF_OPEN:
                state.breaker, state.shut = None, False  # its trials are the parent's
        if self.breaker is not None and self.breaker.phase is Phase.HALF_OPEN:
            self.breaker = None


class Source(NamedTuple):
    """How one source of the configuration is doing; ``age`` is in seconds, None before it has published."""

    name: str
    age: float | None
    failures: int
    held_empty: bool


class State:
    """The live state of a mesh: every cluster that was ever used.

    Args:
        tell: Is told of every change of health.
        seed: Of this process, for its choice among very many endpoints.

    Attributes:
        stalls: When this process stood still.
        wake: Is told which clusters want health checks; None checks nothing.
        doubt: Is told of addresses that could not be connected to; None tells nobody.
        sources: How the sources of the configuration are doing, for those who collect metrics.
        cookies: Those that were made here for consistent hashing.
    """

    __slots__ = (
        "__weakref__",
        "_buckets",
        "_clusters",
        "_faults",
        "_lock",
        "_seed",
        "_tell",
        "cookies",
        "doubt",
        "sources",
        "stalls",
        "wake",
    )

    def __init__(self, tell: Tell | None = None, stalls: Stalls | None = None, seed: int = 0) -> None:
        self._tell = tell
        self._seed = seed
        self.wake: Wake | None = None
        self.doubt: Callable[[str], None] | None = None
        self.sources: Callable[[], Iterable[Source]] = tuple
        self.cookies = CookieJar()
        self.stalls = stalls if stalls is not None else Stalls()
        self._lock = threading.RLock()
        self._clusters: dict[str, ClusterState] = {}
        self._buckets: dict[str, TokenBuckets] = {}
        self._faults = 0

    def active_faults(self) -> int:
        """How many injected faults are under way."""
        return self._faults

    def count_faults(self, change: int) -> None:
        """So many more, or fewer, are under way."""
        with self._lock:
            self._faults += change

    def buckets(self, name: str, max_tokens: int, tokens_per_fill: int, fill_interval: float) -> TokenBuckets:
        """The buckets of a policy, with these limits from now on."""
        with self._lock:
            known = self._buckets.get(name)
            if known is None:
                known = self._buckets[name] = TokenBuckets(max_tokens, tokens_per_fill, fill_interval)
        known.resize(max_tokens, tokens_per_fill, fill_interval)
        return known

    def cluster(self, name: str) -> ClusterState:
        """The state of that cluster, made at first use."""
        with self._lock:
            state = self._clusters.get(name)
            if state is None:
                state = self._clusters[name] = ClusterState(name, self._tell, self.stalls, self._seed, self.wake)
            return state

    def clusters(self) -> list[ClusterState]:
        """All of them, for status pages."""
        with self._lock:
            return list(self._clusters.values())

    def after_fork(self, seed: int = 0) -> None:
        """In a forked child: nothing is under way, nobody holds a lock, and the child makes choices of its own."""
        self._seed = seed
        self._lock = threading.RLock()
        self._faults = 0
        self.stalls.after_fork()
        self.cookies.after_fork()
        for buckets in self._buckets.values():
            buckets.after_fork()
        for state in self._clusters.values():
            state.seed = seed
            state.after_fork()
