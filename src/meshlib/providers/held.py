"""Whether an answer that takes everything away is believed.

A registry that was restarted, or a server that lags behind, answers with a valid, empty list. Believed at once, it
would take every endpoint of a service away although all of them serve. So the last good set is held until the emptiness
is confirmed; and where the source lost its history, for a while even then: those who serve need the time to announce
themselves again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Emptiness", "Held"]


class Emptiness(Enum):
    """What to do with an answer: use it, ask for confirmation, or go on with what was known."""

    USE = "use"
    CONFIRM = "confirm"
    HOLD = "hold"


@dataclass(slots=True)
class Held:
    """The doubts about one set.

    Attributes:
        lease: Seconds for which a set is held after the source lost its history.
        since: When the first empty answer came, on the caller's clock; None while nothing is held.
    """

    lease: float
    since: float | None = None
    _known: bool = False
    _lost: bool = False

    def answer(self, empty: bool, now: float, *, confirmed: bool = False) -> Emptiness:
        """Judge an answer.

        Args:
            empty: It takes everything away.
            now: Seconds on any clock that goes forwards.
            confirmed: The source vouches for it: it is what a quorum knows.
        """
        if not empty or not self._known:
            self._known = self._known or not empty
            if not empty:
                self.since, self._lost = None, False
            return Emptiness.USE
        self.since = now if self.since is None else self.since
        if not confirmed:
            return Emptiness.CONFIRM
        if self._lost and now < self.since + self.lease:
            return Emptiness.HOLD
        self.since, self._known, self._lost = None, False, False
        return Emptiness.USE

    def lost_history(self) -> None:
        """The source is not what it was: its index fell, or it is another cluster."""
        self._lost = self._known

    def left(self, now: float) -> float | None:
        """Seconds for which the set is held yet; None while nothing is held."""
        if self.since is None:
            return None
        return max(0.0, self.since + self.lease - now) if self._lost else 0.0
