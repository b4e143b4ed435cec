"""Runs the providers of one mesh, starts those that break again, and publishes what they know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tenacity import RetryCallState, wait_random_exponential

from meshlib.clock import Clock
from meshlib.config.feed import Feed
from meshlib.model.snapshot import Snapshot
from meshlib.providers.base import Facts, Provider, ProviderError

__all__ = ["ProviderState", "supervise"]

_LOG = logging.getLogger("meshlib")
_SETTLE = 0.02
"""Seconds for which a burst of changes may go on before it is compiled."""

_backoff = wait_random_exponential(multiplier=0.5, max=30.0)


@dataclass
class ProviderState:
    """How one provider is doing.

    Attributes:
        name: Its name.
        state: ``starting``, ``running``, ``waiting`` (it broke and will be run again) or ``failed`` (it will not).
        version: Of what it published last.
        published_at: When that was, on the mesh's clock; None before the first.
        objects: How many objects it knows.
        error: What it last raised, ``""`` for nothing.
        failures: How often it broke in a row.
    """

    name: str
    state: str = "starting"
    version: str = ""
    published_at: float | None = None
    objects: int = 0
    error: str = ""
    failures: int = field(default=0)


async def supervise(
    providers: Sequence[Provider],
    states: Sequence[ProviderState],
    feed: Feed,
    publish: Callable[[Snapshot | None], None],
    clock: Clock,
) -> None:
    """Run until cancelled; ``publish`` gets each new snapshot, and None when only problems changed."""
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number, provider in enumerate(providers):
            tasks.create_task(_run(number, provider, states[number], feed, changed, clock))
        while True:
            await changed.wait()
            if feed.snapshot is not None or not feed.complete:
                await asyncio.sleep(_SETTLE)
            changed.clear()
            if feed.complete or feed.snapshot is not None or all(s.state != "starting" for s in states):
                try:
                    publish(feed.publish())
                except Exception:  # a defect here must not end the mesh: the last good snapshot stays
                    _LOG.exception("publishing the configuration failed; the last good one stays in force")


async def _run(
    number: int, provider: Provider, state: ProviderState, feed: Feed, changed: asyncio.Event, clock: Clock
) -> None:
    def publish(facts: Facts) -> None:
        feed.take(number, facts)
        state.state, state.version, state.objects = "running", facts.version, len(facts.resources)
        state.published_at, state.error, state.failures = clock.now(), "", 0
        changed.set()

    while True:
        try:
            await provider.run(publish)
            return
        except ProviderError as error:
            state.state, state.error = "failed", str(error)
            _LOG.error("provider %s failed for good: %s", provider.name, error)
            changed.set()
            return
        except Exception as error:
            state.failures += 1
            state.state, state.error = "waiting", f"{type(error).__name__}: {error}"
            _LOG.warning("provider %s broke and will be run again: %s", provider.name, state.error)
            changed.set()
        await asyncio.sleep(_pause(state.failures))


def _pause(failures: int) -> float:
    """Seconds before a broken provider is run again: random up to a bound that doubles to half a minute."""
    attempt = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    attempt.attempt_number = failures
    return _backoff(attempt)
