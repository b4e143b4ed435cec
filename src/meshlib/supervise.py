"""Runs the providers of one mesh, starts those again that break or fall silent, and publishes what they know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from meshlib.clock import Clock
from meshlib.config.feed import Feed
from meshlib.dns.resolving import Resolving
from meshlib.empty_guard import LEASE, EmptyGuard
from meshlib.model.snapshot import Snapshot
from meshlib.providers.base import Facts, Provider, ProviderError

__all__ = ["ProviderState", "supervise"]

_LOG = logging.getLogger("meshlib")
_SETTLE = 0.02
"""Seconds for which a burst of changes may go on before it is compiled; endpoints alone do not wait."""
_REST = 0.002
_LONGEST_REST = 1.0
_SHARE = 4
"""Seconds of rest for each second that a publication took: whoever flaps all day gets a fifth of a core, not more."""
_STEADY = 10.0
"""Seconds that a run must last, after it has published, for the next break to count as the first."""

_backoff = wait_random_exponential(multiplier=0.5, max=30.0)


@dataclass
class ProviderState:
    """How one provider is doing.

    Attributes:
        name: Its name.
        state: ``starting``, ``running``, ``waiting`` (it broke or ended, and will be run again) or ``failed`` (it will
            not).
        version: Of what it published last.
        published_at: When that was, on the mesh's clock; None before the first.
        heard_at: When its source gave the last sign of life; None before the first.
        objects: How many objects it knows.
        error: What it last raised, ``""`` for nothing since it published.
        failures: How often it broke since it published.
        held_empty: Its last answer took everything away right after a new connection, and is not believed yet.
    """

    name: str
    state: str = "starting"
    version: str = ""
    published_at: float | None = None
    heard_at: float | None = None
    objects: int = 0
    error: str = ""
    failures: int = 0
    held_empty: bool = False


async def supervise(
    providers: Sequence[Provider],
    states: Sequence[ProviderState],
    feed: Feed,
    publish: Callable[[Snapshot | None], None],
    clock: Clock,
    resolving: Resolving | None = None,
) -> None:
    """Run until cancelled; ``publish`` gets each new snapshot, and None when only problems, errors or states changed.

    The first one is made once every provider has spoken or failed, and at least one has spoken: silence of all does not
    mean that the mesh is empty, and every host to be let pass.
    """
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number, provider in enumerate(providers):
            tasks.create_task(_Run(number, provider, states[number], feed, changed, clock).forever())
        if resolving is not None:
            tasks.create_task(resolving.run(lambda _: changed.set()))
        while True:
            await changed.wait()
            if not feed.is_urgent and (feed.snapshot is not None or not feed.complete):
                await asyncio.sleep(_SETTLE)
            changed.clear()
            started = clock.now()
            spoken = feed.snapshot is not None or feed.complete
            if spoken or (feed.begun and all(state.state != "starting" for state in states)):
                try:
                    publish(feed.publish())
                    for judged in filter(None, (getattr(each, "judged", None) for each in providers)):
                        judged(feed.problems)
                except Exception:  # a defect here must not end the mesh: the last good snapshot stays
                    _LOG.exception("publishing the configuration failed; the last good one stays in force")
            else:
                publish(None)
            await asyncio.sleep(min(max(_REST, _SHARE * (clock.now() - started)), _LONGEST_REST))


class _Run:
    """One provider, run again and again; it is also what the provider publishes by (``Publish``)."""

    def __init__(
        self, number: int, provider: Provider, state: ProviderState, feed: Feed, changed: asyncio.Event, clock: Clock
    ) -> None:
        self._number = number
        self._provider = provider
        self._state = state
        self._feed = feed
        self._changed = changed
        self._clock = clock
        self._guard = EmptyGuard(getattr(provider, "empty_lease", LEASE), feed.taken(number))
        self._breaks = 0
        self._lease: asyncio.TimerHandle | None = None

    # What the provider says -----------------------------------------------------------------------------------------

    def __call__(self, facts: Facts) -> None:
        """See ``Publish.__call__``."""
        self.alive()
        self._state.state, self._state.error, self._state.failures = "running", "", 0
        believed = self._guard.take(facts, self._clock.now())
        self._hold(believed is None)
        if believed is not None:
            self._accept(believed)

    def alive(self) -> None:
        """See ``Publish.alive``."""
        self._state.heard_at = self._clock.now()

    def anew(self) -> None:
        """See ``Publish.anew``."""
        self._guard.anew()

    def troubled(self, why: str) -> None:
        """See ``Publish.troubled``."""
        self._state.state, self._state.error = "waiting", why

    def _accept(self, facts: Facts) -> None:
        self._feed.take(self._number, facts)
        self._state.version, self._state.objects = facts.version, len(facts.resources)
        self._state.published_at = self._clock.now()
        self._changed.set()

    def _hold(self, held: bool) -> None:
        """Note whether an answer is held now, and see to it that its lease ends."""
        if held and self._lease is None:
            _LOG.warning("provider %s: an empty answer on a new connection is held", self._provider.name)
            self._wait_for_lease()
        elif not held and self._lease is not None:
            self._lease.cancel()
            self._lease = None
        self._state.held_empty = held

    def _wait_for_lease(self) -> None:
        left = (self._guard.ends_at or 0.0) - self._clock.now()
        self._lease = asyncio.get_running_loop().call_later(max(left, 0.01), self._end_lease)

    def _end_lease(self) -> None:
        believed = self._guard.end(self._clock.now())
        if believed is None and self._guard.held_since is not None:
            self._wait_for_lease()
            return
        self._hold(False)
        if believed is not None:
            _LOG.warning("provider %s: its empty answer is believed now", self._provider.name)
            self._accept(believed)

    # Running --------------------------------------------------------------------------------------------------------

    async def forever(self) -> None:
        """Run it until cancelled, or until it cannot be helped."""
        try:
            while True:
                self._guard.anew()
                started = self._clock.now()
                try:
                    await self._once()
                    raise ConnectionError("its run ended by itself")  # a watch that was closed politely, most likely
                except ProviderError as error:
                    self._state.state, self._state.error = "failed", str(error)
                    _LOG.error("provider %s failed for good: %s", self._provider.name, error)
                    return self._changed.set()
                except Exception as error:
                    self._note(error, started)
                await asyncio.sleep(_pause(self._breaks))
        finally:
            if self._lease is not None:
                self._lease.cancel()

    def _note(self, error: Exception, started: float) -> None:
        state = self._state
        steady = not state.failures and state.published_at is not None and self._clock.now() - started >= _STEADY
        self._breaks = 1 if steady else self._breaks + 1
        state.failures += 1
        state.state, state.error = "waiting", f"{type(error).__name__}: {error}"
        _LOG.warning("provider %s broke and will be run again: %s", self._provider.name, state.error)
        self._changed.set()

    async def _once(self) -> None:
        """Run it once, until it has been silent for longer than it says it ever is.

        Raises:
            TimeoutError: It was.
        """
        limit: float | None = getattr(self._provider, "silence", None)
        task = asyncio.ensure_future(self._provider.run(self))
        heard = self._clock.now()
        try:
            while True:
                heard = max(heard, self._state.heard_at or heard)
                left = None if limit is None else max(heard + limit - self._clock.now(), 0.0)
                done, _ = await asyncio.wait({task}, timeout=left)
                if done:
                    return task.result()
                if limit is not None and self._clock.now() - max(heard, self._state.heard_at or heard) >= limit:
                    raise TimeoutError(f"nothing was heard for {limit:g} s")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _pause(failures: int) -> float:
    """Seconds before a broken provider is run again: random up to a bound that doubles to half a minute."""
    attempt = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    attempt.attempt_number = failures
    return _backoff(attempt)
