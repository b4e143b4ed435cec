"""Gateway API routes with a Service or ServiceEntry as parent (GAMMA): one set of rules for each host and port.

The rules of all HTTPRoutes and GRPCRoutes of one namespace for one parent are put together, the oldest route first, and
then sorted by precedence; the order in YAML matters only between equals. A route in its parent's namespace (a
producer's) is for all clients, any other (a consumer's) only for clients of its own namespace. ``spec.hostnames`` and
Gateways as parents mean nothing in the mesh.

Source: Istio ``route_collections.go``, ``conversion.go``; ``core/httproute.go`` for who is served.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlib.config.compile.gateway_actions import GatewayActions
from meshlib.config.compile.gateway_backends import destinations_of
from meshlib.config.compile.gateway_matches import EVERYTHING, Conditions, conditions
from meshlib.config.compile.gateway_parents import Parents
from meshlib.config.compile.registry import age
from meshlib.config.resources.base import Resource
from meshlib.config.resources.gateway_api import (
    GRPCRouteMatch,
    GRPCRouteRule,
    GRPCRouteSpec,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
)
from meshlib.config.resources.gateway_filters import FilterType
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.informed import BUILT_IN
from meshlib.model.route import Forward, Route, RouteOrigin, SkippedRule

if TYPE_CHECKING:
    from meshlib.config.compile.actions import Actions
    from meshlib.config.compile.registry import Registry
    from meshlib.config.compile.services import Service
    from meshlib.config.compile.sidecar import Listener
    from meshlib.model.snapshot import Client

__all__ = ["GatewayRule", "GatewayRules", "gateway_routes", "in_precedence", "rules_of"]

AnyRoute = Resource[HTTPRouteSpec] | Resource[GRPCRouteSpec]


@dataclass(frozen=True, slots=True)
class GatewayRule:
    """One match of one rule.

    Attributes:
        route: The object.
        namespace: Where it stands.
        index: Of the rule in ``spec.rules``.
        number: Of the match in the rule's ``matches``, None for a rule without any.
        name: The rule's, else ``<namespace>.<route>.<index>``.
        conditions: When it applies.
        rule: What it does.
    """

    route: AnyRoute
    namespace: str
    index: int
    number: int | None
    name: str
    conditions: Conditions
    rule: HTTPRouteRule

    @property
    def object(self) -> str:
        """Kind, namespace and name of the object."""
        return f"{self.route.kind} {self.namespace}/{self.route.metadata.name}"


@dataclass(frozen=True, slots=True)
class GatewayRules:
    """The rules of some routes of one namespace for one parent; see ``HostRules``.

    Attributes:
        namespace: Of the routes.
        host: Of the parent, in full.
        port: The only port that they are for, 0 for every port.
        rules: By precedence.
        export_to: Who may see them.
        domain: DNS suffix of the cluster.
    """

    namespace: str
    host: str
    port: int
    rules: tuple[GatewayRule, ...]
    export_to: tuple[str, ...]
    domain: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """The parent's alone."""
        return (self.host,)

    @property
    def age(self) -> tuple[float, str, str]:
        """As Istio orders the VirtualServices that it makes of routes."""
        parts = (self.namespace, str(self.port), self.host) if self.port else (self.namespace, self.host)
        return (min(age(rule.route)[0] for rule in self.rules), "~".join(parts), self.namespace)

    @property
    def gateway_api(self) -> bool:
        """It is the Gateway API's."""
        return True

    @property
    def virtual_service(self) -> None:
        """There is none."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Every route that has a rule here."""
        return tuple(dict.fromkeys(rule.object for rule in self.rules))

    def serves(self, owner: Service | None, namespace: str) -> bool:
        """Clients of the routes' own namespace, and those of everybody where the parent stands beside the routes."""
        return owner is not None and self.namespace in (owner.namespace, namespace)

    def imported(self, listener: Listener) -> bool:
        """The import must cover all that the parent's name stands for (Istio ``SubsetOf``)."""
        return listener.imports(self.namespace, self.host)

    def destinations(self) -> Iterator[Destination]:
        """Every backend that can be honoured, mirrors included."""
        for each in self.rules:
            yield from destinations_of(each.rule, each.namespace, self.domain)

    def routes(self, client: Client, port: int, actions: Actions) -> tuple[tuple[Route, ...], tuple[SkippedRule, ...]]:
        """See ``HostRules.routes``; nothing on other ports than the parent's."""
        if self.port not in (0, port):
            return (), ()
        ends = [number for number, each in enumerate(self.rules) if each.conditions.ends]
        reached = self.rules[: ends[0] + 1] if ends else self.rules
        last = reached[-1]
        reason = f"{last.object} rule {last.index} before it matches everything"
        skipped = (SkippedRule(r.index, r.number, r.name, reason, r.object) for r in self.rules[len(reached) :])
        return tuple(self._route(each, port, actions) for each in reached), tuple(skipped)

    def _route(self, each: GatewayRule, port: int, actions: Actions) -> Route:
        grpc = isinstance(each.route.spec, GRPCRouteSpec)
        match = each.conditions.match
        translator = GatewayActions(actions, each.namespace, self.domain, port, grpc)
        outcome = translator.translate(each.rule, root=match.path is None)
        return Route(
            each.name,
            match,
            outcome.action,
            request_headers=outcome.requests,
            response_headers=outcome.responses,
            origin=RouteOrigin(
                each.index, each.number, each.object, tuple(_values(each, outcome.action, actions)), outcome.notes
            ),
            cors=outcome.cors,
        )


