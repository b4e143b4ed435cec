"""How often a failing server is asked, and what the caller gets in the end: live calls against a real Envoy.

One service, a rule for each retry policy; each pair scripts what the server does to one call after the other.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("envoy.config.route.v3", reason="xds-protos is not installed: pip install 'meshlib[test]'")

import httpx

from meshlib.errors import DeadlineExceeded
from meshlib.httpx import MeshTransport
from meshlib.mesh import Mesh
from meshlib.model.domains import RouteTable
from meshlib.xds import encode
from tests.differential.proxy import Proxy
from tests.differential.upstream import Upstream
from tests.envoy import ABSENT, ENVOY

pytestmark = pytest.mark.skipif(ENVOY is None, reason=ABSENT)

SEED = int(os.environ.get("MESHLIB_DIFFERENTIAL_SEED", "20"))
POLICIES = 24
PAIRS = 240
HANGING = 12
STATUSES = [200, 200, 500, 502, 503, 504, 409, 429, 404, 0]
WORDS = ["5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream", "retriable-4xx"]
HOST = "a.ns.svc.cluster.local"


@dataclass
class Pair:
    """A policy and what the server does, attempt by attempt."""

    policy: int
    steps: list[int]
    method: str


def policies(rng: random.Random) -> list[dict[str, Any] | None]:
    """Retry policies of rules; None has Istio's own."""
    found: list[dict[str, Any] | None] = [None, {"attempts": 0}]
    while len(found) < POLICIES:
        policy: dict[str, Any] = {"attempts": rng.randint(1, 4), "backoff": "1ms"}
        if rng.random() < 0.85:
            words = rng.sample(WORDS, rng.choice([1, 1, 2]))
            codes = rng.sample(["503", "429", "404"], rng.choice([0, 0, 1]))
            policy["retryOn"] = ",".join([*words, *codes])
        if rng.random() < 0.5:
            policy["perTryTimeout"] = "600ms"
        found.append(policy)
    return found


def objects(retries: list[dict[str, Any] | None], ports: list[int]) -> list[dict[str, Any]]:
    def rule(number: int, policy: dict[str, Any] | None) -> dict[str, Any]:
        made = {
            "match": [{"headers": {"x-policy": {"exact": str(number)}}}],
            "route": [{"destination": {"host": "a"}}],
            "timeout": "2.1s",
        }
        return made if policy is None else {**made, "retries": policy}

    metadata = {"name": "a", "namespace": "ns"}
    labels = {"kubernetes.io/service-name": "a"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": 80}]},
        },
        *(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"a-{port}", "namespace": "ns", "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port}],
                "endpoints": [{"addresses": ["127.0.0.1"]}],
            }
            for port in ports
        ),
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": metadata,
            "spec": {"hosts": ["a"], "http": [rule(*each) for each in enumerate(retries)]},
        },
    ]


def pairs(rng: random.Random) -> list[Pair]:
    made = [
        Pair(rng.randrange(POLICIES), rng.choices(STATUSES, k=rng.randint(1, 5)), rng.choice(["GET", "POST"]))
        for _ in range(PAIRS)
    ]
    for _ in range(HANGING):
        steps = [rng.choice([-1, -1, 503]) for _ in range(rng.randint(1, 3))]
        made.append(Pair(rng.randrange(POLICIES), [*steps, 200], "GET"))
    return made


@dataclass
class Outcome:
    """Attempt counts that the server saw, and the status in the end."""

    attempts: list[str]
    status: int


def ours(client: httpx.Client, upstream: Upstream, pair: Pair, case: str) -> Outcome:
    upstream.failing[case] = list(pair.steps)
    headers = {"x-policy": str(pair.policy), "x-case": case}
    content = b"body" if pair.method == "POST" else None
    try:
        status = client.request(pair.method, f"http://{HOST}/", headers=headers, content=content).status_code
    except DeadlineExceeded:
        status = 504
    except httpx.TransportError:
        status = 503
    return Outcome(upstream.attempts.get(case, []), status)


def envoys(proxy: Proxy, upstream: Upstream, pair: Pair, case: str) -> Outcome:
    upstream.failing[case] = list(pair.steps)
    headers = [("Host", HOST), ("x-policy", str(pair.policy)), ("x-case", case)]
    if pair.method == "POST":
        headers.append(("content-length", "0"))
    status, _, _ = proxy.ask(80, pair.method, "/", headers)
    return Outcome(upstream.attempts.get(case, []), status)


@pytest.mark.timeout(120)
def test_a_failing_server_is_asked_as_often_as_envoy_asks_it():
    rng = random.Random(SEED)
    retries, upstream = policies(rng), Upstream(3)
    mesh = Mesh(
        *objects(retries, upstream.ports), namespace="ns", telemetry=False, mesh_config={"enableAutoMtls": False}
    )
    try:
        mesh.ready()
        snapshot = mesh.snapshot
        found = encode.tables(snapshot, "ns")
        clusters = [
            encode.cluster(each, snapshot.assignment(each.name), inline=True)
            for each in encode.clusters(snapshot, found)
        ]
        (table,) = found
        routes = {80: encode.route_configuration(RouteTable("80", table.hosts))}
        different = []
        with (
            Proxy(routes, clusters) as proxy,
            httpx.Client(transport=MeshTransport(mesh)) as client,
            ThreadPoolExecutor(4) as threads,
        ):

            def both(number: int, pair: Pair) -> tuple[Outcome, Outcome]:
                return ours(client, upstream, pair, f"m{number}"), envoys(proxy, upstream, pair, f"e{number}")

            made = pairs(rng)
            for pair, (mine, other) in zip(made, threads.map(both, range(len(made)), made), strict=True):
                if mine != other:
                    different.append(f"{retries[pair.policy]} {pair}: meshlib {mine}, Envoy {other}")
        assert not different, "\n".join([f"{len(different)} differ:", *different[:20]])
    finally:
        mesh.close()
        upstream.close()
