"""Route tables off the wire.

Source: Envoy ``RouteConfiguration``, ``VirtualHost``, ``Route``; gRFC A28. Levels of header operations run from the
route outwards, unless the table says that the most specific wins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshlib.model.domains import DomainKind, RouteTable, domain_kind
from meshlib.model.policy import Fault
from meshlib.model.route import Cors, HeaderOps, Route, RouteOrigin, VirtualHost
from meshlib.xds.decode import header_ops
from meshlib.xds.decode.actions import action
from meshlib.xds.decode.filters import OPEN, Filter, HttpFilters, overrides
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.matches import route_match
from meshlib.xds.decode.values import metadata, read
from meshlib.xds.messages import route_pb2

__all__ = ["route_configuration", "table"]

_OPERATIONS = {
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
}
_TABLE = {"name", "virtual_hosts", "most_specific_header_mutations_wins", "ignore_port_in_host_matching"}
_HARMLESS = {"validate_clusters", "max_direct_response_body_size_bytes", "metadata", "stat_prefix", "virtual_clusters"}
_HARMLESS |= {"decorator", "tracing", "include_request_attempt_count"}

Levels = list[tuple[HeaderOps, HeaderOps]]


def route_configuration(
    resource: Any, profile: Profile = Profile.HTTP, filters: HttpFilters = OPEN
) -> Decoded[RouteTable]:
    """A route table of a message or of protobuf JSON.

    Args:
        resource: The resource.
        profile: Whose rules hold.
        filters: The chain of the listener that the table serves.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    message, findings = read(resource, route_pb2.RouteConfiguration), Findings(profile)
    return findings.close("RouteConfiguration", message.name, table(message, filters, Place(findings)))


def table(message: Any, filters: HttpFilters, at: Place) -> RouteTable:
    """As ``route_configuration``, inside another resource."""
    at.only(message, {*_TABLE, *_OPERATIONS, *_HARMLESS, "typed_per_filter_config"})
    level = (header_ops.requests(message, at), header_ops.responses(message, at))
    changed = overrides(message.typed_per_filter_config, at)
    reader = _Reader(filters, changed, level, message.most_specific_header_mutations_wins)
    hosts, seen = [], set[str]()
    for number, each in enumerate(message.virtual_hosts):
        place = at.field("virtual_hosts", number)
        hosts.append((reader.host(each, place), tuple(_domains(each, seen, place))))
    return RouteTable(message.name, tuple(hosts), message.ignore_port_in_host_matching)


def _domains(host: Any, seen: set[str], at: Place) -> list[str]:
    if not host.domains:
        at.field("domains").error("is empty")
    found = []
    for number, domain in enumerate(host.domains):
        place, lower = at.field("domains", number), domain.lower()
        if domain_kind(domain) is DomainKind.INVALID and at.is_grpc:
            place.error(f"{domain!r} has its asterisk inside")
        if lower in seen and not at.is_grpc:
            place.error(f"{domain!r} stands twice")
        if lower not in seen:
            found.append(domain)
        seen.add(lower)
    return found


class _Reader:
    """Reads virtual hosts of one table."""

    def __init__(
        self,
        filters: HttpFilters,
        changed: dict[str, Filter],
        operations: tuple[HeaderOps, HeaderOps],
        specific_wins: bool,
    ) -> None:
        self.filters = filters
        self.changed = changed
        self.operations = operations
        self.specific_wins = specific_wins

    def host(self, host: Any, at: Place) -> VirtualHost:
        """A ``VirtualHost``; Istio names it ``host:port``."""
        at.only(
            host, {*_OPERATIONS, *_HARMLESS, "name", "domains", "routes", "retry_policy", "typed_per_filter_config"}
        )
        levels = [(header_ops.requests(host, at), header_ops.responses(host, at)), self.operations]
        changed = overrides(host.typed_per_filter_config, at)
        inherited = host.retry_policy if host.HasField("retry_policy") else None
        made = (
            self.route(route, inherited, changed, levels, at.field("routes", number))
            for number, route in enumerate(host.routes)
        )
        routes = tuple(route for route in made if route is not None)
        name, _, port = host.name.rpartition(":")
        numbered = bool(name) and port.isdigit()
        service = metadata(host, "meshlib").get("service")
        owner = next((owner for route in host.routes if (owner := _owner(route))), None)
        return VirtualHost(name if numbered else host.name, int(port) if numbered else 0, routes, owner, service)

    def route(self, route: Any, inherited: Any, of_host: dict[str, Filter], levels: Levels, at: Place) -> Route | None:
        """A ``Route``, or None for one that can never match here."""
        at.only(route, {*_OPERATIONS, *_HARMLESS, "name", "match", "typed_per_filter_config"} | _ACTIONS)
        match = route_match(route.match, at.field("match"))
        of_route = overrides(route.typed_per_filter_config, at)
        done = action(route, inherited, at)
        found = self.filters.resolve([of_route, of_host, self.changed])
        own = (header_ops.requests(route, at), header_ops.responses(route, at))
        ordered = [self.operations, levels[0], own] if self.specific_wins else [own, *levels]
        if match is None:
            return None
        requests, responses = ([level[side] for level in ordered] for side in (0, 1))
        cors = next((each for each in found.get("cors", ()) if isinstance(each, Cors)), None)
        return Route(
            route.name,
            match,
            done,
            _chained([each for each in found.get("fault", ()) if isinstance(each, Fault)]),
            requests[0],
            responses[0],
            _origin(route),
            cors,
            _trimmed(requests[1:]),
            _trimmed(responses[1:]),
        )


_ACTIONS = {"route", "redirect", "direct_response", "filter_action", "non_forwarding_action"}


def _chained(faults: list[Fault]) -> Fault | None:
    """Each filter asks the next one when it lets a request pass."""
    chain: Fault | None = None
    for each in reversed(faults):
        chain = replace(each, then=chain)
    return chain


def _trimmed(levels: list[HeaderOps]) -> tuple[HeaderOps, ...]:
    while levels and not levels[-1]:
        levels.pop()
    return tuple(levels)


def _owner(route: Any) -> str | None:
    """``namespace/name`` of the VirtualService that istiod says a route came from."""
    parts = str(metadata(route, "istio").get("config", "")).split("/")
    if len(parts) < 4 or parts[-2] != "virtual-service":
        return None
    return f"{parts[-3]}/{parts[-1]}"


def _origin(route: Any) -> RouteOrigin:
    place = metadata(route, "meshlib")
    if "rule" not in place:
        return RouteOrigin()
    match = place.get("match")
    return RouteOrigin(int(place["rule"]), None if match is None else int(match), str(place.get("object", "")))
