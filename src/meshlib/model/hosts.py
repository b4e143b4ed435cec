"""Host names: short names, wildcards, and which of several patterns is the most specific.

Source: Istio ``ResolveShortnameToFQDN``, ``pkg/config/host``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

__all__ = [
    "HostIndex",
    "expand",
    "intersection",
    "is_ip",
    "join_host_port",
    "matches",
    "more_specific",
    "most_specific_first",
    "of_namespace",
    "spellings",
    "subset_of",
]

T = TypeVar("T")


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")


def is_ip(name: str) -> bool:
    """Whether ``name`` is an IPv4 or IPv6 address."""
    if ":" not in name:  # most of those that are asked about; the parser takes many times as long
        return _IPV4.fullmatch(name) is not None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def expand(name: str, namespace: str, domain: str) -> str:
    """A host as written in an object of ``namespace``, in full; only names without any dot are short.

    Without a cluster ``domain`` (no Kubernetes around) the full name is ``name.namespace``.
    """
    name = name.lower()
    if not name or name == "*" or "." in name or is_ip(name):
        return name
    return f"{name}.{namespace}.svc.{domain}" if domain else f"{name}.{namespace}"


def spellings(name: str, namespace: str, domain: str) -> Iterator[str]:
    """What a caller in ``namespace`` may mean by ``name``, the literal reading first."""
    name = name.removesuffix(".")
    yield name
    dots = name.count(".")
    if not domain:
        if dots == 0:
            yield f"{name}.{namespace}"
        return
    if dots == 0:
        yield f"{name}.{namespace}.svc.{domain}"
    if dots == 1:
        yield f"{name}.svc.{domain}"
    if dots == 2 and name.endswith(".svc"):
        yield f"{name}.{domain}"


def matches(one: str, other: str) -> bool:
    """Whether two patterns share at least one host; a leading ``*`` matches any text before the rest."""
    if not one.startswith("*"):
        return one == other if not other.startswith("*") else one.endswith(other[1:])
    if not other.startswith("*"):
        return other.endswith(one[1:])
    return one.endswith(other[1:]) or other.endswith(one[1:])


def subset_of(one: str, other: str) -> bool:
    """Whether every host of pattern ``one`` is matched by pattern ``other``."""
    if not other.startswith("*"):
        return one == other
    return one.removeprefix("*").endswith(other[1:]) and (not one.startswith("*") or len(one) >= len(other))


def intersection(some: Iterable[str], others: Sequence[str]) -> list[str]:
    """The hosts that both lists of patterns have in common, as the narrower of each pair that overlaps."""
    found: dict[str, None] = {}
    for one in some:
        for other in others:
            if subset_of(one, other):
                found[one] = None
            elif subset_of(other, one):
                found[other] = None
    return list(found)


def of_namespace(hosts: Iterable[str], namespace: str) -> list[str]:
    """The patterns of ``namespace/pattern`` entries that are for ``namespace``; ``*`` and none mean every one."""
    parted = (host.rpartition("/") for host in hosts)
    return [pattern for space, slash, pattern in parted if not slash or space in ("*", namespace)]


def more_specific(one: str, other: str) -> bool:
    """Whether ``one`` goes before ``other``: exact, then the longer, then by alphabet; two empty ones always do."""
    return _rank(one) < _rank(other) or one == other == ""


def most_specific_first(hosts: Iterable[str]) -> list[str]:
    """``hosts`` in the order of ``more_specific``."""
    return sorted(hosts, key=_rank)


def _rank(pattern: str) -> tuple[bool, int, str]:
    return (pattern.startswith("*"), -len(pattern), pattern)


def join_host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HostIndex(Generic[T]):
    """Values by host pattern: exact names by hash, wildcards by suffix, so that look-ups do not grow with the mesh."""

    __slots__ = ("_exact", "_wildcards")

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._wildcards: dict[str, list[T]] = {}

    def add(self, pattern: str, value: T) -> None:
        """Values of one pattern keep the order in which they were added."""
        where = self._wildcards if pattern.startswith("*") else self._exact
        where.setdefault(pattern, []).append(value)

    def exact(self, name: str) -> list[T]:
        """The values of that very pattern."""
        return (self._wildcards if name.startswith("*") else self._exact).get(name, [])

    def best(self, name: str) -> list[T]:
        """The values of the most specific pattern that matches ``name``; empty when none does."""
        return next(self.all_matching(name), [])

    def all_matching(self, name: str) -> Iterator[list[T]]:
        """The values of each pattern that matches ``name``, the most specific first."""
        return (values for _, values in self.patterns_over(name))

    def patterns_over(self, name: str) -> Iterator[tuple[str, list[T]]]:
        """Each pattern that matches ``name`` with its values, the most specific first."""
        if name.startswith("*"):
            if name in self._wildcards:
                yield name, self._wildcards[name]
            name = name[1:]
        elif name in self._exact:
            yield name, self._exact[name]
        if not self._wildcards:
            return
        for start in range(1, len(name) + 1):
            pattern = f"*{name[start:]}"
            found = self._wildcards.get(pattern)
            if found:
                yield pattern, found

    def items(self) -> Iterator[tuple[str, list[T]]]:
        """Every pattern with its values."""
        yield from self._exact.items()
        yield from self._wildcards.items()