_WORDS = {
    FilterType.REQUEST_HEADER_MODIFIER: "headers",
    FilterType.RESPONSE_HEADER_MODIFIER: "headers",
    FilterType.REQUEST_REDIRECT: "redirect",
    FilterType.URL_REWRITE: "rewrite",
    FilterType.REQUEST_MIRROR: "mirrors",
    FilterType.CORS: "corsPolicy",
}
"""What ``explain`` calls what a filter does."""


def _values(each: GatewayRule, action: object, actions: Actions) -> Iterator[tuple[str, str]]:
    """Where each value stands; a timeout and retries have an origin always."""
    place, rule = f"{each.object} spec.rules[{each.index}]", each.rule
    if isinstance(action, Forward):
        yield "timeout", f"{place}.timeouts" if action.timeout is not None else BUILT_IN
        yield "retries", f"{place}.retry" if rule.retry is not None else actions.retry_origin
    for number, given in enumerate(rule.filters):
        if given.type in _WORDS:
            yield _WORDS[FilterType(given.type)], f"{place}.filters[{number}]"


def gateway_routes(
    resources: Sequence[Resource[Any]], namespace: str, domain: str, registry: Registry, export_to: Sequence[str]
) -> Iterator[GatewayRules]:
    """All routes for the mesh; ``export_to`` is the mesh's ``defaultVirtualServiceExportTo``."""
    routes = [r for r in resources if isinstance(r.spec, HTTPRouteSpec | GRPCRouteSpec)]
    parents = Parents(resources, namespace, domain, registry)
    groups: defaultdict[tuple[str, str, int], list[GatewayRule]] = defaultdict(list)
    for route in sorted(routes, key=lambda r: _age(r, namespace)):
        own = route.metadata.namespace or namespace
        rules = list(rules_of(route, own))
        for host, port in parents.of(route.spec.parent_refs, own):
            groups[own, host, port].extend(rules)
    for (own, host, port), found in groups.items():
        yield GatewayRules(own, host, port, in_precedence(found), tuple(export_to), domain)


def in_precedence(rules: Iterable[GatewayRule]) -> tuple[GatewayRule, ...]:
    """Rules in the order in which they are tried; equals stay as they are."""
    return tuple(sorted(rules, key=lambda each: each.conditions.precedence))


def _age(route: AnyRoute, namespace: str) -> tuple[float, str]:
    return (age(route)[0], f"{route.metadata.namespace or namespace}.{route.metadata.name}")


def rules_of(route: AnyRoute, namespace: str) -> Iterator[GatewayRule]:
    """Each match of each rule, in the object's order."""
    rules: Sequence[HTTPRouteRule | GRPCRouteRule] = route.spec.rules
    for index, rule in enumerate(rules):
        name = rule.name or f"{namespace}.{route.metadata.name}.{index}"
        plain = rule if isinstance(rule, HTTPRouteRule) else _as_http(rule)
        if not rule.matches:
            yield GatewayRule(route, namespace, index, None, name, EVERYTHING, plain)
        matches: Sequence[HTTPRouteMatch | GRPCRouteMatch] = rule.matches
        for number, match in enumerate(matches):
            yield GatewayRule(route, namespace, index, number, name, conditions(match), plain)


def _as_http(rule: GRPCRouteRule) -> HTTPRouteRule:
    """A gRPC rule does with requests what an HTTP rule does; only its conditions have a form of their own."""
    return HTTPRouteRule(name=rule.name, filters=rule.filters, backend_refs=rule.backend_refs)
