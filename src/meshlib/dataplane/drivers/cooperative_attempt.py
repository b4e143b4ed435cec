"""One attempt on the cooperative path: through the gate, past an injected fault, onto the wire."""

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
from meshlib.errors import DeadlineExceeded, Overflow, PoolTimeout

__all__ = ["pass_gate", "send", "send_now", "timed_out"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")


async def send(call: Call, attempt: Attempt, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock) -> ReplyT | None:
    """The reply of one attempt, or None when its deadline passed first; raises what came in its way."""
    if not attempt.passes():
        await pass_gate(call, attempt, exchange.pool_timeout, clock)
    return await send_now(call, attempt, exchange, clock)


async def _meet_fault(
    call: Call, attempt: Attempt, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock
) -> ReplyT | None:
    """An injected fault in the endpoint's place: a delay, then its answer or the endpoint's own."""
    assert attempt.fault is not None
    (delay, answer), attempt.fault = attempt.fault, None
    left = delay if attempt.deadline is None else attempt.deadline - clock.now()
    await clock.asleep(min(delay, max(0.0, left)))
    if left < delay:
        return None
    if answer is not None:
        return exchange.answer_injected(answer)
    sent = send_now(call, attempt, exchange, clock)
    return await sent


def timed_out(attempt: Attempt) -> Outcome:
    """The outcome of an attempt whose deadline passed."""
    return Outcome.of_failure(Failure.DEADLINE if attempt.deadline_is_overall else Failure.PER_TRY_TIMEOUT)


async def send_now(
    call: Call, attempt: Attempt, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock
) -> ReplyT | None:
    """The reply, or None when the attempt's deadline passed first."""
    if attempt.fault is not None:
        return await _meet_fault(call, attempt, exchange, clock)
    if attempt.deadline is None or exchange.keeps_deadlines:
        return await exchange.send(call, attempt)
    with anyio.move_on_after(attempt.deadline - clock.now()):
        return await exchange.send(call, attempt)
    return None


async def pass_gate(call: Call, attempt: Attempt, pool_timeout: float | None, clock: Clock) -> None:
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
