"""Which listener takes a raw connection, as a sidecar would: by the dialled address, then by the port alone.

Names are no part of a listener's address. A name means the listener whose ways lead to the service of that name; under
a name that no way leads to, the server name of a TLS handshake may still find one at a listener for all addresses.

Source: Envoy's original-destination listeners; Istio ``core/listener.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshlib.model.cluster import parse_cluster_name
from meshlib.model.hosts import is_ip
from meshlib.model.route import Forward
from meshlib.model.tcp import TcpHost, TcpRoute
from meshlib.xds.decode.listeners import DecodedListener

__all__ = ["ANYWHERE", "ConnectionListeners"]

ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound here
Spellings = Callable[[str], Iterable[str]]


class ConnectionListeners:
    """The listeners with ways for raw connections, by address and by service."""

    def __init__(self) -> None:
        self._by_address: dict[tuple[str, int], DecodedListener] = {}
        self._by_service: dict[tuple[str, int], DecodedListener] = {}

    def add(self, listener: DecodedListener) -> None:
        """One more; of two for the same the first counts."""
        if not listener.ways or not listener.port:
            return
        address = "" if listener.address in ANYWHERE else listener.address
        self._by_address.setdefault((address, listener.port), listener)
        for way in listener.ways:
            for service in _services(way):
                self._by_service.setdefault((service, listener.port), listener)

    def find(self, host: str, port: int, spellings: Spellings) -> TcpHost | None:
        """What is known of connections to a name or an address.

        Args:
            host: As the caller wrote it, lower case.
            port: As the caller dialled it.
            spellings: The full names that a name may be short for.
        """
        if is_ip(host):
            return self._made(host, port, self._by_address.get((host, port)))
        for name in (host, *spellings(host)):
            found = self._by_service.get((name, port))
            if found is not None:
                return self._made(name, port, found)
        return self._made(host, port, None)

    def _made(self, name: str, port: int, found: DecodedListener | None) -> TcpHost | None:
        listener = found or self._by_address.get(("", port))
        if listener is None:
            return None
        services = {service for way in listener.ways for service in _services(way)}
        address = "" if listener.address in ANYWHERE else listener.address
        own = name if name in services else next(iter(services)) if len(services) == 1 and address else None
        return TcpHost(name, port, listener.ways, own, address)


def _services(way: TcpRoute) -> Iterable[str]:
    action = way.route.action
    clusters = action.clusters if isinstance(action, Forward) else ()
    return [host for each in clusters if (host := parse_cluster_name(each.cluster).host)]
