"""What would happen to a request, and why: the live matchers asked one by one, nothing drawn, nothing counted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.decision import MATCHES, Decision, DecisionDestination, RuleVerdict, headers_dict
from meshlib.dataplane.matchers import Clause
from meshlib.dataplane.path import may_change, normalize_path
from meshlib.dataplane.policies.fault import possible
from meshlib.dataplane.policies.hash_key import Maker, hash_key
from meshlib.dataplane.prepared import Prepared, PreparedHost
from meshlib.dataplane.reply import LocalReply, redirect_reply
from meshlib.dataplane.request import Request
from meshlib.dataplane.standing import destination_of
from meshlib.model.cluster import parse_cluster_name
from meshlib.model.informed import BUILT_IN
from meshlib.model.policy import Fault, RetryPolicy
from meshlib.model.route import Cors, DirectResponse, Forward, Redirect, Route, SkippedRule
from meshlib.model.snapshot import OutboundPolicy

__all__ = ["NEVER", "Decision", "DecisionDestination", "decide", "explain", "label", "left_aside", "unknown"]

NEVER = float("-inf")
"""A moment at which no sweep is due and no ejection can be timed."""


def explain(prepared: Prepared, request: Request, now: float = NEVER) -> Decision:
    """The decision that a live call at ``now`` would take, but for its draws."""
    host = prepared.host_of(request)
    by_address = host is not None and host is prepared.host(request.dialled, request.port)
    name = request.dialled if by_address else request.host
    why_host = prepared.snapshot.host_reasons(name, request.port)
    if host is None:
        return unknown(prepared, request, why_host)
    if may_change(request.path):
        request.path = normalize_path(request.path, prepared.snapshot.path_normalization)
    chosen, rules = _match(host, request)
    if chosen is None:
        return Decision(
            "none",
            host.host.name,
            request.port,
            "NR",
            host.host.virtual_service,
            rules=tuple(rules),
            reasons=(*map(str, rules), "no rule matches"),
            host_reasons=why_host,
            resource=" and ".join(host.host.objects),
        )
    return decide(prepared, host, chosen, request, now, rules, why_host)


class _Never(random.Random):
    """A draw that is always zero: any share above none counts as possible."""

    def random(self) -> float:
        return 0.0


_NEVER = _Never()


def unknown(prepared: Prepared, request: Request, why_host: tuple[str, ...]) -> Decision:
    """The decision about a host that the mesh does not know."""
    refused = prepared.snapshot.outbound_policy is OutboundPolicy.REGISTRY_ONLY
    what = "and the mesh is REGISTRY_ONLY" if refused else "and goes straight to its address (ALLOW_ANY)"
    reason = f"the host is not known on port {request.port}, {what}"
    action, flag = ("none", "NR") if refused else ("passthrough", "")
    return Decision(action, request.host, request.port, flag, reasons=(reason,), host_reasons=why_host)


# Rules --------------------------------------------------------------------------------------------------------------


def _match(host: PreparedHost, request: Request) -> tuple[BoundRoute | None, list[RuleVerdict]]:
    """The first rule that matches, and a verdict on every rule that was tried or could not be, in their order."""
    rng, verdicts, skipped = _NEVER, [], list(host.host.skipped)
    for route in host.routes:
        origin = route.route.origin
        while skipped and not skipped[0].object and _place(skipped[0]) < (origin.rule, origin.match or 0):
            verdicts.append(left_aside(skipped.pop(0)))
        failed = next((clause for clause in route.clauses if not clause.test(request, rng)), None)
        if failed is None:
            verdicts.append(RuleVerdict(label(route.route), MATCHES))
            return route, [*verdicts, *map(left_aside, skipped)]
        verdicts.append(RuleVerdict(label(route.route), _failure(failed, request)))
    return None, [*verdicts, *map(left_aside, skipped)]


def _failure(clause: Clause, request: Request) -> str:
    """``header end-user is absent, wanted exact 'jason'``: the subject is said once."""
    saw = clause.saw(request)
    subject = saw.partition(" is ")[0]
    return f"{saw}, wanted {clause.wants.removeprefix(subject + ' ')}"


def _place(rule: SkippedRule) -> tuple[int, int]:
    return (rule.rule, rule.match or 0)


def left_aside(rule: SkippedRule) -> RuleVerdict:
    """The verdict on a rule that can never hold for this client and port."""
    owner = f"{rule.object} " if rule.object else ""
    return RuleVerdict(f"{owner}rule {rule.rule}{_numbered(rule.match)}{_named(rule.name)}", rule.reason, tried=False)


def label(route: Route) -> str:
    """``rule 0 ('jason')``, with the object where rules of several may stand side by side; or ``default route``."""
    origin = route.origin
    if origin.rule < 0:
        return "default route"
    owner = "" if origin.object.startswith("VirtualService ") else f"{origin.object} ".lstrip()
    return f"{owner}rule {origin.rule}{_numbered(origin.match)}{_named(route.name)}"


def _numbered(number: int | None) -> str:
    return f".{number}" if number else ""


def _named(name: str) -> str:
    return f" ({name!r})" if name else ""


# The decision -------------------------------------------------------------------------------------------------------


def decide(
    prepared: Prepared,
    host: PreparedHost,
    bound: BoundRoute,
    request: Request,
    now: float,
    rules: list[RuleVerdict],
    why_host: tuple[str, ...],
) -> Decision:
    """What the rule in force does, value by value."""
    route, origin = bound.route, bound.route.origin
    faults = [_fault_dict(fault) for fault in possible(bound.faults, request, _clusters(bound))]
    details: dict[str, Any] = {
        "fault": faults[0] if faults else None,
        "further_faults": faults[1:],
        "cors": _cors_dict(route.cors),
        "headers": headers_dict(route.request_headers, route.response_headers),
    }
    destinations: tuple[DecisionDestination, ...] = ()
    action, flag = "route", ""
    preflight = bound.cors.preflight(request) if bound.cors is not None else None
    if preflight is not None:
        action = "direct_response"
        details["direct_response"] = {"status": preflight.status, "body": ""}
    elif isinstance(route.action, Redirect):
        action = "redirect"
        reply = redirect_reply(route.action, bound.path_rewrite, request)
        details["redirect"] = {"status": reply.status, "location": dict(reply.headers)[b"location"].decode("latin-1")}
    elif isinstance(route.action, DirectResponse):
        action = "direct_response"
        body = route.action.body.decode("utf-8", "replace")
        details["direct_response"] = {"status": route.action.status, "body": body}
    else:
        fixed, details["hash_key"] = _hash_key(bound, request)
        details["sticky_weights"] = _sticky_weights(bound, request)
        destinations = tuple(
            destination_of(prepared, bound, number, weighted, request, now, fixed)
            for number, weighted in enumerate(route.action.clusters)
        )
        details.update(_forward_dict(prepared, route.action, bound, request))
        flag = _flag(destinations)
    origins = _origins(prepared, bound, destinations)
    return Decision(
        action,
        host.host.name,
        request.port,
        flag,
        host.host.virtual_service,
        {"index": origin.rule, "match": origin.match, "name": route.name} if origin.rule >= 0 else None,
        destinations,
        details,
        tuple(rules),
        (
            *map(str, rules),
            *origin.notes,
            *_preflight(preflight),
            *_remarks(bound, destinations, faults),
            *_lines(origins),
        ),
        why_host,
        origins,
        _resource(host, bound),
    )


def _resource(host: PreparedHost, bound: BoundRoute) -> str:
    return f"VirtualService {host.host.virtual_service}" if host.host.virtual_service else bound.route.origin.object


def _flag(destinations: tuple[DecisionDestination, ...]) -> str:
    if any(not destination.exists for destination in destinations):
        return "NC"
    if any(destination.live.get("breaker") for destination in destinations):
        return "UO"
    return "" if any(destination.endpoints for destination in destinations) else "UH"


def _origins(prepared: Prepared, bound: BoundRoute, destinations: tuple[DecisionDestination, ...]) -> dict[str, str]:
    """Where each value came from; the policies of several destinations are told apart by cluster."""
    found = dict(bound.route.origin.values)
    several = len(destinations) > 1
    for destination in destinations:
        cluster = prepared.snapshot.cluster(destination.cluster)
        suffix = f" of {destination.subset or destination.host}" if several else ""
        for name, where in cluster.origins if cluster is not None else ():
            found[f"{name}{suffix}"] = where
    return found


def _lines(origins: dict[str, str]) -> Iterator[str]:
    return (f"{name}: {where}" for name, where in origins.items() if where != BUILT_IN)


def _preflight(reply: LocalReply | None) -> tuple[str, ...]:
    return () if reply is None else ("it is a cross-origin preflight, which the rule's corsPolicy answers here",)


def _clusters(bound: BoundRoute) -> frozenset[str]:
    return frozenset(destination.name for destination in bound.destinations)


def _remarks(
    bound: BoundRoute, destinations: tuple[DecisionDestination, ...], faults: list[dict[str, Any]]
) -> Iterator[str]:
    """What a reader might overlook."""
    for fault in faults:
        if fault["abort"] is not None and fault["abort"]["percentage"]:
            yield f"{fault['abort']['percentage']:g}% of such requests are answered here by the injected abort"
    for destination in destinations:
        share, name = f"{destination.weight:g}%", destination.cluster
        if not destination.exists:
            yield f"cluster {name} does not exist: {share} of such requests {_missing(bound)}"
        elif not destination.endpoints:
            yield f"cluster {name} has no endpoint to pick: {share} of such requests fail with UH"
        elif destination.live.get("full"):
            yield f"cluster {name} is full, {destination.live['requests']} are under way: one more fails with UO"
        elif destination.live.get("breaker"):
            yield f"cluster {name}: {destination.live['breaker']}: {share} of such requests fail with UO"
        elif destination.live.get("panic"):
            yield f"cluster {name} panics: too few endpoints are healthy, so all of them are used"
        yield from (f"endpoint {key} is left out: {why}" for key, why in destination.left_out)


def _missing(bound: BoundRoute) -> str:
    action = bound.route.action
    answer = action.missing_cluster if isinstance(action, Forward) else None
    return "fail with NC" if answer is None else f"are answered with {answer.status}"


# Values -------------------------------------------------------------------------------------------------------------


def _hash_key(bound: BoundRoute, request: Request) -> tuple[int | None, dict[str, Any] | None]:
    """The key that the request fixes, None where it is made up or absent; and what to tell about it."""
    if not bound.hash_keys:
        return None, None
    key = hash_key(bound.hash_keys, request, Maker(_NEVER))
    fixed = key.value if not key.cookies else None
    sources = [{"source": each.source, "name": each.name} for each in bound.hash_keys]
    return fixed, {"sources": sources, "value": None if fixed is None else str(fixed), "generated": bool(key.cookies)}


def _sticky_weights(bound: BoundRoute, request: Request) -> dict[str, Any] | None:
    """What the weighted destinations are drawn by, and the one that the request's key stays with."""
    if not bound.weight_keys:
        return None
    key = hash_key(bound.weight_keys, request, Maker(_NEVER))
    fixed = key.value if not key.cookies else None
    sources = [{"source": each.source, "name": each.name} for each in bound.weight_keys]
    return {"sources": sources, "cluster": None if fixed is None else bound.owner(fixed).name}


