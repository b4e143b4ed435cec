"""Asks about names as they fall due, many at once, in the background's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec

from meshlib.clock import Clock
from meshlib.dns.answers import Answer, LookupFailed, Question, Resolver
from meshlib.dns.names import Names
from meshlib.dns.system import SystemResolver

__all__ = ["Resolving", "default_resolver"]

_AT_ONCE = 32
"""Look-ups under way at most."""


def default_resolver() -> Resolver:
    """DNS servers asked directly where dnspython is installed (``meshlib[dns]``), else the system's resolver."""
    if find_spec("dns") is None:
        return SystemResolver()
    from meshlib.dns.dnspython import DnsResolver

    return DnsResolver()


class Resolving:
    """Keeps ``names`` answered while it runs.

    Args:
        names: What is wanted.
        resolver: Whom to ask; None asks ``default_resolver``, made at the first question.
        clock: Of whoever uses ``names``.
    """

    def __init__(self, names: Names, resolver: Resolver | None, clock: Clock) -> None:
        self._names = names
        self._resolver = resolver
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something may be due sooner than it was; from any thread."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._woken.set)
            except RuntimeError:  # it was closed meanwhile
                return

    async def run(self, settled: Callable[[bool], None]) -> None:
        """Ask until cancelled; ``settled`` is called after each look-up, with whether its answer changed anything."""
        self._woken, self._loop = asyncio.Event(), asyncio.get_running_loop()
        limit = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    for question in self._names.due(self._clock.now()):
                        tasks.create_task(self._ask(question, limit, settled))
                    await self._rest()
        finally:
            self._loop = None

    async def _rest(self) -> None:
        due = self._names.next_at()
        left = None if due is None else max(0.0, due - self._clock.now())
        try:
            async with asyncio.timeout(left):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _ask(self, question: Question, limit: asyncio.Semaphore, settled: Callable[[bool], None]) -> None:
        try:
            async with limit:
                answer = await self._answer(question)
        except LookupFailed as error:
            self._names.failed(question, str(error), self._clock.now())
            settled(False)
        except Exception as error:  # a resolver of somebody else's: it must not end the others
            self._names.failed(question, f"{type(error).__name__}: {error}", self._clock.now())
            settled(False)
        else:
            settled(self._names.answered(question, answer, self._clock.now()))
        self._woken.set()

    async def _answer(self, question: Question) -> Answer:
        if self._resolver is None:
            self._resolver = default_resolver()
        if question.kind == "SRV":
            return await self._resolver.targets(question.name)
        return await self._resolver.addresses(question.name)
