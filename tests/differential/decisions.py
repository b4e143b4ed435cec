"""The same request decided twice, in one form that can be compared."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane import router
from meshlib.dataplane.call import Call
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.path import normalize_path
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request, is_grpc
from meshlib.dataplane.state import State
from meshlib.errors import MeshError
from meshlib.model.snapshot import Client
from meshlib.providers.base import Facts
from tests.differential.configurations import LABELS, World
from tests.differential.proxy import MARKS, Proxy
from tests.differential.requests import Asked
from tests.differential.upstream import HEADERS

__all__ = ["Decision", "Ours", "differences", "theirs"]

FRAMING = {"connection", "transfer-encoding", "content-length"}
HOP = {"x-forwarded-proto", "x-envoy-internal", "grpc-timeout", *FRAMING}
"""On requests: what a proxy says of its own hop, what gRFC A31 says otherwise, and framing."""
PROXY = {"date", "server", "x-envoy-upstream-service-time", *FRAMING, *MARKS}
"""On responses: what a proxy says of itself, and framing."""


@dataclass
class Decision:
    """What became of a request.

    Attributes:
        cluster: Where it was sent, None when it was answered here.
        route: Name of the rule.
        flags: For the reader of a difference only.
        sent: Method, target and headers that reached the upstream.
        status: Of the answer.
        headers: Of the answer, lower-case name -> values in order.
        body: Of an answer made here.
        raised: Whether meshlib raises where the sidecar answers: then the status is all there is.
    """

    cluster: str | None = None
    route: str = ""
    flags: str = ""
    sent: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: str = ""
    raised: bool = False


class Ours:
    """What meshlib decides in one world, by the code that routes live calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        client = Client(world.namespace, LABELS)
        policy = {"mode": "REGISTRY_ONLY" if world.registry_only else "ALLOW_ANY"}
        mesh = MeshConfig.model_validate({"outboundTrafficPolicy": policy, "enableAutoMtls": False})
        feed = Feed(1, Options(client, mesh))
        loaded = [load_dict(value) for value in world.objects]
        resources = tuple(resource for each in loaded for resource in each.resources)
        feed.take(0, Facts(resources, tuple(problem for each in loaded for problem in each.problems)))
        snapshot = feed.publish()
        assert snapshot is not None
        self.snapshot = snapshot
        self.problems = feed.problems
        self.prepared = Prepared(self.snapshot, State(), 0.0, random.Random(0))

    def decisions(self, asked: Asked) -> list[Decision]:
        """What may happen: one decision for each destination that the draw may choose."""
        return [self._decide(asked, _Draw(draw)) for draw in self._draws(asked)]

    def _request(self, asked: Asked) -> Request:
        raw = [(name.encode(), value.encode()) for name, value in asked.lines]
        content_type = next((v.encode() for n, v in asked.headers if n.lower() == "content-type"), b"")
        path = normalize_path(asked.target)  # so that the draws are those of the rule that will be found
        return Request(asked.method, "http", asked.authority, asked.port, path, raw, is_grpc=is_grpc(content_type))

    def _draws(self, asked: Asked) -> list[float]:
        request = self._request(asked)
        host = self.prepared.host(request.host, request.port)
        bound = host.find(request, _Draw(0.0)) if host is not None else None
        weights = [destination.weight for destination in bound.destinations] if bound is not None else []
        return [(sum(weights[:n]) + weights[n] / 2) / sum(weights) for n in range(len(weights))] or [0.0]

    def _decide(self, asked: Asked, rng: random.Random) -> Decision:
        try:
            call = router.begin(self.prepared, self._request(asked), 0.0, rng)
        except MeshError as error:
            return Decision(route=error.route or "", status=error.status, flags=error.flag, raised=True)
        if call is None:
            return Decision("PassthroughCluster", "allow_any")
        assert call.route is not None
        made = Decision(route=call.route.name, flags=call.flags)
        if call.answer is not None:
            made.status, made.body = call.answer.status, call.answer.body.decode()
            made.headers = _by_name(_text(call.response_headers(call.answer.headers)), PROXY)
            return made
        return self._sent(call, asked, made)

    def _sent(self, call: Call, asked: Asked, made: Decision) -> Decision:
        assert call.cluster is not None
        made.cluster = call.cluster.name
        try:
            attempt = call.next_attempt(0.0)
        except MeshError as error:
            return Decision(None, made.route, error.flag, status=error.status, raised=True)
        target, headers = call.head(attempt)
        made.sent = {"port": attempt.endpoint.port, "method": asked.method, "target": target}
        made.sent["headers"] = _by_name(_text(headers), HOP)
        made.status = 200
        call.settle(attempt, Outcome.of_status(200), 0.0)
        answered = [(name.encode(), value.encode()) for name, value in HEADERS]
        made.headers = _by_name(_text(call.response_headers(answered)), PROXY)
        return made


