"""When each name is asked about, and what it stands for meanwhile; told the time, it waits for nothing.

- An answer holds for its TTL (at least ``LEAST`` seconds), then the name is asked about again within a tenth of that.
- After a look-up that failed, the last good answer stays, and the name is asked about again after the refresh rate of
  whoever wants it (Istio ``dnsRefreshRate``), a tenth more or less.
- An answer that takes all addresses away must come twice, ``CONFIRM`` seconds apart, before it is believed.
- Who could not connect to an address may doubt it: the name is asked about at once, though not twice in ``DOUBTS``
  seconds.
- Order means nothing to endpoints: servers rotate their answers, and the same addresses are no change. Who dials a
  name itself goes by the order of the last answer (``latest``).

Source: Envoy's ``STRICT_DNS`` (``respect_dns_ttl``, ``dns_failure_refresh_rate``); it believes empty answers at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from meshlib.dns.answers import Answer, Question

__all__ = ["CONFIRM", "DOUBTS", "LEAST", "Names"]

LEAST = 1.0
CONFIRM = 5.0
DOUBTS = 5.0
KEEP = 300.0
"""Seconds for which a name is still asked about after nobody wants it any more."""
_JITTER = 0.1
_LATEST = 5.0
"""Seconds by which jitter delays a look-up at most."""

_NEVER = float("inf")


@dataclass(slots=True)
class _Known:
    """One question: what is known, and when it is due."""

    refresh: float
    due: float
    values: tuple[Any, ...] | None = None
    latest: tuple[Any, ...] = ()
    asked_at: float = -_NEVER
    answered_at: float | None = None
    emptied_at: float | None = None
    error: str = ""
    unwanted_at: float | None = None
    under_way: bool = False

    @property
    def settled(self) -> bool:
        """Whether there was an answer, or a failure, at all."""
        return self.values is not None or bool(self.error)


class Names:
    """What names stand for. ``want``, ``doubt``, ``latest``, ``table`` and ``rows`` may be used from any thread.

    Args:
        rng: For jitter.

    Attributes:
        table: Question -> what it stands for, None where every look-up failed so far; names that wait for their first
            answer are not in it. Replaced at every change.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - not for secrets
        self._lock = threading.Lock()
        self._known: dict[Question, _Known] = {}
        self.table: Mapping[Question, tuple[Any, ...] | None] = MappingProxyType({})

    # Who wants what -------------------------------------------------------------------------------------------------

    def want(self, question: Question, refresh: float, now: float) -> bool:
        """Keep an answer from now on; whether it is asked about for the first time.

        Args:
            question: What to ask.
            refresh: Seconds after which a look-up that failed is repeated, and one whose TTL nobody told.
            now: The time.
        """
        with self._lock:
            known = self._known.get(question)
            if known is None:
                self._known[question] = _Known(refresh, now)
                return True
            known.refresh, known.unwanted_at = min(known.refresh, refresh), None
            return False

    def unwant(self, now: float) -> None:
        """Nobody has said yet what is wanted under a new configuration; what nobody asks for again is forgotten."""
        with self._lock:
            for known in self._known.values():
                known.unwanted_at = now if known.unwanted_at is None else known.unwanted_at

    def doubt(self, address: str, now: float) -> bool:
        """Nobody could connect to an address, or to a name itself: ask again; whether anything is due sooner for it."""
        sooner = False
        with self._lock:
            for question, known in self._known.items():
                named = known.values is not None and (address == question.name or address in known.values)
                if named and not known.under_way and now - known.asked_at >= DOUBTS and known.due > now:
                    known.due, sooner = now, True
        return sooner

    def latest(self, question: Question) -> tuple[Any, ...]:
        """What it stands for, in the order of the last answer; nothing while there was none."""
        with self._lock:
            known = self._known.get(question)
            return known.latest if known is not None else ()

    @property
    def pending(self) -> bool:
        """Whether some name has neither been answered nor failed yet."""
        with self._lock:
            return any(not known.settled for known in self._known.values())

    @property
    def trouble(self) -> str:
        """What is wrong with the names whose last look-up failed; empty for nothing."""
        with self._lock:
            return "; ".join(known.error for known in self._known.values() if known.error)

    # Asking ---------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Question]:
        """What is to be asked now; each must be ``answered`` or ``failed`` before it is due again."""
        with self._lock:
            gone = [q for q, k in self._known.items() if k.unwanted_at is not None and now - k.unwanted_at >= KEEP]
            for question in gone:
                del self._known[question]
            found = [q for q, known in self._known.items() if not known.under_way and known.due <= now]
            for question in found:
                known = self._known[question]
                known.under_way, known.asked_at = True, now
            if gone:
                self._tabulate()
            return found

    def next_at(self) -> float | None:
        """When something is due next; None while nothing is."""
        with self._lock:
            return min((known.due for known in self._known.values() if not known.under_way), default=None)

    def answered(self, question: Question, answer: Answer, now: float) -> bool:
        """Somebody answered; whether what the name stands for changed by it."""
        with self._lock:
            known = self._known.get(question)
            if known is None:
                return False
            known.under_way, known.error = False, ""
            kept = [v for v in known.values or () if answer.missing and ip_address(v).version in answer.missing]
            values = tuple(dict.fromkeys((*answer.values, *kept)))
            if not values and known.values and not self._confirmed(known, now):
                known.due = now + CONFIRM
                return False
            known.answered_at, known.emptied_at = now, None
            lasts = known.refresh if answer.ttl is None else max(answer.ttl, LEAST)
            known.due = now + lasts + self._rng.random() * min(_JITTER * lasts, _LATEST)
            known.latest = values
            if known.values is not None and set(known.values) == set(values):
                return False
            known.values = values
            self._tabulate()
            return True

    def failed(self, question: Question, error: str, now: float) -> None:
        """Nobody answered: what was known stays."""
        with self._lock:
            known = self._known.get(question)
            if known is not None:
                first = not known.settled
                known.under_way, known.error = False, error or "failed"
                known.due = now + known.refresh * (1 + _JITTER * (2 * self._rng.random() - 1))
                if first:
                    self._tabulate()

    @staticmethod
    def _confirmed(known: _Known, now: float) -> bool:
        if known.emptied_at is None:
            known.emptied_at = now
        return now - known.emptied_at >= CONFIRM

    def _tabulate(self) -> None:
        found = {question: known.values for question, known in self._known.items() if known.settled}
        self.table = MappingProxyType(found)

    # Looking inside -------------------------------------------------------------------------------------------------

    def rows(self, now: float) -> list[dict[str, Any]]:
        """For status pages: name, kind, values, age and time left in seconds, error, whether emptiness is held."""
        with self._lock:
            return [
                {
                    "name": question.name,
                    "kind": question.kind,
                    "values": [value if isinstance(value, str) else list(value) for value in known.values or ()],
                    "age": None if known.answered_at is None else round(now - known.answered_at, 3),
                    "due_in": None if known.under_way else round(known.due - now, 3),
                    "error": known.error,
                    "held_empty": known.emptied_at is not None,
                }
                for question, known in self._known.items()
            ]

    def after_fork(self) -> None:
        """In a forked child: what was under way is the parent's."""
        self._lock = threading.Lock()
        for known in self._known.values():
            if known.under_way:
                known.under_way, known.due = False, -_NEVER
