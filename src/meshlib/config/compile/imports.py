"""All services that a client gets clusters for: what its listeners import, and what imported rules name.

Source: Istio ``sidecar.go`` (``collectImportedServices``, ``virtualServiceDestinations``): explicit imports first, with
the ports that their listeners are bound to; then destinations, with the ports that routes name, of rules that a client
in that namespace can take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.config.compile.gateway_routes import GatewayRules
from meshlib.config.compile.services import Service
from meshlib.config.compile.virtual_services import MeshRules
from meshlib.config.resources.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
)
from meshlib.model.hosts import expand

if TYPE_CHECKING:
    from meshlib.config.compile.host_rules import HostRules
    from meshlib.config.compile.universe import View

__all__ = ["imported_services"]

Match = HTTPMatchRequest | TLSMatchAttributes | L4MatchAttributes


def imported_services(view: View) -> list[Service]:
    """The services in scope, each host once, with the ports that the client gets."""
    found: dict[str, Service] = {}
    for listener in view.scope.listeners:
        for service in view.seen.all_on(listener):
            _take(found, replace(service, ports=view.seen.ports_on(listener, service)))
    for rules in view.rules:
        if any(rules.imported(listener) for listener in view.scope.listeners):
            for host, ports in _named(view, rules).items():
                target = view.seen.destination(host)
                kept = tuple(p for p in target.ports if 0 in ports or p.number in ports) if target else ()
                if target is not None and (kept or not target.ports):
                    _take(found, replace(target, ports=kept))
    return list(found.values())


def _take(found: dict[str, Service], service: Service) -> None:
    known = found.get(service.host)
    if known is None or (service.kubernetes and not known.kubernetes):
        found[service.host] = service
    elif known.namespace == service.namespace:
        found[service.host] = known.with_ports(service.ports)


def _named(view: View, rules: HostRules) -> dict[str, set[int]]:
    """Full host -> ports that the rules send to; 0 stands for every port."""
    named: dict[str, set[int]] = {}
    for destination in _destinations(view, rules):
        host = expand(destination.host, rules.namespace, view.universe.domain)
        named.setdefault(host, set()).add(destination.port.number if destination.port is not None else 0)
    return named


def _destinations(view: View, rules: HostRules) -> Iterator[Destination]:
    if isinstance(rules, MeshRules):
        yield from _of_virtual_service(rules, view.client.namespace)
    elif isinstance(rules, GatewayRules) and rules.serves(view.seen.destination(rules.host), view.client.namespace):
        yield from rules.destinations()


def _of_virtual_service(rules: MeshRules, namespace: str) -> Iterator[Destination]:
    spec = rules.resource.spec
    for placed in rules.http:
        if _may_hold(placed.rule.match, namespace):
            yield from _of_http(placed.rule)
    rules_of_connections: list[TLSRoute | TCPRoute] = [*spec.tls, *spec.tcp]
    for rule in rules_of_connections:
        if _may_hold(rule.match, namespace):
            yield from (entry.destination for entry in rule.route if entry.destination is not None)


def _of_http(rule: HTTPRoute) -> Iterator[Destination]:
    named = [entry.destination for entry in rule.route]
    named += [rule.mirror, *(mirror.destination for mirror in rule.mirrors)]
    yield from (destination for destination in named if destination is not None)


def _may_hold(matches: Iterable[Match], namespace: str) -> bool:
    """Whether a client of ``namespace`` could ever take a rule with these matches."""
    wanted = [match.source_namespace for match in matches]
    return not wanted or any(name in ("", namespace) for name in wanted)
