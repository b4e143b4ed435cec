"""What would happen to a request, and why: the live matchers asked one by one, nothing drawn, nothing counted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from meshlib.dataplane.balancing.pick import is_healthy
from meshlib.dataplane.prepared import BoundRoute, Prepared, PreparedHost
from meshlib.dataplane.reply import path_after, redirect_reply
from meshlib.dataplane.request import Request
from meshlib.model.cluster import cluster_name
from meshlib.model.route import DirectResponse, Forward, HeaderOps, Redirect
from meshlib.model.snapshot import OutboundPolicy

__all__ = ["Decision", "DecisionDestination", "explain"]


@dataclass(frozen=True, slots=True)
class DecisionDestination:
    """Where a share of such requests goes.

    Attributes:
        weight: Percent of the whole, after normalisation to 100.
        endpoints: Those that may be picked now.
        left_out: Endpoint -> why it is not picked.
    """

    host: str
    subset: str
    port: int
    weight: float
    cluster: str
    endpoints: tuple[str, ...]
    load_balancer: str
    tls: str
    exists: bool
    left_out: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        weight = int(self.weight) if self.weight == int(self.weight) else round(self.weight, 4)
        return {
            "host": self.host,
            "subset": self.subset,
            "port": self.port,
            "weight": weight,
            "cluster": self.cluster,
            "endpoints": list(self.endpoints),
            "load_balancer": self.load_balancer,
            "tls": {"mode": self.tls},
            "left_out": dict(self.left_out),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The routing decision about one request.

    Attributes:
        action: ``route``, ``redirect``, ``direct_response``, ``passthrough`` or ``none``.
        flag: Envoy's response flag where the request would fail (``NR``, ``NC``, ``UH``), else ``""``.
        host: Full name of the host.
        port: Port that was addressed.
        virtual_service: ``namespace/name``, None when only the default route applies.
        destinations: Where shares of such requests go.
        reasons: Every rule tried and the first clause that failed; where each policy value came from.
    """

    action: str
    host: str
    port: int
    flag: str = ""
    virtual_service: str | None = None
    route: dict[str, Any] | None = None
    destinations: tuple[DecisionDestination, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``meshlib explain``."""
        empty: dict[str, Any] = {
            "rewrite": None,
            "headers": _headers_dict(HeaderOps(), HeaderOps()),
            "timeout_s": None,
            "retries": None,
            "fault": None,
            "mirrors": [],
            "redirect": None,
            "direct_response": None,
        }
        return {
            "host": self.host,
            "port": self.port,
            "virtual_service": self.virtual_service,
            "route": self.route,
            "action": self.action,
            "flag": self.flag or None,
            "destinations": [destination.to_dict() for destination in self.destinations],
            **empty,
            **self.details,
            "reasons": list(self.reasons),
        }


def explain(prepared: Prepared, request: Request) -> Decision:
    """The decision that a live call would take, but for its draws."""
    host = prepared.host(request.host, request.port)
    if host is None:
        return _unknown(prepared, request)
    rng = _Never()
    reasons = [f"rule {s.rule}{_match(s.match)}{_named(s.name)}: {s.reason}" for s in host.host.skipped]
    for route in host.routes:
        failed = next((clause for clause in route.clauses if not clause.test(request, rng)), None)
        label = _label(route)
        if failed is None:
            reasons.append(f"{label}: matches")
            return _decide(prepared, host, route, request, reasons)
        reasons.append(f"{label}: {failed.saw(request)}, wanted {failed.wants}")
    name, service = host.host.name, host.host.virtual_service
    return Decision("none", name, request.port, "NR", service, reasons=tuple([*reasons, "no rule matches"]))


class _Never(random.Random):
    """A draw that is always zero: any share above none counts as possible."""

    def random(self) -> float:
        return 0.0


def _unknown(prepared: Prepared, request: Request) -> Decision:
    if prepared.snapshot.outbound_policy is OutboundPolicy.REGISTRY_ONLY:
        reason = "the host is not known on this port, and the mesh is REGISTRY_ONLY"
        return Decision("none", request.host, request.port, "NR", reasons=(reason,))
    reason = "the host is not known on this port, and goes straight to its address (ALLOW_ANY)"
    return Decision("passthrough", request.host, request.port, reasons=(reason,))


def _label(bound: BoundRoute) -> str:
    origin = bound.route.origin
    if origin.rule < 0:
        return "default route"
    return f"rule {origin.rule}{_match(origin.match)}{_named(bound.route.name)}"


def _match(number: int | None) -> str:
    return f".{number}" if number else ""


def _named(name: str) -> str:
    return f" ({name!r})" if name else ""


def _decide(
    prepared: Prepared, host: PreparedHost, bound: BoundRoute, request: Request, reasons: list[str]
) -> Decision:
    route = bound.route
    origin = route.origin
    values = [f"{field} from {where}" for field, where in origin.values]
    place = {"index": origin.rule, "match": origin.match, "name": route.name} if origin.rule >= 0 else None
    action, flag, destinations, details = _action(prepared, bound, request)
    for destination in destinations:
        cluster = prepared.snapshot.cluster(destination.cluster)
        values.extend(f"{name} from {where}" for name, where in (cluster.origins if cluster is not None else ()))
        values.extend(f"endpoint {key} is left out: {why}" for key, why in destination.left_out)
    return Decision(
        action,
        host.host.name,
        request.port,
        flag,
        host.host.virtual_service,
        place,
        destinations,
        details,
        tuple([*reasons, *dict.fromkeys(values)]),
    )


def _action(
    prepared: Prepared, bound: BoundRoute, request: Request
) -> tuple[str, str, tuple[DecisionDestination, ...], dict[str, Any]]:
    route, action = bound.route, bound.route.action
    details: dict[str, Any] = {"fault": _fault_dict(bound)}
    details["headers"] = _headers_dict(route.request_headers, route.response_headers)
    if isinstance(action, Redirect):
        reply = redirect_reply(action, route, request)
        details["redirect"] = {"status": reply.status, "location": dict(reply.headers)[b"location"].decode("latin-1")}
        return "redirect", "", (), details
    if isinstance(action, DirectResponse):
        details["direct_response"] = {"status": action.status, "body": action.body.decode("utf-8", "replace")}
        return "direct_response", "", (), details
    total = sum(weighted.weight for weighted in action.clusters)
    destinations = tuple(
        _destination(prepared, weighted.cluster, 100 * weighted.weight / total) for weighted in action.clusters
    )
    details.update(_forward_dict(prepared, action, bound, request))
    flag = ""
    if any(not destination.exists for destination in destinations):
        flag = "NC"
    elif not any(destination.endpoints for destination in destinations):
        flag = "UH"
    return "route", flag, destinations, details


def _destination(prepared: Prepared, name: str, weight: float) -> DecisionDestination:
    _, port, subset, host = name.split("|")
    cluster = prepared.cluster(name)
    if cluster is None:
        return DecisionDestination(host, subset, int(port), weight, name, (), "", "DISABLE", False)
    usable = [state.key for state in cluster.members if cluster.in_panic or is_healthy(state)]
    left_out = [
        (s.key, "ejected" if s.ejected_at is not None else f"health {s.endpoint.health.value}")
        for s in cluster.members
        if s.key not in usable
    ]
    settings = cluster.cluster
    return DecisionDestination(
        host,
        subset,
        int(port),
        weight,
        name,
        tuple(usable),
        settings.load_balancer.kind.value,
        settings.tls.mode.value,
        True,
        tuple(left_out),
    )


def _forward_dict(prepared: Prepared, action: Forward, bound: BoundRoute, request: Request) -> dict[str, Any]:
    retry = action.retry
    path, _, query = request.path.partition("?")
    rewritten = path_after(action.path_rewrite, action.regex_rewrite, bound.route, path)
    target = rewritten + (f"?{query}" if query else "") if rewritten != path else None
    rewrite = {"path": target, "authority": action.host_rewrite} if target or action.host_rewrite else None
    return {
        "rewrite": rewrite,
        "timeout_s": action.timeout,
        "retries": None
        if retry is None
        else {
            "attempts": retry.attempts,
            "per_try_timeout_s": retry.per_try_timeout,
            "retry_on": sorted(retry.retry_on),
            "status_codes": sorted(retry.retriable_status_codes),
        },
        "mirrors": [_mirror_dict(mirror.cluster, mirror.parts_per_million) for mirror in action.mirrors],
    }


def _mirror_dict(name: str, parts_per_million: int) -> dict[str, Any]:
    _, port, subset, host = name.split("|")
    assert name == cluster_name(host, int(port), subset)
    return {"host": host, "subset": subset or None, "port": int(port), "percentage": parts_per_million / 10_000}


def _fault_dict(bound: BoundRoute) -> dict[str, Any] | None:
    fault = bound.route.fault
    if fault is None:
        return None
    delay, abort = fault.delay, fault.abort
    return {
        "delay": None
        if delay is None
        else {"percentage": delay.parts_per_million / 10_000, "fixed_delay_s": delay.seconds},
        "abort": None
        if abort is None
        else {
            "percentage": abort.parts_per_million / 10_000,
            "http_status": abort.http_status,
            "grpc_status": abort.grpc_status,
        },
    }


def _headers_dict(request: HeaderOps, response: HeaderOps) -> dict[str, Any]:
    return {
        side: {"set": dict(ops.set), "add": dict(ops.add), "remove": list(ops.remove)}
        for side, ops in (("request", request), ("response", response))
    }
