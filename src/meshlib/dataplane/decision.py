"""What ``explain`` answers: the decision about one request as a value, with its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from meshlib.model.informed import PolicyValue
from meshlib.model.route import NO_HEADERS, HeaderOps

__all__ = ["MATCHES", "Decision", "DecisionDestination", "RuleVerdict", "Sent", "headers_dict"]

MATCHES = "matches"


class RuleVerdict(NamedTuple):
    """What became of one rule.

    Attributes:
        rule: ``rule 0 ('jason')``; further matches of a rule are ``rule 0.1``.
        verdict: Why it does not hold, or ``matches``.
        tried: False for a rule that can never hold for this client and port.
    """

    rule: str
    verdict: str
    tried: bool = True

    @property
    def matches(self) -> bool:
        """Whether it is the rule in force."""
        return self.tried and self.verdict == MATCHES

    def __str__(self) -> str:
        """One line."""
        return f"{self.rule}: {self.verdict}"


class Sent(NamedTuple):
    """The head of what a destination is sent.

    Attributes:
        path: Path and query.
        authority: The Host header.
        headers: All headers, names as sent; a request id that would be made up is left out.
        changed: Name -> new value, None for a header that is taken away.
    """

    path: str
    authority: str
    headers: tuple[tuple[str, str], ...]
    changed: Mapping[str, str | None]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"path": self.path, "authority": self.authority, "changed": dict(self.changed)}


@dataclass(frozen=True, slots=True)
class DecisionDestination:
    """Where a share of such requests goes.

    Attributes:
        weight: Percent of the whole, after normalisation to 100.
        endpoints: Those that the first pick may take now.
        load_balancer: Algorithm, in Istio's words.
        tls: Mode.
        exists: False where host, port or subset are unknown.
        left_out: Endpoint -> why it is not picked.
        priorities: Number, percent of the traffic, panic, and localities with their share of it.
        sends: Head of the request as it leaves.
        request_headers: Operations of this destination alone.
        response_headers: The same on the way back.
        policy: Every value of the traffic policy with its origin.
        live: Counters, thresholds and ejections of now.
    """

    host: str
    subset: str
    port: int
    weight: float
    cluster: str
    endpoints: tuple[str, ...] = ()
    load_balancer: str = ""
    tls: str = "DISABLE"
    exists: bool = True
    left_out: tuple[tuple[str, str], ...] = ()
    priorities: tuple[Mapping[str, Any], ...] = ()
    sends: Sent | None = None
    request_headers: HeaderOps = NO_HEADERS
    response_headers: HeaderOps = NO_HEADERS
    policy: tuple[PolicyValue, ...] = ()
    live: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "host": self.host,
            "subset": self.subset,
            "port": self.port,
            "weight": int(self.weight) if self.weight == int(self.weight) else round(self.weight, 4),
            "cluster": self.cluster,
            "endpoints": list(self.endpoints),
            "load_balancer": self.load_balancer,
            "tls": {"mode": self.tls},
            "exists": self.exists,
            "left_out": dict(self.left_out),
            "priorities": [dict(each) for each in self.priorities],
            "sends": self.sends.to_dict() if self.sends is not None else None,
            "headers": headers_dict(self.request_headers, self.response_headers),
            "policy": [value._asdict() for value in self.policy],
            "live": dict(self.live),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The routing decision about one request.

    Attributes:
        action: ``route``, ``redirect``, ``direct_response``, ``passthrough`` or ``none``.
        flag: Envoy's response flag where the request would fail (``NR``, ``NC``, ``UH``), else ``""``.
        host: Full name of the host.
        port: Port that was addressed.
        virtual_service: ``namespace/name``, None for a Gateway API route and when only the default route applies.
        route: Index, match and name of the rule; None for a default route.
        destinations: Where shares of such requests go.
        details: The rest of the JSON, by its keys: rewrite, headers, timeout, retries, fault and kin.
        rules: Every rule tried and the first clause that failed, ``matches`` for the one in force, and rules that could
            not be tried and why; in the order of the object.
        reasons: The same as lines; then what else decided, and where each value came from.
        host_reasons: Why this VirtualService and no other, or why the host is unknown.
        origins: Field -> object and field that its value came from; ``built-in`` for Istio's own.
        resource: The object whose rule decides, for example ``HTTPRoute default/reviews``; all of them when none of
            their rules matches, ``""`` when only the default route applies.
    """

    action: str
    host: str
    port: int
    flag: str = ""
    virtual_service: str | None = None
    route: dict[str, Any] | None = None
    destinations: tuple[DecisionDestination, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    rules: tuple[RuleVerdict, ...] = ()
    reasons: tuple[str, ...] = ()
    host_reasons: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    resource: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``meshlib explain``."""
        return {
            "host": self.host,
            "port": self.port,
            "virtual_service": self.virtual_service,
            "resource": self.resource or None,
            "route": self.route,
            "action": self.action,
            "flag": self.flag or None,
            "destinations": [destination.to_dict() for destination in self.destinations],
            **_empty(),
            **self.details,
            "rules": [verdict._asdict() for verdict in self.rules],
            "reasons": list(self.reasons),
            "host_reasons": list(self.host_reasons),
            "origins": dict(self.origins),
        }

    def aborts(self) -> list[dict[str, Any]]:
        """The injected aborts that such a request may meet, in their order."""
        faults = [self.details.get("fault"), *self.details.get("further_faults", ())]
        return [fault["abort"] for fault in faults if fault and fault["abort"]]

    def reachable(self) -> frozenset[tuple[str, str]]:
        """Every (cluster, endpoint) that the first attempt of such a request can meet."""
        if any(abort["percentage"] >= 100 for abort in self.aborts()):
            return frozenset()
        return frozenset((each.cluster, key) for each in self.destinations for key in each.endpoints)


def headers_dict(request: HeaderOps, response: HeaderOps) -> dict[str, Any]:
    """Header operations in the form of the JSON."""
    return {
        side: {"set": dict(ops.set), "add": dict(ops.add), "remove": list(ops.remove)}
        for side, ops in (("request", request), ("response", response))
    }


def _empty() -> dict[str, Any]:
    return {
        "rewrite": None,
        "headers": headers_dict(NO_HEADERS, NO_HEADERS),
        "timeout_s": None,
        "retries": None,
        "fault": None,
        "cors": None,
        "further_faults": [],
        "mirrors": [],
        "redirect": None,
        "direct_response": None,
        "hash_key": None,
        "sticky_weights": None,
    }