class _Draw(random.Random):
    """Always the same draw."""

    def __init__(self, value: float) -> None:
        super().__init__(1)
        self._value = value

    def random(self) -> float:
        return self._value


def theirs(proxy: Proxy, asked: Asked) -> Decision:
    """What Envoy decides, as told by its marks and by the upstream."""
    status, headers, body = proxy.ask(asked.port, asked.method, asked.target, asked.lines)
    marks = {name.lower(): value for name, value in headers if name.lower() in MARKS}
    made = Decision(status=status, flags=marks.get("x-mark-flags", "-"), route=marks.get("x-mark-route", ""))
    made.headers = _by_name(headers, PROXY)
    if marks.get("x-mark-host", "-") == "-":
        made.body = body.decode()
        return made
    made.cluster = marks["x-mark-cluster"]
    if asked.method != "HEAD" and body.startswith(b"{") and status == 200:
        seen = json.loads(body)
        made.sent = {"port": seen["port"], "method": seen["method"], "target": seen["target"]}
        made.sent["headers"] = _by_name([tuple(pair) for pair in seen["headers"]], HOP)
    return made


def _text(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _by_name(headers: list[tuple[str, str]], without: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in without:
            found.setdefault(name.lower(), []).append(value)
    return found


def differences(ours: list[Decision], envoy: Decision) -> tuple[Decision, list[str]]:
    """The decision of ours that comes closest, and where it differs in words; nothing when they agree."""
    return min(((each, _differences(each, envoy)) for each in ours), key=lambda pair: len(pair[1]))


def _differences(ours: Decision, envoy: Decision) -> list[str]:
    if ours.cluster == envoy.cluster == "PassthroughCluster" or _raised_for_grpc(ours, envoy):
        return []
    if ours.cluster != envoy.cluster:
        return [f"cluster: meshlib {ours.cluster!r}, Envoy {envoy.cluster!r}", *["and all that follows"] * 99]
    if ours.status != envoy.status:
        return [f"status: meshlib {ours.status!r}, Envoy {envoy.status!r}", *["and all that follows"] * 9]
    if ours.raised:
        return []
    found = [*_sent_differently(ours, envoy), *_unlike("response header", ours.headers, envoy.headers)]
    if ours.cluster is None and ours.body != envoy.body:
        found.append(f"body: meshlib {ours.body!r}, Envoy {envoy.body!r}")
    return found


SLOW = 250
"""Milliseconds that a busy machine may take from a timeout before Envoy tells the rest of it."""

_GRPC_STATUS = {404: "12", 502: "14", 503: "14", 504: "14"}
"""What Envoy makes of an HTTP status for a gRPC caller."""


def _raised_for_grpc(ours: Decision, envoy: Decision) -> bool:
    return ours.raised and envoy.headers.get("grpc-status") == [_GRPC_STATUS.get(ours.status)]


def _sent_differently(ours: Decision, envoy: Decision) -> list[str]:
    if not envoy.sent:
        return []
    mine, other = dict(ours.sent), dict(envoy.sent)
    found = _unlike("request header", mine.pop("headers"), other.pop("headers"))
    del mine["port"], other["port"]
    return found + [f"{key}: meshlib {mine[key]!r}, Envoy {other[key]!r}" for key in mine if mine[key] != other[key]]


def _unlike(what: str, mine: dict[str, list[str]], other: dict[str, list[str]]) -> list[str]:
    found = []
    for name in sorted(mine.keys() | other.keys()):
        one, two = mine.get(name, []), other.get(name, [])
        if name == "x-request-id":
            one, two = [str(len(one))], [str(len(two))]
        if name == "x-envoy-expected-rq-timeout-ms" and one and two and 0 <= int(one[0]) - int(two[0]) < SLOW:
            continue
        if one != two:
            found.append(f"{what} {name}: meshlib {one}, Envoy {two}")
    return found
