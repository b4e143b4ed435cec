"""Peak EWMA: the endpoint that is likely to answer soonest, by latency and requests under way.

Source: Finagle's and linkerd's balancers of that name. A latency above the average replaces it at once, one below it
moves it slowly, and an endpoint that is left alone is thought of better as time goes by, so that it is tried again.
Of two endpoints drawn at random the one is taken whose ``latency * (requests under way + 1)`` is the smaller.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import PeakEwma

__all__ = ["Latency", "LeastLatency", "measure"]


class Latency:
    """What is known of the latency of one endpoint: an average, and when it was last moved. Times in seconds."""

    __slots__ = ("at", "value")

    def __init__(self, value: float, at: float) -> None:
        self.value = value
        self.at = at

    def decayed(self, decay: float, now: float) -> float:
        """The average as it stands at a moment."""
        return self.value * math.exp(-max(0.0, now - self.at) / decay)

    def observe(self, seconds: float, decay: float, now: float) -> None:
        """A response took so long."""
        if seconds > self.value:
            self.value = seconds
        else:
            share = math.exp(-max(0.0, now - self.at) / decay)
            self.value = self.value * share + seconds * (1.0 - share)
        self.at = now


def measure(state: EndpointState, settings: PeakEwma, seconds: float, now: float, *, failed: bool) -> None:
    """An attempt at an endpoint took so long; one that failed early is not fast, and never makes it look better."""
    latency = state.latency
    if latency is None:
        state.latency = Latency(max(seconds, settings.initial) if failed else seconds, now)
    elif not failed:
        latency.observe(seconds, settings.decay, now)
    elif seconds > latency.value:
        latency.value, latency.at = seconds, now
    else:
        latency.at = now


class LeastLatency:
    """The better of two different endpoints."""

    __slots__ = ("_members", "_settings")

    def __init__(self, members: Sequence[EndpointState], settings: PeakEwma) -> None:
        self._members = members
        self._settings = settings

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """The one with the smaller cost for its weight."""
        members = self._members
        size = len(members)
        if size == 1:
            return members[0]
        first = int(rng.random() * size)
        second = int(rng.random() * (size - 1))
        one, other = members[first], members[second + (second >= first)]
        return other if self._cost(other, now) < self._cost(one, now) else one

    def _cost(self, state: EndpointState, now: float) -> float:
        latency, settings = state.latency, self._settings
        seconds = settings.initial if latency is None else latency.decayed(settings.decay, now)
        return seconds * (state.active + 1) / state.endpoint.weight
