"""Tells of each attempt and of the call as they end, for ``meshlib call -v``."""

from __future__ import annotations

from collections.abc import Callable

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.events import CallObserver, Observer
from meshlib.dataplane.outcome import Outcome

__all__ = ["Attempts"]

Tell = Callable[[Attempt, Outcome, float], None]
TellCall = Callable[[Call, float], None]


class Attempts:
    """An observer that passes everything on to ``inner`` and tells of each attempt, and of the call at its end."""

    def __init__(self, inner: Observer | None, tell: Tell, tell_call: TellCall) -> None:
        self._inner = inner
        self._tell = tell
        self._tell_call = tell_call

    def call_started(self, call: Call, now: float) -> CallObserver:
        """See ``Observer.call_started``."""
        inner = self._inner.call_started(call, now) if self._inner is not None else None
        return _OneCall(inner, self._tell, self._tell_call)


class _OneCall:
    def __init__(self, inner: CallObserver | None, tell: Tell, tell_call: TellCall) -> None:
        self._inner = inner
        self._tell = tell
        self._tell_call = tell_call

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        if self._inner is not None:
            self._inner.attempt_started(attempt, now)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        self._tell(attempt, outcome, now - attempt.started)
        if self._inner is not None:
            self._inner.attempt_ended(attempt, outcome, now)

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        self._tell_call(call, now)
        if self._inner is not None:
            self._inner.call_ended(call, outcome, now)
