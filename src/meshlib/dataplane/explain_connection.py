"""What would happen to a raw TCP or TLS connection, and why: the tables of live connections, nothing drawn."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from meshlib.dataplane.connections import Target, host_of, select
from meshlib.dataplane.decision import MATCHES, Decision, RuleVerdict
from meshlib.dataplane.explain import NEVER, decide, label, left_aside, unknown
from meshlib.dataplane.prepared import Prepared, PreparedHost
from meshlib.model.hosts import is_ip, matches
from meshlib.model.tcp import TcpHost, TcpRoute

__all__ = ["explain_connection"]

SHOWN = 20
"""Ways that are accounted for; a port that thousands of services share has thousands."""


def explain_connection(prepared: Prepared, target: Target, now: float = NEVER) -> Decision:
    """The decision that a live connection at ``now`` would take, but for its draw."""
    host = prepared.tcp_host(target.host, target.port)
    way = select(host, target)
    request = target.request
    why = prepared.snapshot.connection_reasons(target.host, target.port)
    if host is None or way is None:
        tried = [] if host is None else _verdicts(host, way, target)
        return unknown(prepared, request, (*map(str, tried), *why))
    bound = prepared.bound(way.route)
    found = PreparedHost(host_of(host, way), (bound,))
    decision = decide(prepared, found, bound, request, now, _verdicts(host, way, target), why)
    decision.details.update(idle_timeout_s=way.idle_timeout, max_connection_duration_s=way.max_duration)
    return decision


def _verdicts(host: TcpHost, chosen: TcpRoute | None, target: Target) -> list[RuleVerdict]:
    ways = [*host.routes, *([host.fallback] if host.fallback is not None else [])]
    shown = [way for way in ways if way is chosen or way.virtual_service is not None][:SHOWN]
    found = [RuleVerdict(label(way.route), MATCHES if way is chosen else _why_not(way, host, target)) for way in shown]
    return [*map(left_aside, host.skipped), *found]


def _why_not(way: TcpRoute, host: TcpHost, target: Target) -> str:
    """The condition that fails, or that another way fits better."""
    subnets, names = way.match.subnets, way.match.sni_hosts
    address = target.host if is_ip(target.host) else host.address
    if subnets and not address:
        return f"destinationSubnets {', '.join(subnets)}: the caller names {target.host}, whose address is not known"
    if subnets and not any(ip_address(address) in ip_network(subnet, strict=False) for subnet in subnets):
        return f"address {address} is not in {', '.join(subnets)}"
    if names and not any(matches(name, target.sni) for name in names):
        return f"server name {target.sni or '(none)'} is not {', '.join(names)}"
    return "a more specific or earlier way is taken"
