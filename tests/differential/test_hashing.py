"""Which endpoint a key leads to, and where retries with the same key go: live calls against a real Envoy.

Services over the same servers: ring and Maglev, each with all of them, with one fewer, and with retries that go
elsewhere. By default they stay: Istio asks for other hosts only where no key decides.
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

from meshlib.httpx import MeshTransport
from meshlib.mesh import Mesh
from meshlib.model.domains import RouteTable
from meshlib.xds import encode
from tests.differential.proxy import Proxy
from tests.differential.upstream import Upstream
from tests.envoy import ABSENT, ENVOY

pytestmark = pytest.mark.skipif(ENVOY is None, reason=ABSENT)

SEED = int(os.environ.get("MESHLIB_DIFFERENTIAL_SEED", "20"))
SERVERS = 10
KEYS = 60
RETRIED = 30
TABLES = {"ring": {"ringHash": {"minimumRingSize": 1024}}, "maglev": {"maglev": {"tableSize": 65537}}}
SERVICES = [
    f"{kind}-{count}-{retries}"
    for kind in TABLES
    for count, retries in ((SERVERS, "stay"), (SERVERS - 1, "stay"), (SERVERS, "leave"))
]


def objects(ports: list[int]) -> list[dict[str, Any]]:
    return [each for service in SERVICES for each in _service(service, ports)]


def _service(name: str, ports: list[int]) -> list[dict[str, Any]]:
    kind, count, retries = name.split("-")
    policy: dict[str, Any] = {"attempts": 3, "retryOn": "5xx", "backoff": "1ms"}
    if retries == "leave":
        policy["retryIgnorePreviousHosts"] = True
    metadata = {"name": name, "namespace": "ns"}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": metadata,
            "spec": {
                "hosts": [_host(name)],
                "ports": [{"name": "http", "number": 80, "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}} for port in ports[-int(count) :]],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": metadata,
            "spec": {
                "host": _host(name),
                "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user", **TABLES[kind]}}},
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": metadata,
            "spec": {
                "hosts": [_host(name)],
                "http": [{"route": [{"destination": {"host": _host(name)}}], "retries": policy}],
            },
        },
    ]


def _host(name: str) -> str:
    return f"{name}.example"


@dataclass
class Case:
    """One call: to which service, with which key, and how often it fails before it succeeds."""

    name: str
    service: str
    user: str
    failures: int

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Host", _host(self.service)), ("x-user", self.user)]


def cases(rng: random.Random) -> list[Case]:
    """The same keys for every service, the first of them with failures."""
    users = [f"user-{rng.getrandbits(32):x}" for _ in range(KEYS)]
    return [
        Case(f"{service}/{number}", service, user, 3 if number < RETRIED else 0)
        for service in SERVICES
        for number, user in enumerate(users)
    ]


@pytest.mark.timeout(120)
def test_every_key_and_its_retries_go_where_envoy_sends_them():
    upstream, made = Upstream(SERVERS), cases(random.Random(SEED))
    mesh = Mesh(*objects(upstream.ports), namespace="ns", telemetry=False, mesh_config={"enableAutoMtls": False})
    try:
        mesh.ready()
        snapshot = mesh.snapshot
        (table,) = found = encode.tables(snapshot, "ns")
        clusters = [
            encode.cluster(each, snapshot.assignment(each.name), inline=True)
            for each in encode.clusters(snapshot, found)
        ]
        routes = {80: encode.route_configuration(RouteTable("80", table.hosts))}
        with (
            Proxy(routes, clusters) as proxy,
            httpx.Client(transport=MeshTransport(mesh)) as client,
            ThreadPoolExecutor(2) as threads,
        ):

            def both(case: Case) -> tuple[list[int], list[int]]:
                for side in "me":
                    upstream.failing[f"{side} {case.name}"] = [*[503] * case.failures, 200]
                mark = ("x-case", f"m {case.name}")
                client.get(f"http://{_host(case.service)}/", headers=dict([*case.headers, mark]))
                proxy.ask(80, "GET", "/", [*case.headers, ("x-case", f"e {case.name}")])
                return upstream.asked[f"m {case.name}"], upstream.asked[f"e {case.name}"]

            asked = list(threads.map(both, made))
    finally:
        mesh.close()
        upstream.close()
    different = [
        f"{case}: meshlib {ours}, Envoy {envoys}"
        for case, (ours, envoys) in zip(made, asked, strict=True)
        if ours != envoys and not _spared(case, ours, envoys)
    ]
    assert not different, "\n".join([f"{len(different)} differ:", *different[:20]])
    for case, (ours, _) in zip(made, asked, strict=True):
        assert len(set(ours)) == (len(ours) if case.service.endswith("leave") else 1)


def _spared(case: Case, ours: list[int], envoys: list[int]) -> bool:
    """Envoy draws five times more and takes what it gets, which may be one that failed: there meshlib takes another."""
    first = next((at for at, port in enumerate(envoys) if port in envoys[:at]), len(envoys))
    return case.service.endswith("leave") and first < len(envoys) and ours[:first] == envoys[:first]
