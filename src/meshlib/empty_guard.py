"""Holds back what looks like a source that has just been restarted and knows nothing yet.

A registry that comes back from a restart answers truthfully that it knows of nobody, until its agents have told it
again; who believes it drops every endpoint of a healthy mesh. So the first answer on a new connection that takes
everything away is held: until a fuller one comes, which counts at once, until another answer says the same some seconds
later, or until a lease ends. An empty answer within a connection that has spoken before is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.providers.base import Facts

__all__ = ["CONFIRM", "LEASE", "EmptyGuard"]

LEASE = 60.0
"""Seconds for which an empty answer is held at most, unless the provider says otherwise (``empty_lease``)."""
CONFIRM = 5.0
"""Seconds between two empty answers of which the second confirms the first."""

_WITH_ENDPOINTS = frozenset({"EndpointSlice", "Endpoints", "WorkloadEntry", "ServiceEntry", "Pod"})


class EmptyGuard:
    """Judges the answers of one provider.

    Args:
        lease: Seconds for which an empty answer is held at most; 0 holds none.
        last: What is in force from before, as in a forked child.

    Attributes:
        held_since: When the answer came that is held now; None while none is.
    """

    def __init__(self, lease: float = LEASE, last: Facts | None = None) -> None:
        self._lease = lease
        self._last = last
        self._held: Facts | None = None
        self._first = True
        self.held_since: float | None = None

    def anew(self) -> None:
        """The next answer is the first on a new connection."""
        self._first = True

    def take(self, facts: Facts, now: float) -> Facts | None:
        """What may be published after this answer; None while it is held."""
        first, self._first = self._first, False
        doubtful = self._last is not None and self._lease > 0 and _emptied(self._last, facts)
        if doubtful and self.held_since is None and first:
            self.held_since = now
        if not doubtful or self.held_since is None or now - self.held_since >= min(CONFIRM, self._lease):
            return self._believe(facts)
        self._held = facts
        return None

    @property
    def ends_at(self) -> float | None:
        """When the lease of what is held ends; None while nothing is."""
        return None if self.held_since is None else self.held_since + self._lease

    def end(self, now: float) -> Facts | None:
        """What may be published because its lease is over."""
        ends = self.ends_at
        return self._believe(self._held) if self._held is not None and ends is not None and now >= ends else None

    def _believe(self, facts: Facts) -> Facts:
        self._last, self._held, self.held_since = facts, None, None
        return facts


def _emptied(before: Facts, after: Facts) -> bool:
    """Whether all objects, all endpoints, or all hosts of a compiled view are gone."""
    if not before.is_empty and after.is_empty:
        return True
    if before.view is not None and after.view is not None:
        return _lists(before) and not _lists(after)
    return _name_endpoints(before.resources) and not _name_endpoints(after.resources)


def _lists(facts: Facts) -> bool:
    return facts.view is not None and next(iter(facts.view.listing()), None) is not None


def _name_endpoints(resources: Iterable[Resource[Any]]) -> bool:
    return any(each.kind in _WITH_ENDPOINTS and _has_endpoints(each) for each in resources)


def _has_endpoints(resource: Resource[Any]) -> bool:
    spec = resource.spec
    if resource.kind in ("EndpointSlice", "ServiceEntry"):
        return bool(getattr(spec, "endpoints", ()))
    if resource.kind == "Endpoints":
        return any(subset.addresses or subset.not_ready_addresses for subset in getattr(spec, "subsets", ()))
    return not isinstance(spec, dict)
