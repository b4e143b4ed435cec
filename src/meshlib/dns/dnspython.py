"""DNS servers asked directly, by dnspython: answers with their TTL, SRV records, truncated ones again over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.resolver

from meshlib.dns.answers import Answer, LookupFailed, Target
from meshlib.dns.families import own_families, usable
from meshlib.dns.hosts_file import HostsFile

__all__ = ["DnsResolver"]

_HOSTS_TTL = 30.0
"""Seconds for which what the hosts file says holds."""


class DnsResolver:
    """Asks DNS servers; names of the hosts file are answered from there.

    Args:
        nameservers: Their addresses, ``127.0.0.1`` or ``127.0.0.1:5353``; by default those of ``/etc/resolv.conf``,
            with its search list.
        timeout: Seconds for one look-up, all servers and repetitions together.
        families: IP versions to ask for; by default those that this machine has routes for.
        hosts: The hosts file; None reads none.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        timeout: float = 5.0,
        families: frozenset[int] | None = None,
        hosts: str | Path | None = "/etc/hosts",
    ) -> None:
        self._given = nameservers
        self._timeout = timeout
        self._families = families
        self._hosts = HostsFile(hosts) if hosts is not None else None
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def addresses(self, name: str) -> Answer:
        """See ``Resolver.addresses``."""
        known = self._hosts.addresses(name) if self._hosts is not None else ()
        families = self._families if self._families is not None else own_families()
        if known:
            return Answer(usable(known, families), _HOSTS_TTL)
        kinds = {4: "A", 6: "AAAA"}
        asked = [version for version in kinds if version in families]
        found = await asyncio.gather(*(self._ask(name, kinds[version]) for version in asked), return_exceptions=True)
        answers: list[Any] = [each for each in found if not isinstance(each, BaseException)]
        failed = [each for each in found if isinstance(each, BaseException)]
        values = tuple(dict.fromkeys(record.address for records, _ in answers for record in records))
        if failed and not values:
            raise failed[0]
        missing = frozenset(v for v, each in zip(asked, found, strict=True) if isinstance(each, BaseException))
        return Answer(values, _shortest(ttl for _, ttl in answers), missing)

    async def targets(self, name: str) -> Answer:
        """See ``Resolver.targets``; a single target ``.`` says that there is no such service (RFC 2782)."""
        records, ttl = await self._ask(name, "SRV")
        found = (Target(str(r.target).rstrip("."), r.port, r.priority, r.weight) for r in records)
        return Answer(tuple(target for target in found if target.host), ttl)

    async def _ask(self, name: str, kind: str) -> tuple[Sequence[Any], float | None]:
        try:
            answer = await self._asks().resolve(name, kind, search=True, lifetime=self._timeout)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return (), None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise LookupFailed(f"{kind} of {name}: {error or type(error).__name__}") from error
        return tuple(answer), float(answer.chaining_result.minimum_ttl)

    def _asks(self) -> dns.asyncresolver.Resolver:
        """Made at need: the system's servers may be unreadable, which is a failed look-up."""
        if self._resolver is None:
            made = dns.asyncresolver.Resolver(configure=self._given is None)
            if self._given is not None:
                made.nameservers = [_nameserver(text) for text in self._given]
            made.timeout = min(2.0, self._timeout)
            self._resolver = made
        return self._resolver


def _nameserver(text: str) -> Any:
    import dns.nameserver

    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ("]" in host or ":" not in host):
        return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))
    return dns.nameserver.Do53Nameserver(text.strip("[]"), 53)


def _shortest(times: Any) -> float | None:
    return min((ttl for ttl in times if ttl is not None), default=None)
