"""A source whose DNS names have become addresses: each an endpoint of its own, for balancing, ejection and health.

Source: Envoy ``STRICT_DNS``. Only clusters that somebody uses are asked for their endpoints, and so only their names
are looked up. A name that has not been answered yet stays an endpoint itself, which the system resolves as it is
dialled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from meshlib.config.chained import Chained
from meshlib.dns.answers import Question
from meshlib.model.cluster import Discovery
from meshlib.model.endpoint import Assignment, Endpoint
from meshlib.model.hosts import is_ip
from meshlib.model.snapshot import Source

__all__ = ["Expansions", "Resolved", "names_in"]

Want = Callable[[Question, float], None]
Table = Mapping[Question, tuple[Any, ...]]
"""What questions are answered by; those that were never answered are not in it."""


class Expansions:
    """What assignments came to, so that one whose names did not change is the very value of before.

    Args:
        table: Gives the answers as they are now; the same value while they are the same.
        want: Is told of every name that is needed, and how soon a failed look-up is to be repeated, in seconds.
    """

    def __init__(self, table: Callable[[], Table], want: Want) -> None:
        self.table = table
        self.want = want
        self._made: dict[str, tuple[Assignment, tuple[Any, ...], Assignment]] = {}
        self._names: dict[str, tuple[Assignment, list[str]]] = {}

    def names_of(self, cluster: str, raw: Assignment) -> list[str]:
        """The DNS names among the addresses of a cluster; looked for once in each of its assignments.

        All clusters in use are asked at each change of endpoints, and most of them did not change.
        """
        known = self._names.get(cluster)
        if known is None or known[0] is not raw:
            known = self._names[cluster] = raw, names_in(raw)
        return known[1]

    def of(self, cluster: str, raw: Assignment, table: Table) -> Assignment:
        """``raw`` with addresses for names."""
        answers = tuple(table.get(Question(name)) for name in self.names_of(cluster, raw))
        known = self._made.get(cluster)
        if known is not None and known[0] is raw and known[1] == answers:
            return known[2]
        made = _expanded(raw, table)
        self._made[cluster] = (raw, answers, made)
        return made


class Resolved(Chained):
    """A source with DNS resolved, as of one table of answers.

    Args:
        source: Where names stand for endpoints.
        expansions: Shared by all states of one mesh.
        table: What names stand for in this one.
    """

    def __init__(self, source: Source, expansions: Expansions, table: Table) -> None:
        super().__init__((source,))
        self._source = source
        self._table = table
        self._expansions = expansions

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``."""
        raw = self._source.assignment(name)
        names = self._expansions.names_of(name, raw)
        cluster = self._source.cluster(name) if names else None
        if cluster is None or cluster.discovery is not Discovery.STRICT_DNS:
            return raw
        for each in names:
            self._expansions.want(Question(each), cluster.dns_refresh)
        return self._expansions.of(name, raw, self._table)

    def seen_by(self, namespace: str | None, labels: Mapping[str, str] | None) -> Source:
        """See ``Informed.seen_by``; nothing is looked up for others, but what is known is told."""
        seen = super().seen_by(namespace, labels)
        return Resolved(seen, Expansions(self._expansions.table, lambda question, refresh: None), self._table)


def names_in(assignment: Assignment) -> list[str]:
    """The DNS names among the addresses, each once."""
    found = (endpoint.address for group in assignment for endpoint in group.endpoints if _is_name(endpoint))
    return list(dict.fromkeys(found))


def _is_name(endpoint: Endpoint) -> bool:
    return not is_ip(endpoint.address) and not endpoint.address.startswith("unix:")


def _expanded(raw: Assignment, table: Table) -> Assignment:
    seen: set[str] = set()
    groups = (replace(group, endpoints=tuple(_addresses(group.endpoints, table, seen))) for group in raw)
    return tuple(group for group in groups if group.endpoints)


def _addresses(endpoints: tuple[Endpoint, ...], table: Table, seen: set[str]) -> Iterator[Endpoint]:
    """Every address of every name; one that two names share is one endpoint."""
    for endpoint in endpoints:
        known = table.get(Question(endpoint.address)) if _is_name(endpoint) else None
        for each in [endpoint] if known is None else [replace(endpoint, address=address) for address in known]:
            if each.key not in seen:
                seen.add(each.key)
                yield each
