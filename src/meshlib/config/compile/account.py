"""Why a client sees what it sees: who decides about a host, who lost, and which endpoints a cluster leaves out.

Asked by ``explain`` only. The answers come from the same indexes and in the same order as the compiled hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.config.compile.services import DECLARED_HTTP, Resolution, Service
from meshlib.config.compile.visibility import visible
from meshlib.model.hosts import expand, matches

if TYPE_CHECKING:
    from meshlib.config.compile.host_rules import HostRules
    from meshlib.config.compile.universe import View

__all__ = ["connection_reasons", "host_reasons"]


def host_reasons(view: View, host: str, port: int) -> Iterator[str]:
    """What decided about ``host`` on ``port``: the service, the object in force, and those that lost."""
    name, service = view.find(host, port)
    found = view.virtual_host(host, port)
    if service is not None:
        yield f"{host} is {_described(service)}"
    if found is None:
        yield from _unknown(view, name, service, port)
    if found is None and service is not None:
        return
    name = service.host if service is not None else name
    yield from _rules(view, name, service, port, found.objects if found is not None else ())


def connection_reasons(view: View, host: str, port: int) -> Iterator[str]:
    """What decides about connections to ``host`` on ``port``: the service, its protocol, and whose rules count."""
    name, service = view.find(host, port)
    if service is None:
        yield from _unknown(view, name, service, port)
        return
    yield f"{host} is {_described(service)}"
    number = service.port(port)
    if number is None:
        yield from _unknown(view, name, service, port)
    elif number.protocol in DECLARED_HTTP:
        yield f"port {port} is declared {number.protocol.value}: only HTTP requests are routed there"
    else:
        kind = "tls" if number.protocol.is_tls else "tcp"
        yield f"port {port} speaks {number.protocol.value}: {kind} rules count"
        for rules in view.rules.for_connections(service.host):
            if view.imported(rules, port):
                yield f"{rules.objects[0]} adds its {kind} rules"
            else:
                yield f"{rules.objects[0]} is passed over: {view.scope.object} does not import it"


def _described(service: Service) -> str:
    alias = f", an alias of {service.alias_of}" if service.resolution is Resolution.ALIAS else ""
    return f"{service.host} ({service.object}{alias})"


def _unknown(view: View, name: str, service: Service | None, port: int) -> Iterator[str]:
    if service is not None:
        ports = ", ".join(str(each.number) for each in service.ports)
        if service.port(port) is None:
            yield f"{service.object} has no port {port}, only {ports}"
        else:
            yield f"{view.scope.object} does not import it on port {port}"
        return
    hidden = list(_hidden(view, name))
    yield from hidden or ["no Service, ServiceEntry or VirtualService that the client sees names it"]
    if view.scope.object:
        yield f"{view.scope.object} is the client's Sidecar"


def _hidden(view: View, name: str) -> Iterator[str]:
    """Services of that name that the client may not see."""
    universe, own = view.universe, view.client.namespace
    for spelling in dict.fromkeys((name, expand(name, own, universe.domain))):
        for service in universe.registry.named(spelling):
            export = service.export_to or universe.mesh.default_service_export_to
            if not visible(export, service.namespace, own):
                yield f"{service.object} is exported to {', '.join(export)} and not to {own}"
            elif not view.scope.imports(service.namespace, spelling):
                yield f"{view.scope.object} does not import {service.object}"


# Rules --------------------------------------------------------------------------------------------------------------


def _rules(view: View, name: str, service: Service | None, port: int, winner: tuple[str, ...]) -> Iterator[str]:
    first: HostRules | None = None
    for rules in _in_order(view, name):
        words = " and ".join(rules.objects)
        if not view.imported(rules, port):
            yield f"{words} is passed over: {view.scope.object} does not import it"
        elif not rules.serves(service, view.client.namespace):
            yield f"{words} is passed over: it is for clients of namespace {rules.namespace}"
        elif first is not None:
            yield f"{words} is passed over: {winner[0]} comes first{_why_first(first, rules, name)}"
        elif rules.objects == winner and rules.port in (0, port):
            first = rules
            yield f"{words} is in force: its host {_host(rules, name)} matches"
        else:
            yield f"{words} is passed over: it has no rule for this client on port {port}"
    yield from _unseen(view, name)


def _in_order(view: View, name: str) -> Iterator[HostRules]:
    seen: dict[int, None] = {}
    for candidates in view.rules.all_matching(name):
        for rules in candidates:
            if id(rules) not in seen:
                seen[id(rules)] = None
                yield rules


def _host(rules: HostRules, name: str) -> str:
    """The most specific of the object's hosts that matches."""
    return max((host for host in rules.hosts if matches(host, name)), key=lambda host: (host[0] != "*", len(host)))


def _why_first(first: HostRules, loser: HostRules, name: str) -> str:
    """In what the first of all beats ``loser``."""
    if _host(first, name) != _host(loser, name):
        return f", {_host(first, name)} is more specific than {_host(loser, name)}"
    return " by visibility or age" if first.age[0] != loser.age[0] else " by visibility or name"


def _unseen(view: View, name: str) -> Iterator[str]:
    """Those that name the host and do not count for this client."""
    universe, own = view.universe, view.client.namespace
    for rules in universe.rules:
        if any(matches(host, name) for host in rules.hosts) and not visible(rules.export_to, rules.namespace, own):
            words = " and ".join(rules.objects)
            yield f"{words} is passed over: exported to {_listed(rules.export_to)}, not to {own}"
    for resource in universe.virtual_services.gateway_only:
        namespace = resource.metadata.namespace or universe.namespace
        hosts = [expand(host, namespace, universe.domain) for host in resource.spec.hosts]
        if any(matches(host, name) for host in hosts):
            gateways = _listed(resource.spec.gateways)
            yield (
                f"VirtualService {namespace}/{resource.metadata.name} is passed over: "
                f"bound to gateways {gateways}, not to mesh"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"
