"""What a blocking query about all services tells of single ones; pure.

Consul has no query that names what changed. But its checks that do not pass are few, and their list is answered anew
whenever a check changes: what differs between two answers names the services (and, for the checks of a node, the nodes)
whose health changed. All else that is registered or deregistered moves the index of the list of services, which says
that something changed, not what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["FILTER", "Changed", "Unhealthy"]

FILTER = 'Status != "passing"'
"""Leaves a short answer of checks; an agent that knows no filters sends all, which does as well."""


class Changed(NamedTuple):
    """Names of services and of nodes whose checks changed."""

    services: frozenset[str]
    nodes: frozenset[str]


class Unhealthy:
    """The checks that did not pass when last heard of."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str, str, str]] = set()

    def differ(self, checks: Sequence[Any]) -> Changed:
        """What the answer changes; all that the first names. Entries that are no checks are passed over."""
        now = {_key(each) for each in checks if isinstance(each, Mapping)}
        changed = now ^ self._known
        self._known = now
        services = frozenset(service for service, *_ in changed if service)
        return Changed(services, frozenset(node for service, node, *_ in changed if not service))


def _key(check: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Service (``""`` for a check of the node), node, instance, check, status."""
    service, node, instance = (str(check.get(name) or "") for name in ("ServiceName", "Node", "ServiceID"))
    return service, node, instance, str(check.get("CheckID") or ""), str(check.get("Status") or "")
