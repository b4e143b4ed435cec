"""A cluster made ready: picker, thresholds and detectors around its live state."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from meshlib.dataplane.balancing.client_weights import take_report
from meshlib.dataplane.balancing.load_report import report_in
from meshlib.dataplane.balancing.peak_ewma import measure
from meshlib.dataplane.balancing.pick import Group, Moment, Picker, is_healthy
from meshlib.dataplane.balancing.subsets import narrowed
from meshlib.dataplane.outcome import Blame, Failure, Outcome
from meshlib.dataplane.policies.breakers import Breakers
from meshlib.dataplane.policies.checks import Checks
from meshlib.dataplane.policies.gate import Gate
from meshlib.dataplane.policies.outlier import Detector
from meshlib.dataplane.policies.priorities import NONE
from meshlib.dataplane.state import ClusterState, EndpointState
from meshlib.errors import Overflow
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Assignment, Endpoint
from meshlib.model.policy import BalancerKind

if TYPE_CHECKING:
    from meshlib.dataplane.call import Attempt, Call
    from meshlib.dataplane.policies.rate_limit import RateLimiter
    from meshlib.dataplane.request import Request

__all__ = ["RAW", "PreparedCluster"]

RAW = frozenset({"tcp", "tls"})
"""Schemes of calls that are raw connections."""


_ROUNDING = 1e-9
"""Far less than one retry, and more than binary fractions err: 29 percent of 100 requests are 29."""

Labels = tuple[tuple[str, str], ...]
"""What a route asks of endpoints: labels with their values."""


class PreparedCluster:
    """What a call asks of its cluster.

    Attributes:
        cluster: The configuration.
        state: The live counters, kept by the cluster's name.
        assignment: The endpoints, as discovery last gave them.
        counts_calls: A retry budget looks back and wants to hear of each call that begins.
        inherited: It is a forked child's copy: what its attempts hold is the parent's.
        gate: Bounds HTTP/1.1 connections, and the requests that wait for any; None when unlimited.
        beyond: The ClientPolicy, where it says anything that is decided for each call; None where not.
        limiter: Bounds the rate of calls; None when unlimited.
        measures: The balancer wants to know how long answers take.
        takes_reports: The balancer wants to see the load reports in answers.
        awaited: DNS names that have to be answered before the cluster has endpoints; empty for most, and later.
        doubt: Is told of addresses that could not be connected to, where names were looked up for them; else None.
        checks: Active health checks; None where none are asked for.
    """

    __slots__ = (
        "_breakers",
        "_detector",
        "_groups",
        "_max_requests",
        "_members",
        "_moment",
        "_original",
        "_picker",
        "_reduced",
        "_seen",
        "_subsets",
        "_window",
        "assignment",
        "awaited",
        "beyond",
        "checks",
        "cluster",
        "counts_calls",
        "doubt",
        "gate",
        "inherited",
        "limiter",
        "measures",
        "state",
        "takes_reports",
    )

    def __init__(self, cluster: Cluster, state: ClusterState, assignment: Assignment, now: float, rng: random.Random):
        self.cluster = cluster
        self.state = state
        self.inherited = False
        self.doubt: Callable[[str], None] | None = None
        self.awaited: tuple[str, ...] = ()
        self._original = cluster.discovery is Discovery.ORIGINAL_DST
        kind = cluster.load_balancer.kind
        self._subsets = cluster.load_balancer.subsets
        self.measures = kind is BalancerKind.PEAK_EWMA
        self.takes_reports = kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN
        self._max_requests = cluster.circuit_breaker.max_requests
        detection = cluster.outlier_detection
        self._detector = Detector(detection, state, rng) if detection is not None else None
        breaker = cluster.client_policy.breaker
        self._breakers = Breakers(breaker, state) if breaker is not None else None
        check = cluster.client_policy.health_check
        pardons = detection is None or detection.healthy_check_returns
        self.checks = Checks(check, state, pardons=pardons) if check is not None else None
        self.gate = self._bounded(cluster, state)
        policy = cluster.client_policy
        self.beyond = policy if policy.hedge is not None or policy.faults_below_retries else None
        self.limiter: RateLimiter | None = None
        budget = cluster.circuit_breaker.retry_budget
        self._window = state.window(budget.interval) if budget is not None and budget.interval else None
        self.counts_calls = self._window is not None
        self.update(assignment, now, rng)

    @staticmethod
    def _bounded(cluster: Cluster, state: ClusterState) -> Gate | None:
        limits = cluster.circuit_breaker
        most = limits.max_connections if cluster.protocol is not Protocol.HTTP2 else None
        if most is None and limits.max_pending_requests is None:
            return None
        return state.gate(most, limits.max_pending_requests)

    @property
    def shares_connections(self) -> bool:
        """Whether peers here speak HTTP/2 with callers that want it, so that none of theirs fills a connection."""
        return self.gate is not None and self.gate.multiplexes and self.cluster.protocol is Protocol.CALLER

    def trust(self, fresh: Cluster | None) -> None:
        """Take over the TLS of the same cluster compiled anew; its other settings do not depend on endpoints."""
        if fresh is not None and fresh is not self.cluster and fresh.tls != self.cluster.tls:
            self.cluster = fresh

    def update(self, assignment: Assignment, now: float, rng: random.Random) -> None:
        """New endpoints: known ones keep their counters; the picker is replaced by one assignment."""
        self.assignment = assignment
        states = iter(self.state.adopt((e for group in assignment for e in group.endpoints), now))
        self._groups = [(group, [next(states) for _ in group.endpoints]) for group in assignment]
        self._members = list(dict.fromkeys(state for _, members in self._groups for state in members))
        self.state.members = self._members
        if self.gate is not None:
            self.gate.connections.among(len(self._members))
        if self._detector is not None:
            self._detector.watch(self._members)
        else:
            self.state.pardon()
        if self._breakers is None:
            self.state.unbreak()
        if self.checks is not None:
            self.checks.watch(self._members, now)
        elif self.state.checking:
            self.state.forget_checks()
        self.refresh(rng, now)

    def refresh(self, rng: random.Random, now: float) -> None:
        """Health has changed, or a ramp has gone on: build the picker anew."""
        self._seen = self.state.health_version
        self._moment = self._moment_of(rng, now)
        self._picker = Picker(self.cluster.load_balancer, self._groups, self._moment)
        self._reduced: dict[tuple[frozenset[int], Labels], Picker] = {}

    def _moment_of(self, rng: random.Random, now: float) -> Moment:
        state = self.state
        return Moment(rng, now, lambda: state.active, state.seed)

    @property
    def members(self) -> list[EndpointState]:
        """The states of all endpoints, in discovery's order."""
        return self._members

    def picker_at(self, now: float, subset: Labels = ()) -> Picker:
        """The picker that a pick at ``now`` would use; a sweep that is due then is foreseen, not made."""
        foreseen = any(self._returns(state, now) or self._unshuts(state, now) for state in self._members)
        if not foreseen and self._seen == self.state.health_version:
            return self._picker if self._subsets is None else self._part(NONE, subset)

        def healthy(state: EndpointState) -> bool:
            ejected = state.ejected_at is not None and not self._returns(state, now)
            return is_healthy(state, ejected, state.shut and not self._unshuts(state, now))

        moment = self._moment_of(random.Random(0), now)  # noqa: S311 - only looked at
        return Picker(self.cluster.load_balancer, self._groups_of(subset), moment, healthy)

    def _returns(self, state: EndpointState, now: float) -> bool:
        """Whether an ejected endpoint will be back with the sweep that the next pick makes."""
        until = self.ejected_until(state)
        return until is not None and until <= now

    def _unshuts(self, state: EndpointState, now: float) -> bool:
        """Whether the breaker of an endpoint that is shut will let the next pick through."""
        return state.shut and self._breakers is not None and self._breakers.admits(state, now)

    def ejected_until(self, state: EndpointState) -> float | None:
        """When an ejected endpoint comes back; None when it is not out."""
        return self._detector.back_at(state) if self._detector is not None else None

    def pick(
        self,
        request: Request,
        rng: random.Random,
        now: float,
        hash_key: int | None,
        tried: Collection[EndpointState],
        redraws: int,
        excluded: frozenset[int] = NONE,
        subset: Labels = (),
    ) -> EndpointState | None:
        """An endpoint, or None when none may be picked; ORIGINAL_DST takes the address that the caller named.

        ``excluded`` are priorities that a retry leaves out; they count again where nobody else is left. ``subset`` is
        what the route asks of the endpoints of a cluster with subsets.
        """
        if self._original:
            return self.state.dynamic(self._named(request), now)
        if self.checks is not None:
            self.checks.used(now)
        detector = self._detector
        if detector is not None and detector.is_due(now):
            detector.sweep(now)
        breakers = self._breakers
        if breakers is not None and breakers.is_due(now):
            breakers.reopen(now)
        if self._seen != self.state.health_version or now >= self._picker.stale_at:
            self.refresh(rng, now)
        picker = self._part(excluded, subset) if excluded or self._subsets is not None else self._picker
        return picker.pick(rng, now, hash_key, tried, redraws)

    def answered(self, state: EndpointState, outcome: Outcome, seconds: float, now: float) -> None:
        """An attempt took ``seconds`` until its answer, or its failure; what the caller or we did says nothing."""
        if self.measures and outcome.blame not in (Blame.CALLER, Blame.LOCAL):
            failed = outcome.blame is Blame.HOST
            measure(state, self.cluster.load_balancer.peak_ewma, seconds, now, failed=failed)

    def take_report(self, state: EndpointState, headers: Iterable[tuple[bytes, bytes]], now: float) -> None:
        """Look for a load report in the headers or trailers of an answer."""
        report = report_in(headers)
        if report is not None:
            take_report(state, self.cluster.load_balancer.load_reports, report, now)

    def _part(self, excluded: frozenset[int], subset: Labels) -> Picker:
        """The picker of a subset that leaves some priorities out; remembered until health or membership changes."""
        picker = self._reduced.get((excluded, subset))
        if picker is None:
            groups = self._groups_of(subset)
            picker = Picker(self.cluster.load_balancer, groups, self._moment, excluded=excluded)
            self._reduced[excluded, subset] = picker
        return picker

    def _groups_of(self, subset: Labels) -> list[Group]:
        return self._groups if self._subsets is None else narrowed(self._subsets, self._groups, subset)

    def is_usable_without(self, excluded: frozenset[int], subset: Labels = ()) -> bool:
        """Whether any endpoint may be picked when these priorities are left out."""
        return any(level.parts and level.percent for level in self._part(excluded, subset).levels)

    def priority_of(self, state: EndpointState) -> int:
        """The priority that an endpoint is of; 0 for one that discovery no longer names."""
        return next((group.priority for group, members in self._groups if state in members), 0)

    def _named(self, request: Request) -> Endpoint:
        """ORIGINAL_DST: what the caller itself named."""
        return Endpoint(request.host, self.cluster.target_port or request.port)

    def reach(self, request: Request, now: float, hash_key: int | None, subset: Labels = ()) -> list[str]:
        """Addresses that the first pick of a call at ``now`` may give; nothing is drawn or counted."""
        if self._original:
            return [self._named(request).key]
        return [state.key for state in self.picker_at(now, subset).reach(hash_key)]

    def admit(self, call: Call, state: EndpointState, now: float) -> int | None:
        """Count an attempt at ``state``.

        Returns:
            The number of a breaker's trial, 0 where it is none; None where the breaker of ``state`` was faster than
            the pick and another endpoint is to be picked.

        Raises:
            Overflow: ``max_requests`` are under way already, or the breaker of the cluster is open.
        """
        cluster_state, breakers, trial = self.state, self._breakers, 0
        with cluster_state.lock:
            full = self._max_requests is not None and cluster_state.active >= self._max_requests
            full = full and call.request.scheme not in RAW  # a connection is no request
            if breakers is not None and not full:
                permit = breakers.acquire(state, now)
                trial = -1 if permit is None else permit
            if not full and trial >= 0:
                cluster_state.active += 1
                state.active += 1
        if full:
            raise call.error(Overflow, f"{self._max_requests} requests are under way, the most that are allowed")
        if trial >= 0:
            return trial
        assert breakers is not None
        if breakers.whole or self._original:
            name = state.key if self._original and not breakers.whole else f"cluster {self.cluster.name}"
            raise call.error(Overflow, f"{name}: {breakers.refusal(state, now) or 'its breaker let somebody else in'}")
        return None

    def release(self, attempt: Attempt) -> None:
        """Give back what ``admit`` and the gate gave."""
        if self.inherited:
            return
        with self.state.lock:
            self.state.active -= 1
            attempt.state.active -= 1
        if attempt.ticket is not None:
            attempt.ticket.gate.leave(attempt.ticket)

    def report(
        self, state: EndpointState, outcome: Outcome, now: float, trial: int = 0, since: float | None = None
    ) -> None:
        """Let breaker and detector judge an endpoint by an outcome; the next pick knows the verdict.

        Args:
            state: The endpoint.
            outcome: What came of an attempt.
            now: The time.
            trial: See ``admit``.
            since: When the attempt began; a timeout while this process stood still is then no fault of the endpoint,
                and a breaker that has closed since then looks away.
        """
        if self.doubt is not None and outcome.failure in (Failure.CONNECT, Failure.CONNECT_TIMEOUT):
            self.doubt(state.endpoint.address)
        if outcome.failure is not None and since is not None and outcome.is_timeout:
            outcome = outcome.excused() if self.state.stalls.excuse(since, now) else outcome
        if self._breakers is not None:
            self._breakers.report(state, trial, outcome, now, since)
        if self._detector is not None:
            self._detector.report(state, outcome, now)

    def count_call(self, now: float) -> None:
        """A call begins, for a retry budget that looks back."""
        if self._window is not None:
            with self.state.lock:
                self._window.add(now)

    def take_retry(self, now: float) -> bool:
        """Whether one more retry may be under way, from its back-off to its end; if so it is counted."""
        with self.state.lock:
            limit = self.retry_limit(now)
            if limit is not None and self.state.retries >= limit:
                self.state.retry_overflows += 1
                return False
            self.state.retries += 1
            return True

    def give_retry(self) -> None:
        """A retry is over."""
        with self.state.lock:
            self.state.retries -= 1

    def retry_limit(self, now: float) -> int | None:
        """How many retries may be under way now; None is unlimited. The state's lock is held.

        Those that wait for a connection are among the active. With an interval, the calls that began in it count when
        they are more than those under way.
        """
        limits = self.cluster.circuit_breaker
        budget, requests = limits.retry_budget, self.state.active
        if budget is None:
            return limits.max_retries
        if self._window is not None:
            requests = max(requests, self._window.count(now))
        return max(budget.min_concurrency, int(budget.ratio * requests + _ROUNDING))

    def breaker_words(self, state: EndpointState | None, now: float) -> str:
        """Why the breaker of an endpoint, or of the whole cluster, refuses at ``now``; ``""`` when it does not."""
        breakers = self._breakers
        if breakers is None or (state is None) is not breakers.whole:
            return ""
        return breakers.refusal(state, now)

    def breaker_state(self, state: EndpointState | None) -> str | None:
        """``closed``, ``open`` or ``half-open``, of an endpoint or of the whole cluster; None where it has no breaker.

        One that is open stays so until the first trial goes out, however long ``open_for`` is over.
        """
        breakers = self._breakers
        if breakers is None or (state is None) is not breakers.whole:
            return None
        return breakers.phase(state).value

    def describe(self) -> str:
        """``3 endpoints of <cluster>, 1 ejected``, for error texts."""
        out = sum(state.ejected_at is not None for state in self._members)
        shut = sum(state.shut for state in self._members)
        words = f"{len(self._members)} endpoints of {self.cluster.name}" + (f", {out} ejected" if out else "")
        failing = sum(not state.health_ok for state in self._members)
        words += f", {failing} failing health checks" if failing else ""
        return words + (f", {shut} behind an open circuit breaker" if shut else "")
