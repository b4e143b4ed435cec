"""Services that DNS alone knows of: names with addresses, or SRV records with ports and weights."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from meshlib.clock import SYSTEM_CLOCK
from meshlib.dns.answers import Question, Resolver, Target
from meshlib.dns.names import Names
from meshlib.dns.resolving import Resolving
from meshlib.model.hosts import is_ip
from meshlib.providers.base import Publish
from meshlib.providers.objects import Objects

__all__ = ["DnsProvider"]

_REFRESH = 60.0


class DnsProvider:
    """Serves one service whose endpoints are what DNS says, kept up to date while it runs.

    What is known stays while DNS fails; see ``meshlib.dns.names`` for when it is asked again. Of SRV records those of
    the lowest priority number count, and of these the weights.

    Args:
        service: ``host:port`` as callers write it; the port is 80 without one.
        srv: Name of SRV records, for example ``_http._tcp.svc.example.com``, instead of the host's own addresses;
            endpoints then have the ports of the records.
        name: Whose addresses count, instead of the host's own; several make one service.
        protocol: What is spoken, as in a ServiceEntry: ``HTTP``, ``HTTP2``, ``GRPC``, ``TCP``...
        labels: Of every endpoint.
        refresh: Seconds after which a look-up that failed is repeated, and one of whose answer nobody tells how long
            it holds.
        resolver: Whom to ask; by default ``meshlib.dns.default_resolver()``, the system's servers.

    Raises:
        ValueError: The port is no number.
    """

    def __init__(
        self,
        service: str,
        *,
        srv: str = "",
        name: str | Sequence[str] = (),
        protocol: str = "HTTP",
        labels: Mapping[str, str] | None = None,
        refresh: float = _REFRESH,
        resolver: Resolver | None = None,
    ) -> None:
        self.name = f"dns:{srv or service}"
        host, _, port = service.partition(":")
        self._host, self._port = host.lower(), int(port or 80)
        self._srv = srv
        given = [name] if isinstance(name, str) else list(name)
        self._hosts = tuple(given or [self._host])
        self._protocol = protocol
        self._labels = dict(labels or {})
        self._refresh = refresh
        self._names = Names(random.Random())  # noqa: S311 - not for secrets
        self._resolving = Resolving(self._names, resolver, SYSTEM_CLOCK)

    async def run(self, publish: Publish) -> None:
        """See ``Provider.run``."""
        objects, version, told = Objects(self.name), 0, ""

        def settled(_: bool) -> None:
            nonlocal version, told
            known, trouble = self._want(), self._names.trouble
            if known and (objects.put("entry", self._entry()) or not version or (told and not trouble)):
                version += 1
                publish(objects.facts(str(version)))
            elif known and not trouble:
                publish.alive()
            if trouble:
                publish.troubled(trouble)
            told = trouble

        self._want()
        self._names.after_fork()
        await self._resolving.run(settled)

    # Names ----------------------------------------------------------------------------------------------------------

    def _want(self) -> bool:
        """Ask for every name that is needed by now; whether none is outstanding, and some were ever answered."""
        now, table = SYSTEM_CLOCK.now(), self._names.table
        questions = [Question(self._srv, "SRV")] if self._srv else self._of(self._hosts)
        if self._srv and table.get(questions[0]) is not None:
            questions += self._of(target.host for target in self._targets())
        fresh = [self._names.want(question, self._refresh, now) for question in questions]
        if any(fresh):
            self._resolving.wake()
        return any(table.get(question) is not None for question in questions) and not self._names.pending

    @staticmethod
    def _of(hosts: Any) -> list[Question]:
        return [Question(host) for host in dict.fromkeys(hosts) if not is_ip(host)]

    def _targets(self) -> list[Target]:
        """Those of the best priority that have any address, or may have one yet."""
        found: Sequence[Target] = self._names.table.get(Question(self._srv, "SRV")) or ()
        for priority in sorted({target.priority for target in found}):
            level = [target for target in found if target.priority == priority]
            if any(self._addresses(t.host) or self._names.table.get(Question(t.host)) is None for t in level):
                return level
        return []

    def _addresses(self, host: str) -> Sequence[str]:
        return (host,) if is_ip(host) else self._names.table.get(Question(host)) or ()

    # Objects --------------------------------------------------------------------------------------------------------

    def _endpoints(self) -> list[dict[str, Any]]:
        if not self._srv:
            rows = [(address, self._port, 0) for host in self._hosts for address in self._addresses(host)]
        else:
            rows = [(a, t.port, t.weight) for t in self._targets() for a in self._addresses(t.host)]
        labels = {"labels": self._labels} if self._labels else {}
        return [
            {"address": address, "ports": {"main": port}, **({"weight": weight} if weight else {}), **labels}
            for address, port, weight in dict.fromkeys(rows)
        ]

    def _entry(self) -> dict[str, Any]:
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": f"dns-{self._host}-{self._port}".replace(".", "-")},
            "spec": {
                "hosts": [self._host],
                "ports": [{"number": self._port, "name": "main", "protocol": self._protocol}],
                "resolution": "STATIC",
                "endpoints": self._endpoints(),
            },
        }
