"""A source whose DNS names have become addresses: each an endpoint of its own, for balancing, ejection and health.

Only clusters that somebody uses are asked for their endpoints, and so only their names are looked up. Until the first
answer for each of its names a cluster is *awaited*: whoever may wait does. One that had addresses before keeps them
meanwhile, whatever names were added. A name that every look-up failed for stays an endpoint itself, which the system
resolves as it is dialled. The name of a ``LOGICAL_DNS`` cluster is looked up too, but stays its one endpoint.

Source: Envoy ``STRICT_DNS``, ``LOGICAL_DNS`` and the warming of clusters, which ends with an answer or a failure.
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
Table = Mapping[Question, tuple[Any, ...] | None]
"""What questions are answered by, None where look-ups failed; those that still wait are not in it."""


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

    def has(self, cluster: str) -> bool:
        """Whether every name of that cluster was answered, or failed, at some time."""
        return cluster in self._made

    def of(self, cluster: str, raw: Assignment, table: Table) -> Assignment:
        """``raw`` with addresses for names; what it came to before, or ``raw``, while answers are outstanding."""
        questions = [Question(name) for name in self.names_of(cluster, raw)]
        known = self._made.get(cluster)
        if not all(question in table for question in questions):
            return known[2] if known is not None else raw
        answers = tuple(table[question] for question in questions)
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
        if cluster is None or not cluster.discovery.by_name:
            return raw
        for each in names:
            self._expansions.want(Question(each), cluster.dns_refresh)
        return raw if cluster.discovery is Discovery.LOGICAL_DNS else self._expansions.of(name, raw, self._table)

    def awaited(self, name: str) -> tuple[str, ...]:
        """See ``Awaiting.awaited``; a cluster that has addresses waits for no more of them."""
        cluster = self._source.cluster(name)
        if cluster is None or not cluster.discovery.by_name or self._expansions.has(name):
            return ()
        return tuple(
            each
            for each in self._expansions.names_of(name, self._source.assignment(name))
            if Question(each) not in self._table
        )

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
