"""The cooperative driver, for asyncio and trio: the twin of ``blocking``, with cancel scopes for socket timeouts."""

from __future__ import annotations

from typing import TypeVar

from meshlib.clock import Clock
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import racing_cooperative
from meshlib.dataplane.drivers.cooperative_attempt import pass_gate, send_now, timed_out
from meshlib.dataplane.drivers.exchange import AsyncExchange
from meshlib.dataplane.policies import rate_limit
from meshlib.errors import MeshError

__all__ = ["drive"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")


async def drive(call: Call, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock) -> ResponseT:
    """Send until the call settles. Whatever happens, cancellation included, the call gives its permits back.

    Raises:
        MeshError: What kept the request from being sent, or the deadline.
        BaseException: What ``exchange.error`` makes of a failure on the wire; cancellation as it came.
    """
    try:
        if call.delay:
            await _sleep(call, call.delay, clock)
        if call.limiter is not None:
            await _ask_limits(call, exchange, clock)
        if call.answer is not None:
            return exchange.answer(call)
        if call.hedge is not None:
            return await racing_cooperative.race(call, exchange, clock)
        while True:
            attempt = call.next_attempt(clock.now())
            if not attempt.passes():
                await pass_gate(call, attempt, exchange.pool_timeout, clock)
            try:
                if attempt.fault is None and (attempt.deadline is None or exchange.keeps_deadlines):
                    reply: ReplyT | None = await exchange.send(call, attempt)
                else:
                    reply = await send_now(call, attempt, exchange, clock)
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
                    await exchange.discard(reply)
            await _sleep(call, wait, clock)
    except MeshError:
        call.close(clock.now())
        raise
    except BaseException:
        call.abandon(clock.now())
        raise


async def _ask_limits(call: Call, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock) -> None:
    """Count the call, here and where it is counted for many; a call too many is answered or raised."""
    question = rate_limit.count(call, clock.now())
    if question is not None:
        rate_limit.judge(call, await exchange.ask(question, call.within(question.service.timeout, clock.now())))


async def _sleep(call: Call, wait: float, clock: Clock) -> None:
    """Back off, but not past the deadline: the next attempt then reports that it ran out."""
    await clock.asleep(call.within(wait, clock.now()))
