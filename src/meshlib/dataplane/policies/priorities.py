"""Retries leave the priorities where a call was before: Envoy's ``previous_priorities``.

After every ``EVERY`` attempts the priorities of the endpoints tried so far are left out; where nothing is left to go
to, all of them count again and the counting starts over.

Source: Envoy ``PreviousPrioritiesRetryPriority``; Istio ``retryRemoteLocalities`` sets the frequency to 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["EVERY", "NONE", "PreviousPriorities"]

EVERY = 2
NONE: frozenset[int] = frozenset()


class PreviousPriorities:
    """What one call has left behind.

    Args:
        tried: Priorities of attempts that were made already.

    Attributes:
        excluded: Priorities that the next attempt must not go to.
    """

    __slots__ = ("_tried", "excluded")

    def __init__(self, tried: Iterable[int] = ()) -> None:
        self.excluded = NONE
        self._tried = list(tried)

    def attempted(self, priority: int) -> None:
        """An attempt went to an endpoint of that priority."""
        self._tried.append(priority)

    def next(self, usable: Callable[[frozenset[int]], bool]) -> frozenset[int]:
        """The priorities to leave out now; ``usable`` says whether anything is left without some of them."""
        if len(self._tried) < EVERY:
            return NONE
        if len(self._tried) % EVERY == 0:
            self.excluded = self.excluded | frozenset(self._tried)
            if not usable(self.excluded):
                self.excluded, self._tried = NONE, []
        return self.excluded
