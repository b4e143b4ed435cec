"""The cooperative driver, for asyncio and trio: the twin of ``blocking``, with cancel scopes for socket timeouts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers.exchange import AsyncExchange
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.gate import Gate, Ticket
from meshlib.errors import DeadlineExceeded, MeshError, Overflow, PoolTimeout

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
        if call.answer is not None:
            return exchange.answer(call)
        while True:
            attempt = call.next_attempt(clock.now())
            if attempt.gate is not None:
                await _pass_gate(call, attempt, exchange.pool_timeout, clock)
            try:
                reply = await _send(call, attempt, exchange, clock)
            except BaseException as error:
                outcome = exchange.failed(attempt, error)
                wait = call.settle(attempt, outcome, clock.now())
                if wait is None:
                    raise exchange.error(call, outcome) from error
            else:
                if reply is None:
                    outcome = _timed_out(attempt)
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


async def _send(
    call: Call, attempt: Attempt, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock
) -> ReplyT | None:
    """The reply, or None when the attempt's deadline passed first."""
    if attempt.deadline is None or exchange.keeps_deadlines:
        return await exchange.send(call, attempt)
    with anyio.move_on_after(attempt.deadline - clock.now()):
        return await exchange.send(call, attempt)
    return None


def _timed_out(attempt: Attempt) -> Outcome:
    return Outcome.of_failure(Failure.DEADLINE if attempt.deadline_is_overall else Failure.PER_TRY_TIMEOUT)


async def _sleep(call: Call, wait: float, clock: Clock) -> None:
    """Back off, but not past the deadline: the next attempt then reports that it ran out."""
    await clock.asleep(call.within(wait, clock.now()))


async def _pass_gate(call: Call, attempt: Attempt, pool_timeout: float | None, clock: Clock) -> None:
    """Wait for a connection to be allowed; the ticket is given back with the attempt's other permits."""
    gate = attempt.gate
    assert gate is not None
    admitted = anyio.Event()
    notify = _notifier(admitted)
    ticket = attempt.ticket = gate.enter(lambda: _wake(notify, gate, attempt))
    if ticket is None:
        raise call.error(Overflow, f"{gate.max_pending} requests wait for a connection, the most that are allowed")
    if ticket.admitted:
        return
    left = None if call.deadline is None else call.deadline - clock.now()
    limit = min((t for t in (left, pool_timeout) if t is not None), default=None)
    with anyio.move_on_after(limit):
        await admitted.wait()
    if not ticket.admitted:
        if limit == left:
            raise call.error(DeadlineExceeded, f"{call.ran_out()} while waiting for a connection")
        raise call.error(PoolTimeout, f"no connection became free within the pool timeout of {pool_timeout:g} s")
    call.bound_attempt(attempt, clock.now())


def _notifier(event: anyio.Event) -> Callable[[], None]:
    """Sets ``event`` from any thread, in the event loop that runs now."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        token = trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(event.set)

    def notify() -> None:
        loop.call_soon_threadsafe(event.set)

    return notify


def _wake(notify: Callable[[], None], gate: Gate, attempt: Attempt) -> None:
    """Tell a waiter; one whose event loop is gone gives its place to the next."""
    try:
        notify()
    except Exception:
        ticket: Ticket | None = attempt.ticket
        if ticket is not None:
            gate.leave(ticket)
