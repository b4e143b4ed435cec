"""From the name and port that a caller wrote to the rules in force: virtual hosts, made one by one.

A service answers to its full name, to the short names that its callers' namespace gives it, to its virtual IPs, to the
names of the ExternalNames on it and, when it is headless, to those of its pods. A host that no service of the port has
may still be served by a VirtualService: on the ports of the services that this VirtualService is also for, else on
port 80. Of two claims on one name the literal one wins over the short one, and among VirtualServices the earlier.

Source: Istio ``core/httproute.go`` (``generateVirtualHostDomains``, ``dedupeDomains``), ``core/route/route.go``
(``BuildSidecarVirtualHostWrapper``, ``separateVSHostsAndServices``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from meshlib.config.compile.actions import Actions
from meshlib.config.compile.services import DECLARED_HTTP, Port, Resolution, Service
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.cluster import cluster_name, parse_cluster_name
from meshlib.model.hosts import is_ip, matches
from meshlib.model.informed import BUILT_IN
from meshlib.model.route import Forward, Route, RouteMatch, RouteOrigin, VirtualHost, WeightedCluster

if TYPE_CHECKING:
    from meshlib.config.compile.host_rules import HostRules
    from meshlib.config.compile.sidecar import Listener
    from meshlib.config.compile.universe import View

__all__ = ["UNREGISTERED_PORT", "HttpHosts"]

UNREGISTERED_PORT = 80
"""Where hosts outside the registry are served whose VirtualService is for no service of the port."""


class Claim(NamedTuple):
    """A virtual host that may be meant, and the rules that it came from."""

    host: VirtualHost
    rules: HostRules | None = None


class HttpHosts:
    """The virtual hosts of one client."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen = view.seen
        self._claims: dict[tuple[str, int], bool] = {}

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """What the client knows of ``host`` on ``port``; None leaves it to the outbound policy."""
        listener = self._view.scope.listener(port)
        return self.on(listener, host, port) if listener is not None else None

    def on(self, listener: Listener, host: str, port: int) -> VirtualHost | None:
        """The same for calls that reach one listener of the client's Sidecar."""
        literal, *short = (host,) if is_ip(host) else self._seen.spellings(host)
        service = self._service(literal, port, listener)
        if service is not None:
            claim = self._of_service(service, service.host, port, listener)
        else:
            claim = self._short(literal, short, port, listener) or self._wildcard(literal, port, listener)
        return claim.host if claim is not None else None

    def find(self, host: str, listener: Listener) -> tuple[str, Service | None]:
        """The full name that a caller meant, and the service that it stands for, whatever its ports; for accounts."""
        if is_ip(host):
            found = next(iter(self._seen.registry.addressed(host)), None)
            return (found.host if found is not None else host), found
        names = tuple(self._seen.spellings(host))
        for name in names:
            service = self._seen.on(name, listener)
            if service is not None:
                return name, service
        for name in names:
            if any(self._usable(rules, None, listener) for rules in self._view.rules.exact(name)):
                return name, None
        return names[0], next((service for _, service in self._seen.wildcards(names[0], listener)), None)

    def _usable(self, rules: HostRules, owner: Service | None, listener: Listener) -> bool:
        """Whether the client has these rules at a host of ``owner``, None for a host outside the registry."""
        return rules.imported(listener) and rules.serves(owner, self._view.client.namespace)

    # Which of several claims ------------------------------------------------------------------------------------------

    def _short(self, literal: str, short: Sequence[str], port: int, listener: Listener) -> Claim | None:
        """Of the literal name of a host outside the registry and the short name of one inside, the earlier claim."""
        only = self._unregistered(literal, self._view.rules.exact(literal), port, listener)
        service = next((s for name in short if (s := self._service(name, port, listener)) is not None), None)
        service = service or self._aliased((literal, *short), port, listener)
        found = self._of_service(service, service.host, port, listener) if service is not None else None
        if found is not None and only is not None and only.rules is not None and found.rules is not None:
            return found if self._view.rules.before(found.rules, only.rules) else only
        return only or found or self._short_unregistered(short, port, listener)

    def _short_unregistered(self, short: Iterable[str], port: int, listener: Listener) -> Claim | None:
        """A short name of a host that only a VirtualService knows: no sidecar serves it, but then no DNS has it."""
        made = (self._unregistered(name, self._view.rules.exact(name), port, listener) for name in short)
        return next((claim for claim in made if claim is not None), None)

    def _service(self, name: str, port: int, listener: Listener) -> Service | None:
        """The service of a full name or address, if it has that port.

        An address inside a range stands for a service only where the address alone decides.
        """
        if is_ip(name):
            found = self._seen.addressed(name, port, listener)
            number = found.port(port) if found is not None else None
            declared = number is not None and number.protocol in DECLARED_HTTP
            return None if found is None or (declared and not found.is_at(name)) else found
        found = self._seen.on(name, listener)
        if found is None or found.resolution is Resolution.ALIAS or found.port(port) is None:
            return None
        return found

    def _aliased(self, names: Iterable[str], port: int, listener: Listener) -> Service | None:
        """The service behind an ExternalName; the ExternalName itself while its target is not in the registry."""
        for name in names:
            alias = self._seen.on(name, listener)
            if alias is not None and alias.resolution is Resolution.ALIAS:
                found = self._seen.target(alias) or alias
                return found if found.port(port) is not None else None
        return None

    def _wildcard(self, name: str, port: int, listener: Listener) -> Claim | None:
        """The longest of the patterns over ``name``: wildcard services, headless services, wildcard hosts of rules."""
        candidates: list[tuple[int, Service | list[HostRules]]] = []
        members: dict[str, str] = {}
        for pattern, service in self._seen.wildcards(name, listener):
            candidates.append((len(pattern), service))
            members[service.host] = name.removesuffix(pattern[1:]) if service.headless else ""
        for pattern, known in self._view.rules.wildcards(name):
            if not self._claims_services(pattern, port, listener):
                candidates.append((len(pattern), known))
        for _, found in sorted(candidates, key=lambda pair: -pair[0]):
            if isinstance(found, Service):
                shown = found.host if found.headless else name
                claim = self._of_service(found, shown, port, listener)
                if claim is not None and members[found.host]:
                    claim = Claim(to_member(claim.host, found.host, members[found.host]), claim.rules)
            else:
                claim = self._unregistered(name, found, port, listener)
            if claim is not None:
                return claim
        return None

    # Hosts outside the registry ---------------------------------------------------------------------------------------

    def _unregistered(self, name: str, known: Iterable[HostRules], port: int, listener: Listener) -> Claim | None:
        """The first VirtualService that serves ``name``, which no service of the port has."""
        for rules in known:
            if self._usable(rules, None, listener) and self._serves(rules, port, listener):
                found = self._with(rules, name, None, port)
                if found is not None:
                    return found
        return None

    def _serves(self, rules: HostRules, port: int, listener: Listener) -> bool:
        """Whether a VirtualService serves its unregistered hosts there: on its services' ports, else on 80."""
        return port == UNREGISTERED_PORT or any(self._claims_services(host, port, listener) for host in rules.hosts)

    def _claims_services(self, pattern: str, port: int, listener: Listener) -> bool:
        """Whether a host of a VirtualService is that of a service with an HTTP port of that number."""
        if not pattern.startswith("*"):
            service = self._service(pattern, port, listener)
            return service is not None and _speaks_http(service, port)
        if (pattern, port) not in self._claims:
            self._claims[pattern, port] = any(
                matches(pattern, service.host) and _speaks_http(service, port)
                for service in self._seen.all_on(listener)
            )
        return self._claims[pattern, port]

    # Rules of a service -----------------------------------------------------------------------------------------------

    def _of_service(self, service: Service, name: str, port: int, listener: Listener) -> Claim | None:
        number = service.port(port)
        if number is None:
            return None
        if not number.protocol.is_http:
            found = self._view.tcp.over_http(name, port)
            return Claim(found) if found is not None else None
        for candidates in self._view.rules.all_matching(service.host):
            imported = [rules for rules in candidates if self._usable(rules, service, listener)]
            if imported:
                made = (self._with(rules, name, number, port, service) for rules in imported)
                return next((claim for claim in made if claim is not None), self._default(name, service, number))
        return self._default(name, service, number)

    def _with(
        self, rules: HostRules, name: str, number: Port | None, port: int, service: Service | None = None
    ) -> Claim | None:
        """The virtual host by these rules; None when there are none for this client and port."""
        routes, skipped = rules.routes(self._view.client, port, self._actions(rules.namespace, port))
        if not routes:
            return None
        known = service.host if service is not None else None
        by_address = rules.gateway_api or (number is not None and number.protocol not in DECLARED_HTTP)
        made = VirtualHost(name, port, routes, rules.virtual_service, known, skipped, by_address, rules.objects)
        return Claim(made, rules)

    def _actions(self, namespace: str, port: int) -> Actions:
        view = self._view

        def cluster(destination: Destination) -> str:
            return view.destination(destination, namespace, port)

        mesh = view.universe.mesh
        headers = mesh.default_config.proxy_headers
        forwarded = headers.x_forwarded_host if headers is not None else None
        tells_host = forwarded is not None and bool(forwarded.enabled)
        outbound, retries = view.outbound, mesh.default_http_retry_policy
        return Actions(cluster, outbound.hash_keys, retries, tells_host, outbound.weight_keys)

    def _default(self, name: str, service: Service, number: Port) -> Claim:
        """The host of a service that no rule is for."""
        clusters = (WeightedCluster(cluster_name(service.host, number.number)),)
        actions = self._actions(service.namespace, number.number)
        retry, hash_keys = actions.policies(clusters, (number.number,), None)
        action = Forward(clusters, retry=retry, hash_keys=hash_keys)
        values = (("timeout", BUILT_IN), ("retries", actions.retry_origin))
        routes = (Route("default", RouteMatch(), action, origin=RouteOrigin(values=values)),)
        detected = number.protocol not in DECLARED_HTTP
        return Claim(VirtualHost(name, number.number, routes, None, service.host, by_address=detected))


def to_member(host: VirtualHost, service: str, member: str) -> VirtualHost:
    """The virtual host of a headless ``service``, where every way to the service leads to one ``member`` of it."""

    def routed(route: Route) -> Route:
        action = route.action
        if not isinstance(action, Forward):
            return route
        clusters = (replace(to, cluster=_narrowed(to.cluster, service, member)) for to in action.clusters)
        return replace(route, action=replace(action, clusters=tuple(clusters)))

    return replace(host, routes=tuple(routed(route) for route in host.routes))


def _narrowed(cluster: str, service: str, member: str) -> str:
    _, port, subset, host = parse_cluster_name(cluster)
    return cluster_name(f"{member}.{service}", port, subset) if host == service else cluster


def _speaks_http(service: Service, port: int) -> bool:
    number = service.port(port)
    return number is not None and number.protocol.is_http
