"""One call on its way through the mesh: the object that drivers ask what to do next.

A driver owns the waiting, the call owns the decisions::

    call = prepared.begin(request, now, rng, observer)      # routed, faults drawn; raises NoRoute, NoCluster
    wait for call.delay                                     # an injected delay, almost always 0
    call.answer                                             # redirect, direct response or abort: do not send
    attempt = call.next_attempt(now)                        # an endpoint with all permits; raises NotSent, deadline
    ... send to attempt.endpoint, at most until attempt.deadline ...
    wait = call.settle(attempt, outcome, now)               # None: the outcome stands; else try again after ``wait``
    call.close(now)                                         # when the body has ended, been closed or been dropped

Every permit an attempt holds is given back in ``_end``, which runs exactly once for each attempt, and ``close`` may be
called at any moment and any number of times. Nothing here waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane import timeout_headers, trace_headers
from meshlib.dataplane.attempt import Attempt, Injection
from meshlib.dataplane.call_facts import CallFacts, ErrorT
from meshlib.dataplane.events import CallObserver, ConnectionObserver
from meshlib.dataplane.outcome import CONNECTED, Failure, Outcome
from meshlib.dataplane.policies.priorities import NONE, PreviousPriorities
from meshlib.dataplane.rewriting import rewrite
from meshlib.dataplane.state import EndpointState
from meshlib.errors import DeadlineExceeded, MeshError, NoHealthyUpstream, Overflow

if TYPE_CHECKING:
    from meshlib.dataplane.cluster import PreparedCluster
    from meshlib.dataplane.state import State

__all__ = ["Attempt", "Call", "Injection"]


class Call(CallFacts):
    """One logical request, from the route to the end of the response body; ``CallFacts`` says what is known of it."""

    __slots__ = ()

    def hold_faults(self, state: State, number: int) -> None:
        """So many more injected faults are under way until this call is over."""
        state.count_faults(number)
        self._faults = (state, number + (self._faults[1] if self._faults is not None else 0))

    def observe(self, observer: CallObserver | None) -> None:
        """Whom to tell what happens from here on."""
        self._observer = observer

    # The life of a call ---------------------------------------------------------------------------------------------

    def next_attempt(self, now: float) -> Attempt:
        """Pick an endpoint and take every permit that sending to it needs.

        Raises:
            NoHealthyUpstream: No endpoint may be picked.
            Overflow: A threshold of the cluster is reached.
            DeadlineExceeded: The overall timeout ran out while waiting.
        """
        if not self.attempts:
            self._start_clock(now)
        if self.deadline is not None and now >= self.deadline:
            raise self.error(DeadlineExceeded, self.ran_out())
        prepared = self._prepared
        assert prepared is not None, "a call with an answer is not sent"
        redraws, excluded = self._elsewhere(prepared) if self._tried else (0, NONE)
        state = self._pick(prepared, now, redraws, excluded)
        while (trial := prepared.admit(self, state, now)) is None:  # a breaker shut between pick and permit
            state = self._pick(prepared, now, redraws, excluded)
        self.attempts += 1
        attempt = self._current = self._last = Attempt(self.attempts, state, prepared.cluster, now, prepared.gate)
        attempt.trial = trial
        if prepared.gate is not None and self.request.wants_http2 and prepared.shares_connections:
            attempt.ticket = prepared.gate.join()
        self._tried.append(state)
        if self._promised:
            self._promised -= 1
            attempt.token = True
        self.bound_attempt(attempt, now)
        if self.draw_fault is not None:
            attempt.fault = self.draw_fault(self)
        if self._observer is not None:
            self._observer.attempt_started(attempt, now)
        return attempt

    def attempt_beside(self, now: float) -> Attempt | None:
        """As ``next_attempt`` while others are under way, for a place that was promised; None where that fails."""
        flags = self._flags
        try:
            return self.next_attempt(now)
        except MeshError:
            self._flags, self.error_status = flags, 0
            self._promised -= 1
            self._prepared.give_retry()  # type: ignore[union-attr]  # promised by it
            return None

    def _pick(self, prepared: PreparedCluster, now: float, redraws: int, excluded: frozenset[int]) -> EndpointState:
        subset = self.destination.subset if self.destination is not None else ()
        state = prepared.pick(self.request, self._rng, now, self.hash_key, self._tried, redraws, excluded, subset)
        if state is None:
            raise self.error(NoHealthyUpstream, f"no healthy endpoint among {prepared.describe()}")
        return state

    def settle(self, attempt: Attempt, outcome: Outcome, now: float) -> float | None:
        """Classify ``attempt`` and decide what comes next.

        Returns:
            Seconds to wait before the next attempt, with this one's permits given back; or None when the outcome
            stands. After None a failure is over, while an answer stays open until ``close``.
        """
        self.outcome = attempt.outcome = outcome
        if self._prepared is not None and self._prepared.measures:
            self._measure(attempt, outcome, now)
        wait = self.retry_after(attempt, outcome, now)
        if wait is not None or outcome.failure is not None:
            self._end(attempt, outcome, now)
        elif outcome.judged >= 500 or attempt.trial:
            self._report(attempt, outcome, now)
        if wait is None and outcome.failure is not None:
            self._finish(now)
        return wait

    def take_report(self, headers: header_ops.Pairs, now: float) -> None:
        """Look for a load report in the headers or trailers of the last attempt's answer, where it would count."""
        prepared, attempt = self._prepared, self._last
        if prepared is not None and attempt is not None and prepared.takes_reports:
            prepared.take_report(attempt.state, headers, now)

    def retry_beside(self, attempt: Attempt, now: float) -> float | None:
        """Seconds until the retry of an attempt that is too slow and goes on; None when there is none.

        The timeout is told to the detectors, once, and no retry word has to cover it (Envoy).
        """
        self._report(attempt, _TOO_SLOW, now)
        retry = self._bound.retry if self._bound is not None else None
        if retry is None or not retry.bits:
            return None
        if self.attempts - self.hedges > retry.policy.attempts:
            self.flag("URX")
            return None
        if not self.promise_attempt(now):
            self.flag(Overflow.flag)
            return None
        return retry.back_off(self.attempts - self.hedges, self._rng)

    def take(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Of several attempts this one's outcome stands."""
        self._current = self._last = attempt
        self.outcome = attempt.outcome = outcome
        self._measure(attempt, outcome, now)
        if outcome.failure is not None:
            self._end(attempt, outcome, now)
            self._finish(now)
        elif outcome.judged >= 500 or attempt.trial:
            self._report(attempt, outcome, now)

    def lose(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Of several attempts this one is over and does not count for the call."""
        attempt.outcome = outcome
        if outcome.failure is not Failure.CANCELLED:
            self._measure(attempt, outcome, now)
        self._end(attempt, outcome, now)

    def forgo_promises(self) -> None:
        """No further attempt will be made: give back the places of those that were promised."""
        while self._promised:
            self._promised -= 1
            self._prepared.give_retry()  # type: ignore[union-attr]  # promised by it

    def connected(self, attempt: Attempt, now: float) -> None:
        """A raw connection stands: that is what its endpoint is judged by, however the connection ends.

        The call stays open, and holds its permits, until ``close``.
        """
        self.outcome = attempt.outcome = CONNECTED
        self._report(attempt, CONNECTED, now)
        if isinstance(self._observer, ConnectionObserver):
            self._observer.connected(self, now)

    def bytes_moved(self, now: float) -> None:
        """Let whoever watches a raw connection count the bytes so far."""
        if isinstance(self._observer, ConnectionObserver):
            self._observer.bytes_moved(self, now)

    def settle_answer(self, now: float) -> None:
        """The configuration's own answer was given; nothing was or will be sent."""
        assert self.answer is not None
        self.outcome = Outcome(self.answer.status, grpc_status=self.answer.grpc_status)
        self._finish(now)

    def close(self, now: float, failure: Outcome | None = None) -> None:
        """The call is over: its body has ended, or broke with ``failure``. Idempotent, from any thread."""
        attempt = self._current
        if attempt is not None:
            if failure is not None:
                self.outcome = attempt.outcome = failure
            self._end(attempt, attempt.outcome or _CANCELLED, now)
        self._finish(now)

    def abandon(self, now: float) -> None:
        """The caller went away before the call was over: by cancelling, closing early or dropping the response."""
        if not self._ended:
            self.flag("DC")
            self.close(now)

    def fail(self, kind: type[ErrorT], message: str, now: float) -> ErrorT:
        """As ``error``, for a call that is over before it was ever attempted."""
        error = self.error(kind, message)
        self._finish(now)
        return error

    def count_sent(self, size: int) -> None:
        """So many bytes of the body were handed to the wire."""
        self.request_bytes += size

    # What is sent ---------------------------------------------------------------------------------------------------

    def head(self, attempt: Attempt) -> tuple[str, header_ops.Pairs]:
        """Target (path and query) and headers of an attempt; the rule's operations run once for all attempts."""
        destination = self.destination
        assert destination is not None
        marked = destination.changes or self.request.extended
        if self._base_headers is None:
            assert self._bound is not None
            self.target, base = rewrite(self._bound, self.request, destination, self._rng)
            cleared = marked and attempt.deadline is not None
            self._base_headers = timeout_headers.without_expected(base) if cleared else base
        base, added = self._base_headers, attempt.headers
        if marked and len(added) > 1:  # trace context, which takes the place of any that the caller has sent along
            base = trace_headers.without(base, added)
        if attempt.deadline is None:
            return self.target, base + added
        left = attempt.deadline - attempt.started
        if self.request.is_grpc and self.request.timeout is not None and not self.request.writes_timeout:
            base = self._with_grpc_timeout(base, left, attempt.started - self.started)
        return self.target, [*base, *added, timeout_headers.expected(left)]

    def response_headers(self, headers: header_ops.Pairs) -> header_ops.Pairs:
        """The response's headers after the rule's operations."""
        bound, answer = self._bound, self.answer
        if bound is None or (answer is not None and answer.is_final):
            return headers
        if self.added:
            headers = [*headers, *self.added]
        if self.cookies:
            headers = [*headers, *((b"set-cookie", cookie) for cookie in self.cookies)]
        ops = self.destination.response_ops if self.destination is not None else bound.response_ops
        if ops:
            seen = header_ops.Seen(self.request, self._sent(), self.target, self._answered(headers))
            headers = header_ops.apply(ops, headers, self.request, seen)
        return headers if bound.cors is None or answer is not None else bound.cors.shared(self.request, headers)

    def _sent(self) -> header_ops.Pairs:
        """The request's headers as sent, or as they stood when the answer was made here."""
        if self._base_headers is not None:
            return self._base_headers
        original = [(b"x-envoy-original-path", self.request.path.encode("latin-1", "replace"))]
        return [*self.request.raw_headers, *(original if self.target != self.request.path else ())]

    def _answered(self, headers: header_ops.Pairs) -> header_ops.Answered:
        """The response as values of header operations see it."""
        outcome, attempt = self.outcome, self._last
        status = outcome.status if outcome is not None and self.answer is None else 0  # an answer made here has none
        upstream = attempt.state.key if attempt is not None else ""
        return header_ops.Answered(headers, status, upstream, self.attempts, self.flags)

    def _with_grpc_timeout(self, headers: header_ops.Pairs, left: float, elapsed: float) -> header_ops.Pairs:
        """With the header of gRPC itself: a caller's deadline is told in it, a route's timeout is not (gRFC A31)."""
        own = timeout_headers.read_grpc_timeout(self.request.header("grpc-timeout") or "")
        seconds = left if own is None else min(left, own - elapsed)
        return timeout_headers.with_grpc_timeout(headers, seconds)

    # Inside ---------------------------------------------------------------------------------------------------------

    def _start_clock(self, now: float) -> None:
        """The route's timeout starts after an injected delay; the caller's started with the call."""
        bound = self._bound
        self._clock_started = now
        if self._prepared is not None and self._prepared.counts_calls:
            self._prepared.count_call(now)
        if bound is not None and bound.timeout is not None:
            self.deadline = now + bound.timeout
        if self.request.timeout is not None:
            ends = self.started + self.request.timeout
            self.deadline = ends if self.deadline is None else min(self.deadline, ends)

    def bound_attempt(self, attempt: Attempt, now: float) -> None:
        """The attempt goes out now; waiting for a connection is no part of its per-try timeout (Envoy)."""
        attempt.deadline, attempt.deadline_is_overall = self.deadline, True
        retry = self._bound.retry if self._bound is not None else None
        if retry is None:
            return
        attempt.idle_limit = retry.policy.per_try_idle_timeout
        if retry.policy.per_try_timeout is not None:
            ends = now + retry.policy.per_try_timeout
            if self.hedge is not None and self.hedge.on_timeout:
                attempt.slow_at = ends
            elif attempt.deadline is None or ends < attempt.deadline:
                attempt.deadline, attempt.deadline_is_overall = ends, False

    def _elsewhere(self, prepared: PreparedCluster) -> tuple[int, frozenset[int]]:
        """Where a retry goes: how often to draw again while the endpoint was tried, and the priorities to leave out."""
        retry = self._bound.retry if self._bound is not None else None
        beside = _REDRAWS_BESIDE if self.hedge is not None and self.hedge.after is not None else 0
        if retry is None:
            return beside, NONE
        policy = retry.policy
        redraws = policy.host_selection_attempts if policy.avoid_previous_hosts else beside
        if not policy.remote_localities:
            return redraws, NONE
        if self._priorities is None:
            self._priorities = PreviousPriorities(prepared.priority_of(state) for state in self._tried[:-1])
        self._priorities.attempted(prepared.priority_of(self._tried[-1]))
        subset = self.destination.subset if self.destination is not None else ()
        return redraws, self._priorities.next(lambda excluded: prepared.is_usable_without(excluded, subset))

    def retry_after(self, attempt: Attempt, outcome: Outcome, now: float) -> float | None:
        """Seconds until the next attempt, which is then promised a place; None when ``outcome`` stands.

        In Envoy's order: is it retriable, is a retry left, may one more be under way. A response that asks to wait
        until after the deadline stands: nobody could come back in time.
        """
        retry = self._bound.retry if self._bound is not None else None
        if retry is None or not (outcome.retry & retry.bits or (retry.reads_headers and attempt.received)):
            return None
        if not retry.wants(outcome, attempt.received):
            return None
        if not self.request.replayable:
            return None
        asked = retry.asked_wait(attempt.received, self._rng)
        if asked is not None and self.deadline is not None and now + asked >= self.deadline:
            return None
        if self.attempts - self.hedges > retry.policy.attempts:
            self.flag("URX")
            return None
        self._give_token(attempt)
        if not self.promise_attempt(now):
            self.flag(Overflow.flag)
            return None
        return retry.back_off(self.attempts - self.hedges, self._rng) if asked is None else asked

    def promise_attempt(self, now: float) -> bool:
        """Whether one more attempt beyond the first may be under way; if so its place is taken, back-off included."""
        assert self._prepared is not None
        if not self._prepared.take_retry(now):
            return False
        self._promised += 1
        return True

    def _report(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Tell the cluster's detectors, once; an error is told as soon as its headers are there."""
        prepared = self._prepared
        if prepared is not None and not attempt.reported:
            attempt.reported = True
            prepared.report(attempt.state, outcome, now, attempt.trial, attempt.started)

    def _end(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Give back all that ``attempt`` holds; the second time it does nothing."""
        if attempt.end():
            assert self._prepared is not None
            self._prepared.release(attempt)
            if attempt.token:
                self._give_token(attempt)
            self._report(attempt, outcome, now)
            if self._current is attempt:
                self._current = None
            if self._observer is not None:
                self._observer.attempt_ended(attempt, outcome, now)

    def _finish(self, now: float) -> None:
        if self._ended:
            return
        self._ended = True
        if self._promised:
            self.forgo_promises()
        if self._faults is not None:
            self._faults[0].count_faults(-self._faults[1])
        if self._observer is not None:
            self._observer.call_ended(self, self.outcome, now)

    def _measure(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Tell a balancer that wants to know how long an answer took."""
        if self._prepared is not None and self._prepared.measures:
            self._prepared.answered(attempt.state, outcome, now - attempt.started, now)

    def _give_token(self, attempt: Attempt) -> None:
        if attempt.token and self._prepared is not None:
            attempt.token = False
            self._prepared.give_retry()


_REDRAWS_BESIDE = 5
"""How often an attempt beside a slow one draws again for another endpoint, whatever retries do."""

_TOO_SLOW = Outcome.of_failure(Failure.PER_TRY_TIMEOUT)
_CANCELLED = Outcome.of_failure(Failure.CANCELLED)
