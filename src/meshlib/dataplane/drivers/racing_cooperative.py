"""The cooperative driver of hedged calls: one task for each attempt; losers are cancelled."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers.cooperative_attempt import send, timed_out
from meshlib.dataplane.drivers.exchange import AsyncExchange
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.race import Race
from meshlib.errors import MeshError

__all__ = ["race"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")


async def race(call: Call, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock) -> ResponseT:
    """Send attempts side by side until one stands; raises as ``cooperative.drive``, which gives the permits back."""
    contest = _Contest(call, exchange, clock)
    try:
        decided = await contest.decide()
    finally:
        await contest.end()
    if decided.outcome is None:
        assert decided.error is not None
        raise decided.error
    if decided.reply is None:
        raise decided.exchange.error(call, decided.outcome) from decided.error
    return decided.exchange.accept(call, decided.reply)


class _Result(NamedTuple, Generic[ReplyT, ResponseT]):
    """What came of an attempt, or of the call: a reply or an error, and its outcome once it is known."""

    exchange: AsyncExchange[ReplyT, ResponseT]
    attempt: Attempt | None
    reply: ReplyT | None
    error: BaseException | None
    outcome: Outcome | None = None


class _Contest(Generic[ReplyT, ResponseT]):
    def __init__(self, call: Call, exchange: AsyncExchange[ReplyT, ResponseT], clock: Clock) -> None:
        self._call = call
        self._exchange = exchange
        self._clock = clock
        self._race = Race(call)
        self._arrived: list[_Result[ReplyT, ResponseT]] = []
        self._news = anyio.Event()
        self._winner: _Result[ReplyT, ResponseT] | None = None

    async def decide(self) -> _Result[ReplyT, ResponseT]:
        """The result that stands. Errors come as results, so that no task group wraps them."""
        async with anyio.create_task_group() as group:
            try:
                self._launch(group, self._race.begin(self._clock.now()))
                while self._winner is None:
                    await self._step(group)
            except MeshError as error:
                self._winner = _Result(self._exchange, None, None, error)
            group.cancel_scope.cancel()
        winner = self._winner
        assert winner is not None
        if winner.reply is not None:
            self._winner = None  # whoever asked owns it now
        return winner

    async def end(self) -> None:
        """Close every reply that nobody took, and give up all other attempts."""
        self._race.end(self._clock.now())
        left = [self._winner] if self._winner is not None else []
        for result in [*left, *self._arrived]:
            if result.reply is not None:
                await result.exchange.discard(result.reply)

    async def _step(self, group: TaskGroup) -> None:
        until = self._race.wakes_at
        if not self._arrived:
            with anyio.move_on_after(None if until is None else max(0.0, until - self._clock.now())):
                await self._news.wait()
        if self._arrived:
            result = self._arrived.pop(0)
            if not self._arrived:
                self._news = anyio.Event()
            await self._settle(result)
        elif until is not None:
            for attempt in self._race.due(max(until, self._clock.now())):
                self._launch(group, attempt)

    async def _settle(self, result: _Result[ReplyT, ResponseT]) -> None:
        attempt, exchange, now = result.attempt, result.exchange, self._clock.now()
        assert attempt is not None
        if isinstance(result.error, MeshError):
            self._winner = result if self._race.refused(attempt, now) else None
            return
        if result.error is not None:
            outcome = exchange.failed(attempt, result.error)
        else:
            reply = result.reply
            outcome = exchange.classify(attempt, reply) if reply is not None else timed_out(attempt)
        if self._race.settle(attempt, outcome, now):
            self._winner = result._replace(outcome=outcome)
        elif result.reply is not None:
            await exchange.discard(result.reply)

    def _launch(self, group: TaskGroup, attempt: Attempt) -> None:
        group.start_soon(self._run, attempt, self._exchange.branch())

    async def _run(self, attempt: Attempt, exchange: AsyncExchange[ReplyT, ResponseT]) -> None:
        reply, failed = None, None
        try:
            reply = await send(self._call, attempt, exchange, self._clock)
        except Exception as error:
            failed = error
        self._arrived.append(_Result(exchange, attempt, reply, failed))
        self._news.set()
