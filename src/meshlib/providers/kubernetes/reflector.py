"""One collection, listed and then watched: a machine that is told what came, and asked what to do next.

It reads no socket and no clock, so that each rule can be tried alone:

- A list comes in pages (``limit``, ``continue``). What is new in it counts at once, what is missing in it goes at its
  last page. A page that fails is asked for again; where the continuation is too old, the list starts anew in one piece.
- A watch goes on from the last resource version, which events and bookmarks carry; it is handed back, never calculated
  with. A watch that ends, breaks or falls silent is resumed from there, and loses nothing.
- 410, as a status or as an event, and versions that the server does not know yet lead to a new list. So do three
  failures in a row without an event between them, and a server that was away: it may have been set back.
- An empty list where objects were known is believed when a second list says so.
- Waits between failures grow to half a minute and are drawn at random; ``Retry-After`` counts.

Source: Kubernetes API concepts (efficient detection of changes, retrieving large result sets, streaming lists).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from meshlib.providers.kubernetes.collections import Collection
from meshlib.providers.kubernetes.failures import Failure, of_status
from meshlib.providers.kubernetes.store import Key, Store, key_of, version_of
from meshlib.providers.kubernetes.tuning import DEFAULT, Tuning

__all__ = ["Ask", "Reflector"]

_INITIAL_END = "k8s.io/initial-events-end"
_RESUMES = 3
"""Failures in a row after which a watch is not resumed any more but listed anew."""
_NOT_UNDERSTOOD = frozenset({400, 422})
_BRIEF = 1.0
"""Seconds: a watch that ended sooner, without an event, counts as a failure, so that nobody asks in a circle."""
_STEADY = 10.0
"""Seconds: a watch that lived so long was good, whatever ended it; a proxy that cuts idle connections is no outage."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The next request.

    Attributes:
        watch: A watch rather than a list.
        query: Its parameters.
        wait: Seconds to wait before.
    """

    watch: bool
    query: Mapping[str, str]
    wait: float = 0.0


class Reflector:
    """Follows one collection.

    Args:
        collection: What to follow.
        store: Where its objects go.
        rng: Draws waits.
        tuning: Limits and waits.

    Attributes:
        is_synced: Whether a whole list has come, or the server refused it.
        is_holding: An empty list waits to be confirmed.
        failures: How many there were since the last good answer.
        trouble: The last of them, ``""`` when there is none.
        version: The resource version that is known, ``""`` when a list is due.
        has_bookmarks: Whether the server sends bookmarks, so that silence means something.
    """

    def __init__(self, collection: Collection, store: Store, rng: Random, tuning: Tuning = DEFAULT) -> None:
        self.collection, self.store = collection, store
        self.is_synced = self.is_holding = self.has_bookmarks = False
        self.failures, self.trouble, self.version = 0, "", ""
        self._rng, self._tuning = rng, tuning
        self._streams = tuning.streaming
        self._listed: set[Key] = set()
        self._continue = ""
        self._in_one_piece = False
        self._list_at = float("inf")
        self._wait = 0.0

    # Asked ----------------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> Ask:
        """The next request; ``now`` is monotonic."""
        if self.version and now >= self._list_at:
            self._start_over()
        wait, self._wait = self._wait, 0.0
        selection = self.collection.selection
        if self.version:
            return Ask(True, {**selection, **self._watching(), "resourceVersion": self.version}, wait)
        if self._streams:
            self._listed = set()
            initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            return Ask(True, {**selection, **self._watching(), **initial}, wait)
        paging = {} if self._in_one_piece else {"limit": str(self._tuning.limit)}
        return Ask(False, {**selection, **paging, **({"continue": self._continue} if self._continue else {})}, wait)

    def _watching(self) -> dict[str, str]:
        seconds = int(self._tuning.watch * self._rng.uniform(0.5, 1.0))
        return {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, seconds))}

    # Told: a list ---------------------------------------------------------------------------------------------------

    def page(self, value: Mapping[str, Any], now: float) -> None:
        """One page of the list.

        Raises:
            ValueError: It is no list of objects.
        """
        items, version = value.get("items"), version_of(value)
        if items is None:
            items = []  # what Go writes for no items at all
        if not isinstance(items, list):
            raise ValueError("a list without items")
        if not self._continue:
            self._listed = set()
        self._listed.update(self._read(items))
        more = value["metadata"].get("continue")
        if isinstance(more, str) and more:
            self._continue = more
            self._heard()
        else:
            self._commit(version, now)

    def _read(self, items: Iterable[Any]) -> Iterable[Key]:
        for item in items:
            if not isinstance(item, Mapping):
                raise ValueError("a list of something else than objects")
            yield self.store.put(item, listed=True)

    def _commit(self, version: str, now: float) -> None:
        """All objects are known now; no object where there were some is asked about twice."""
        listed, self._listed = self._listed, set()
        self._continue, self._in_one_piece = "", False
        self._heard()
        if not listed and len(self.store) and not self.is_holding:
            self.is_holding = True
            self._wait = self._tuning.confirm * self._rng.uniform(0.5, 1.0)
            self._start_over()
            return
        self.store.keep(listed)
        self.version, self.is_synced, self.is_holding = version, True, False
        if self._tuning.resync:
            self._list_at = now + self._tuning.resync * self._rng.uniform(0.5, 1.0)

    # Told: a watch --------------------------------------------------------------------------------------------------

    def event(self, value: Mapping[str, Any], now: float) -> Failure | None:
        """One event of the watch; a failure ends it, and is to be given to ``failed``.

        Raises:
            ValueError: It is no event.
        """
        kind, thing = value.get("type"), value.get("object")
        if not isinstance(kind, str) or not isinstance(thing, Mapping):
            raise ValueError("something else than an event")
        if kind == "ERROR":
            return of_status(thing)
        version = version_of(thing)
        if kind == "BOOKMARK":
            self.has_bookmarks = True
            if not self.version and _ends_initial(thing):
                self._commit(version, now)
                return None
        elif kind in ("ADDED", "MODIFIED", "DELETED"):
            self._take(kind, thing)
        self._heard()
        if self.version:
            self.version = version
        return None

    def _take(self, kind: str, thing: Mapping[str, Any]) -> None:
        if self.version:
            (self.store.remove if kind == "DELETED" else self.store.put)(thing)
            return
        if kind == "DELETED":
            self._listed.discard(key_of(thing))
        else:
            self._listed.add(self.store.put(thing, listed=True))

    def ended(self, lived: float, events: int) -> None:
        """The server ended the watch, after so many seconds and events; that is usual."""
        if lived < _BRIEF and not events:
            self.failed(Failure("the server ends watches at once"))

    def silent(self) -> None:
        """Nothing came for so long that the peer may be gone: the watch goes on over another connection."""
        if not self.version:
            self._streams = False  # a server that does not know initial events never tells their end
        self.trouble = "nothing was heard for long"

    def opened(self) -> None:
        """The server took up the watch: what was wrong before is over, though it counts until an event comes."""
        self.trouble = ""

    # Told: a failure ------------------------------------------------------------------------------------------------

    def failed(self, failure: Failure, lived: float = 0.0) -> None:
        """The request came to nothing, or its answer broke off after so many seconds."""
        self.failures = 1 if lived >= _STEADY else self.failures + 1
        self.trouble = failure.message
        if failure.status in _NOT_UNDERSTOOD and not self.version:
            self._streams = False
        if failure.is_gone and self._continue:
            self._in_one_piece = True
        set_back = failure.is_gone or failure.too_new or (failure.away and bool(self.version))
        if set_back or self.failures >= _RESUMES:
            self._start_over()
        if failure.is_refused:
            self.is_synced = True
        self._wait = max(self._pause(failure), failure.retry_after)

    def _pause(self, failure: Failure) -> float:
        if failure.is_gone and self.failures == 1:
            return 0.0
        tuning = self._tuning
        grown = min(tuning.longest, tuning.backoff * 2 ** min(self.failures - 1, 16))
        return float((tuning.refused if failure.is_refused else grown) * self._rng.uniform(0.5, 1.0))

    def _heard(self) -> None:
        self.failures, self.trouble = 0, ""

    def _start_over(self) -> None:
        """The next request is a list; what is known stays until it has come."""
        self.version, self._continue, self._listed = "", "", set()
        self._list_at = float("inf")


def _ends_initial(bookmark: Mapping[str, Any]) -> bool:
    notes = bookmark["metadata"].get("annotations")
    return isinstance(notes, Mapping) and notes.get(_INITIAL_END) == "true"
