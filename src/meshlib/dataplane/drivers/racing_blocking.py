"""The blocking driver of hedged calls: a thread for each attempt, the caller's waits for their results.

A thread cannot be cancelled. A loser whose request is on one of our connections is hung up on, which ends its thread at
once; one that is still connecting, or on HTTP/2, goes on until its own timeout and throws away what it gets. Its
permits are given back when the race is decided, either way.
"""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers.blocking_attempt import send, timed_out
from meshlib.dataplane.drivers.exchange import Exchange
from meshlib.dataplane.drivers.workers import Workers
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.race import Race
from meshlib.errors import MeshError

__all__ = ["race"]

ReplyT = TypeVar("ReplyT")
ResponseT = TypeVar("ResponseT")

_workers = Workers("meshlib-hedge")


def race(call: Call, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> ResponseT:
    """Send attempts side by side until one stands; raises as ``blocking.drive``, which gives the permits back."""
    contest = _Contest(call, exchange, clock)
    try:
        decided = contest.decide()
    finally:
        contest.end()
    if decided.outcome is None:
        assert decided.error is not None
        raise decided.error
    if decided.reply is None:
        raise decided.exchange.error(call, decided.outcome) from decided.error
    return decided.exchange.accept(call, decided.reply)


class _Result(NamedTuple, Generic[ReplyT, ResponseT]):
    """What came of an attempt: a reply or an error, and its outcome once it is known."""

    exchange: Exchange[ReplyT, ResponseT]
    attempt: Attempt
    reply: ReplyT | None
    error: BaseException | None
    outcome: Outcome | None = None


class _Contest(Generic[ReplyT, ResponseT]):
    def __init__(self, call: Call, exchange: Exchange[ReplyT, ResponseT], clock: Clock) -> None:
        self._call = call
        self._exchange = exchange
        self._clock = clock
        self._race = Race(call)
        self._arrived: queue.SimpleQueue[_Result[ReplyT, ResponseT]] = queue.SimpleQueue()
        self._branches: dict[Attempt, Exchange[ReplyT, ResponseT]] = {}
        self._lock = threading.Lock()
        self._over = False

    def decide(self) -> _Result[ReplyT, ResponseT]:
        """The result that stands."""
        first = self._race.begin(self._clock.now())
        self._call.head(first)  # what is the same for all attempts is made once, here
        self._launch(first)
        while True:
            until = self._race.wakes_at
            try:
                left = None if until is None else max(0.0, until - self._clock.now())
                result = self._arrived.get(timeout=left)
            except queue.Empty:
                assert until is not None
                for attempt in self._race.due(max(until, self._clock.now())):
                    self._launch(attempt)
                continue
            decided = self._settle(result)
            if decided is not None:
                return decided

    def end(self) -> None:
        """Hang up on all other attempts, and close every reply that nobody took."""
        with self._lock:
            self._over = True
        for attempt in self._race.end(self._clock.now()):
            self._branches[attempt].break_off()
        while not self._arrived.empty():
            _dispose(self._arrived.get_nowait())

    def _settle(self, result: _Result[ReplyT, ResponseT]) -> _Result[ReplyT, ResponseT] | None:
        attempt, exchange, now = result.attempt, result.exchange, self._clock.now()
        if isinstance(result.error, MeshError):
            return result if self._race.refused(attempt, now) else None
        if result.error is not None:
            outcome = exchange.failed(attempt, result.error)
        else:
            reply = result.reply
            outcome = exchange.classify(attempt, reply) if reply is not None else timed_out(attempt)
        if self._race.settle(attempt, outcome, now):
            return result._replace(outcome=outcome)
        _dispose(result)
        return None

    def _launch(self, attempt: Attempt) -> None:
        branch = self._branches[attempt] = self._exchange.branch()
        _workers.run(partial(self._run, attempt, branch))

    def _run(self, attempt: Attempt, exchange: Exchange[ReplyT, ResponseT]) -> None:
        reply, failed = None, None
        try:
            reply = send(self._call, attempt, exchange, self._clock)
        except BaseException as error:
            failed = error
        result = _Result(exchange, attempt, reply, failed)
        with self._lock:
            if not self._over:
                self._arrived.put(result)
                return
        _dispose(result)


def _dispose(result: _Result[ReplyT, ResponseT]) -> None:
    if result.reply is not None:
        result.exchange.discard(result.reply)
