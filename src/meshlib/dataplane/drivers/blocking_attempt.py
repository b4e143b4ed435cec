"""One attempt on the blocking path: through the gate, past an injected fault, onto the wire."""

from __future__ import annotations

import threading
from typing import TypeVar

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers.exchange import Exchange
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.errors import DeadlineExceeded, Overflow, PoolTimeout

__all__ = ["meet_fault", "pass_gate", "send", "timed_out"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")


def send(call: Call, attempt: Attempt, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> ReplyT | None:
    """The reply of one attempt, or None when its deadline passed first; raises what came in its way."""
    if not attempt.passes():
        pass_gate(call, attempt, exchange.pool_timeout, clock)
    if attempt.fault is not None:
        return meet_fault(call, attempt, exchange, clock)
    return exchange.send(call, attempt)


def timed_out(attempt: Attempt) -> Outcome:
    """The outcome of an attempt whose deadline passed."""
    return Outcome.of_failure(Failure.DEADLINE if attempt.deadline_is_overall else Failure.PER_TRY_TIMEOUT)


def meet_fault(call: Call, attempt: Attempt, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> ReplyT | None:
    """An injected fault in the endpoint's place: a delay, then its answer or the endpoint's own."""
    assert attempt.fault is not None
    delay, answer = attempt.fault
    left = delay if attempt.deadline is None else attempt.deadline - clock.now()
    clock.sleep(min(delay, max(0.0, left)))
    if left < delay:
        return None
    return exchange.answer_injected(answer) if answer is not None else exchange.send(call, attempt)


def pass_gate(call: Call, attempt: Attempt, pool_timeout: float | None, clock: Clock) -> None:
    """Wait for a connection to be allowed; the ticket is given back with the attempt's other permits."""
    gate = attempt.gate
    assert gate is not None
    admitted = threading.Event()
    ticket = attempt.ticket = gate.enter(admitted.set)
    if ticket is None:
        raise call.error(Overflow, f"{gate.max_pending} requests wait for a connection, the most that are allowed")
    if ticket.admitted:
        return
    left = None if call.deadline is None else call.deadline - clock.now()
    limit = min((t for t in (left, pool_timeout) if t is not None), default=None)
    if not admitted.wait(limit) and not ticket.admitted:
        if limit == left:
            raise call.error(DeadlineExceeded, f"{call.ran_out()} while waiting for a connection")
        raise call.error(PoolTimeout, f"no connection became free within the pool timeout of {pool_timeout:g} s")
    call.bound_attempt(attempt, clock.now())
