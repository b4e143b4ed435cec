"""The blocking driver: the only place on the sync path that sleeps."""

from __future__ import annotations

from typing import TypeVar

from meshlib.clock import Clock
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import racing_blocking
from meshlib.dataplane.drivers.blocking_attempt import meet_fault, pass_gate, timed_out
from meshlib.dataplane.drivers.exchange import Exchange
from meshlib.dataplane.policies import rate_limit
from meshlib.errors import MeshError

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
        if call.limiter is not None:
            _ask_limits(call, exchange, clock)
        if call.answer is not None:
            return exchange.answer(call)
        if call.hedge is not None:
            return racing_blocking.race(call, exchange, clock)
        while True:
            attempt = call.next_attempt(clock.now())
            if not attempt.passes():
                pass_gate(call, attempt, exchange.pool_timeout, clock)
            try:
                reply = meet_fault(call, attempt, exchange, clock) if attempt.fault else exchange.send(call, attempt)
            except BaseException as error:
                outcome = exchange.failed(attempt, error)
                wait = call.settle(attempt, outcome, clock.now())
                if wait is None:
                    raise exchange.error(call, outcome) from error
            else:
                if reply is None:
                    outcome = timed_out(attempt)
                    wait = call.settle(attempt, outcome, clock.now())
                    if wait is None:
                        raise exchange.error(call, outcome)
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


def _ask_limits(call: Call, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> None:
    """Count the call, here and where it is counted for many; a call too many is answered or raised."""
    question = rate_limit.count(call, clock.now())
    if question is not None:
        rate_limit.judge(call, exchange.ask(question, call.within(question.service.timeout, clock.now())))


def _sleep(call: Call, wait: float, clock: Clock) -> None:
    """Back off, but not past the deadline: the next attempt then reports that it ran out."""
    clock.sleep(call.within(wait, clock.now()))
