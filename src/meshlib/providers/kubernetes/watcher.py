"""Drives one reflector: makes the requests it asks for, tells it what came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from meshlib.clock import Clock
from meshlib.providers.kubernetes.failures import Failure, RequestFailed
from meshlib.providers.kubernetes.reflector import Ask, Reflector
from meshlib.providers.kubernetes.session import Session
from meshlib.providers.kubernetes.tuning import Tuning

__all__ = ["Watcher"]

_SHARE = 100
"""Events that are taken in one go when many wait, before others get their turn."""


class Watcher:
    """Follows one collection until cancelled.

    Args:
        reflector: The collection.
        session: The server.
        changed: Called when something is to be told: objects, or trouble.
        alive: Called at each sign of life.
        clock: Monotonic.
        tuning: Its ``idle`` counts from one whole line to the next.

    Attributes:
        heard_at: When something came last.
    """

    def __init__(
        self,
        reflector: Reflector,
        session: Session,
        changed: Callable[[], None],
        alive: Callable[[], None],
        clock: Clock,
        tuning: Tuning,
    ) -> None:
        self.reflector = reflector
        self.heard_at = clock.now()
        self._session, self._changed, self._alive, self._clock = session, changed, alive, clock
        self._idle, self._longest = tuning.idle, max(tuning.idle, tuning.watch)

    async def run(self) -> None:
        """See the class."""
        while True:
            ask = self.reflector.ask(self._clock.now())
            if ask.wait:
                await asyncio.sleep(ask.wait)
            await (self._watch(ask) if ask.watch else self._list(ask))
            self._changed()

    async def _list(self, ask: Ask) -> None:
        collection = self.reflector.collection
        try:
            value = await self._session.get(collection.path, ask.query, collection.accept(watch=False))
            self._heard()
            self.reflector.page(value, self._clock.now())
        except RequestFailed as error:
            self.reflector.failed(error.failure)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            self.reflector.failed(Failure(f"an answer that is no list: {error}"))

    async def _watch(self, ask: Ask) -> None:
        collection, started = self.reflector.collection, self._clock.now()
        events = 0
        try:
            async with self._session.stream(collection.path, ask.query, collection.accept(watch=True)) as lines:
                self._heard()
                self.reflector.opened()
                self._changed()
                async for line in self._until_silent(lines):
                    events += 1
                    if (failure := self._take(line)) is not None:
                        raise RequestFailed(failure)
                    if events % _SHARE == 0:
                        await asyncio.sleep(0)
        except _Silent:
            self.reflector.silent()
            self._idle = self._idle if self.reflector.has_bookmarks else min(2 * self._idle, self._longest)
        except RequestFailed as error:
            self.reflector.failed(error.failure, self._clock.now() - started)
        else:
            self.reflector.ended(self._clock.now() - started, events)

    async def _until_silent(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Lines, each within the idle time of the one before: bytes that make no line are silence too."""
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    line = await anext(lines, None)
            except TimeoutError:
                raise _Silent from None
            if line is None:
                return
            self._heard()
            if line.strip():
                yield line

    def _take(self, line: bytes) -> Failure | None:
        """One event; what cannot be read ends the watch, which goes on from the last event that could."""
        before = self._state()
        try:
            value: Any = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("something else than an event")
            failure = self.reflector.event(value, self._clock.now())
        except (ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
            return Failure(f"garbage in the watch: {error}")
        if self._state() != before:
            self._changed()
        return failure

    def _state(self) -> tuple[object, ...]:
        """What others are told of."""
        known = self.reflector
        return (known.store.changes, known.is_synced, known.is_holding, known.trouble)

    def _heard(self) -> None:
        self.heard_at = self._clock.now()
        self._alive()


class _Silent(Exception):
    """Nothing came in time."""
