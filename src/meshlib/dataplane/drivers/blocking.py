"""The blocking driver: the only place on the sync path that sleeps."""

from __future__ import annotations

import threading
from typing import TypeVar

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers.exchange import Exchange
from meshlib.errors import DeadlineExceeded, MeshError, Overflow, PoolTimeout

__all__ = ["drive"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")


def drive(call: Call, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> ResponseT:
    """Send until the call settles. Whatever happens, the call gives its permits back.

    Raises:
        MeshError: What kept the request from being sent, or the deadline.
        BaseException: What ``exchange.error`` makes of a failure on the wire.
    """
    try:
        if call.delay:
            _sleep(call, call.delay, clock)
        if call.answer is not None:
            return exchange.answer(call)
        while True:
            attempt = call.next_attempt(clock.now())
            if attempt.gate is not None:
                _pass_gate(call, attempt, exchange.pool_timeout, clock)
            try:
                reply = exchange.send(call, attempt)
            except BaseException as error:
                outcome = exchange.failed(attempt, error)
                wait = call.settle(attempt, outcome, clock.now())
                if wait is None:
                    raise exchange.error(call, outcome) from error
            else:
                wait = call.settle(attempt, exchange.classify(attempt, reply), clock.now())
                if wait is None:
                    return exchange.accept(call, reply)
                exchange.discard(reply)
            _sleep(call, wait, clock)
    except MeshError:
        call.close(clock.now())
        raise
    except BaseException:
        call.abandon(clock.now())
        raise


def _sleep(call: Call, wait: float, clock: Clock) -> None:
    """Back off, but not past the deadline: the next attempt then reports that it ran out."""
    clock.sleep(call.within(wait, clock.now()))


def _pass_gate(call: Call, attempt: Attempt, pool_timeout: float | None, clock: Clock) -> None:
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