def _forward_dict(prepared: Prepared, action: Forward, bound: BoundRoute, request: Request) -> dict[str, Any]:
    asked = bound.asked_by(request)
    path, _, query = request.path.partition("?")
    rewritten = bound.path_rewrite(path) if bound.path_rewrite is not None else path
    target = rewritten + (f"?{query}" if query else "") if rewritten != path else None
    rewrite = {"path": target, "authority": action.host_rewrite} if target or action.host_rewrite else None
    return {
        "rewrite": rewrite,
        "timeout_s": asked.timeout,
        "retries": _retries_dict(asked.retry.policy if asked.retry is not None else None),
        "mirrors": [_mirror_dict(prepared, mirror.cluster, mirror.parts_per_million) for mirror in action.mirrors],
    }


def _retries_dict(retry: RetryPolicy | None) -> dict[str, Any] | None:
    if retry is None:
        return None
    return {
        "attempts": retry.attempts,
        "per_try_timeout_s": retry.per_try_timeout,
        "retry_on": sorted(retry.retry_on),
        "status_codes": sorted(retry.retriable_status_codes),
        "backoff_s": {"base": retry.base, "cap": retry.cap},
        "avoid_previous_hosts": retry.avoid_previous_hosts,
        "remote_localities": retry.remote_localities,
    }


def _mirror_dict(prepared: Prepared, name: str, parts_per_million: int) -> dict[str, Any]:
    parts = parse_cluster_name(name)
    return {
        "host": parts.host,
        "subset": parts.subset or None,
        "port": parts.port,
        "percentage": parts_per_million / 10_000,
        "exists": prepared.snapshot.cluster(name) is not None,
    }


def _cors_dict(cors: Cors | None) -> dict[str, Any] | None:
    """In Istio's words; what a browser would be told."""
    if cors is None:
        return None
    return {
        "allow_origins": [f"{origin.kind.value} {origin.value}" for origin in cors.allow_origins],
        "allow_methods": cors.allow_methods,
        "allow_headers": cors.allow_headers,
        "expose_headers": cors.expose_headers,
        "max_age_s": cors.max_age,
        "allow_credentials": cors.allow_credentials,
        "unmatched_preflights": "FORWARD" if cors.forward_unmatched else "IGNORE",
    }


def _fault_dict(fault: Fault) -> dict[str, Any]:
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
