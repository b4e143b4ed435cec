"""What a decision does to a request, without the names of the rules and objects that made it so.

Two decisions with equal effects treat a request alike: a renamed VirtualService, a rule that moved, or the same value
set elsewhere is no difference here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.dataplane.decision import Decision, DecisionDestination, headers_dict

__all__ = ["NO_ROUTE", "PASSTHROUGH", "Effects", "effects", "failing", "moves"]

Effects = dict[str, Any]
"""Aspect -> plain value; ``shares`` is place -> percent."""

NO_ROUTE = "no route"
PASSTHROUGH = "straight to its address"
NO_ENDPOINT = " (no endpoint)"
NO_CLUSTER = " (does not exist)"
_NOTHING = 1e-6
_DERIVED = frozenset({"x-envoy-expected-rq-timeout-ms", "x-envoy-original-host", "x-envoy-original-path"})
"""Headers that repeat the timeout, the host and the path."""


def effects(decision: Decision) -> Effects:
    """All that happens to such a request."""
    details = decision.details
    return {
        "shares": _shares(decision),
        "redirect": details.get("redirect"),
        "direct_response": details.get("direct_response"),
        "timeout_s": details.get("timeout_s"),
        "retries": details.get("retries"),
        "delay": _delays(details),
        "cors": details.get("cors"),
        "mirrors": details.get("mirrors") or [],
        "head": _by_cluster(decision, _head),
        "response_headers": _by_cluster(decision, _response) or _said((details.get("headers") or {}).get("response")),
        "hash_key": (details.get("hash_key") or {}).get("sources"),
        "endpoints": _by_cluster(decision, _endpoints),
        "policy": _by_cluster(decision, _policy),
        "twins": _twins(decision),
    }


def _delays(details: Mapping[str, Any]) -> Any:
    """The injected delay; of several fault filters all of them."""
    faults = [details.get("fault"), *details.get("further_faults", ())]
    found = [fault["delay"] for fault in faults if fault and fault["delay"] and fault["delay"]["percentage"]]
    return found[0] if len(found) == 1 else found or None


def _shares(decision: Decision) -> dict[str, float]:
    """Place -> percent of such requests; an injected abort takes its share before the rest."""
    found: dict[str, float] = {}
    left = 100.0
    for abort in decision.aborts():
        code = abort["http_status"] if abort["http_status"] is not None else f"gRPC {abort['grpc_status']}"
        place, percent = f"injected abort {code}", left * abort["percentage"] / 100
        found[place] = found.get(place, 0.0) + percent
        left -= percent
    for place, percent in _places(decision):
        found[place] = found.get(place, 0.0) + percent * left / 100
    return {place: round(percent, 6) for place, percent in found.items() if percent}


def _places(decision: Decision) -> Iterator[tuple[str, float]]:
    if decision.action == "none":
        yield NO_ROUTE, 100.0
    elif decision.action == "passthrough":
        yield PASSTHROUGH, 100.0
    elif decision.action == "redirect":
        yield f"answer {decision.details['redirect']['status']}", 100.0
    elif decision.action == "direct_response":
        yield f"answer {decision.details['direct_response']['status']}", 100.0
    for destination in decision.destinations:
        state = NO_CLUSTER if not destination.exists else "" if destination.endpoints else NO_ENDPOINT
        yield destination.cluster + state, destination.weight


def _by_cluster(decision: Decision, ask: Any) -> dict[str, Any]:
    """Cluster -> what ``ask`` says; two destinations of one cluster stand side by side."""
    found: dict[str, Any] = {}
    for destination in decision.destinations:
        value = ask(decision, destination)
        if value is not None:
            key = destination.cluster
            while key in found and found[key] != value:
                key += " again"
            found[key] = value
    return found


def _twins(decision: Decision) -> list[Any]:
    """Destinations of one cluster that are sent different heads: their shares among themselves."""
    clusters = [destination.cluster for destination in decision.destinations]
    found = [
        [each.cluster, round(each.weight, 6), _head(decision, each), _response(decision, each)]
        for each in decision.destinations
        if clusters.count(each.cluster) > 1
    ]
    return sorted(found, key=str)


def _head(decision: Decision, destination: DecisionDestination) -> Any:
    sent = destination.sends
    if sent is None:
        return None
    changed = {name: value for name, value in sent.changed.items() if name not in _DERIVED}
    return {"path": sent.path, "authority": sent.authority, "changed": changed}


def _response(decision: Decision, destination: DecisionDestination) -> Any:
    own = _said(headers_dict(destination.request_headers, destination.response_headers)["response"])
    whole = _said((decision.details.get("headers") or {}).get("response"))
    return {"destination": own, "rule": whole} if own else whole


def _said(operations: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Header operations that do anything."""
    return operations if operations and any(operations.values()) else None


def _endpoints(decision: Decision, destination: DecisionDestination) -> Any:
    split = [dict(level) for level in destination.priorities if level["percent"]]
    return {"endpoints": sorted(destination.endpoints), "split": split} if destination.exists else None


def _policy(decision: Decision, destination: DecisionDestination) -> Any:
    values = {value.field: value.value for value in destination.policy}
    return {**values, "algorithm": destination.load_balancer, "tls": destination.tls} if destination.exists else None


# Shares -------------------------------------------------------------------------------------------------------------


def moves(old: Mapping[str, float], new: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """(from, to, percent): the least traffic that has to move to turn one distribution into the other."""
    lost = {place: share - new.get(place, 0.0) for place, share in old.items() if share > new.get(place, 0.0)}
    found: list[tuple[str, str, float]] = []
    for place, share in new.items():
        wanted = share - old.get(place, 0.0)
        for source, left in lost.items():
            taken = min(wanted, left)
            if taken > _NOTHING:
                found.append((source, place, round(taken, 4)))
                lost[source] -= taken
                wanted -= taken
    return found


def failing(shares: Mapping[str, float]) -> float:
    """Percent of the requests that reach nobody and are not answered by the configuration."""
    return sum(
        share for place, share in shares.items() if place == NO_ROUTE or place.endswith((NO_CLUSTER, NO_ENDPOINT))
    )
