"""Istio's integration cases, asked over real sockets: a client, its mesh, and peers that say what they saw."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from meshlib import Mesh, MeshClient
from meshlib.errors import MeshError
from meshlib.model.grpc_status import GRPC_STATUS_NAMES
from tests.conformance.peers import EchoHttp2
from tests.conftest import data_cases

WORLD = ("a", "b", "c", "d")
PORTS = {"http": 80, "http2": 85, "grpc": 7070}
TIMES = 5
"""Shares are judged on so many times the calls that a case asks for, so that the tolerance holds by more than luck."""


class World:
    """The services of the cases, each with peers for those of its ports that are asked."""

    def __init__(self, echo: Any) -> None:
        self._echo = echo
        self.peers: list[EchoHttp2] = []
        self.objects: list[dict[str, Any]] = []

    def add(self, name: str, ports: dict[str, int], endpoints: int) -> None:
        """Endpoints of a service: EndpointSlices of real peers."""
        for port in ports:
            for number in range(endpoints):
                self.objects.append(_slice(name, port, number, self._peer(f"{name}-{number}", port).port))

    def _peer(self, name: str, port: str) -> Any:
        if port.partition("-")[0] in ("http2", "grpc"):
            self.peers.append(EchoHttp2(name))
            return self.peers[-1]
        return self._echo(name)


@pytest.fixture
def world(echo):
    made = World(echo)
    yield made
    for peer in made.peers:
        peer.stop()


def _service(name: str, ports: dict[str, int]) -> dict[str, Any]:
    spec = {"clusterIP": "10.96.0.1", "ports": [{"name": kind, "port": port} for kind, port in ports.items()]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "echo"}, "spec": spec}


def _slice(service: str, port: str, number: int, listening: int) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{port}-{number}", "namespace": "echo", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": port, "port": listening}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }


@pytest.mark.parametrize("case", data_cases("traffic/http.json"))
def test_http_traffic(case, world):
    given = [each for each in case["config"] if each["kind"] == "Service"]
    asked = {_protocol(call["request"]) for call in case["calls"]}
    for name in WORLD:
        world.objects.append(_service(name, PORTS))
        world.add(name, {kind: PORTS[kind] for kind in asked if kind in PORTS}, 1)
    for each in given:
        ports = {port["name"]: port["port"] for port in each["spec"]["ports"]}
        world.add(each["metadata"]["name"], ports, 3)
    mesh = Mesh(*world.objects, *case["config"], namespace="echo", telemetry=False, rng=random.Random(11))
    with mesh, MeshClient(mesh, timeout=10) as client:
        for call in case["calls"]:
            _ask(client, call["request"], call["expect"])


def _protocol(request: dict[str, Any]) -> str:
    return str(request["protocol"])


class Answer:
    """What came of one call: a status, and what the peer says that it saw."""

    def __init__(self, response: httpx.Response | None, error: MeshError | None) -> None:
        self.status = error.status if error is not None else response.status_code if response is not None else 0
        self.headers = response.headers if response is not None else httpx.Headers()
        self.seen = json.loads(response.text) if response is not None and response.text.startswith("{") else {}

    @property
    def endpoint(self) -> str:
        return str(self.seen.get("name", ""))

    @property
    def service(self) -> str:
        return self.endpoint.rpartition("-")[0]


def _ask(client: MeshClient, request: dict[str, Any], expect: dict[str, Any]) -> None:
    times = request.get("count", 1) * (TIMES if "distribution_percent" in expect else 1)
    answers: list[Answer] = []
    headers = dict(request["headers"])
    for _ in range(times):
        answers.append(_call(client, request, headers))
        cookie = answers[-1].headers.get("set-cookie")
        if request.get("replay_set_cookie") and cookie is not None:
            headers["cookie"] = cookie.partition(";")[0]
    for answer in answers:
        _check(answer, expect)
    _check_all(answers, expect)


def _call(client: MeshClient, request: dict[str, Any], headers: dict[str, str]) -> Answer:
    client.cookies.clear()
    url = f"http://{request.get('address', 'b')}:{request['port']}{request['path']}"
    if request["protocol"] == "grpc":
        headers = {"content-type": "application/grpc", "te": "trailers", **headers}
    follow = request.get("follow_redirects", False)
    try:
        return Answer(client.request(request["method"], url, headers=headers, follow_redirects=follow), None)
    except MeshError as error:
        return Answer(None, error)


def _check(answer: Answer, expect: dict[str, Any]) -> None:
    if "status" in expect:
        assert answer.status == expect["status"]
    if "grpc_status" in expect:
        assert GRPC_STATUS_NAMES[int(answer.headers["grpc-status"])] == expect["grpc_status"]
    for name, value in expect.get("response_headers", {}).items():
        assert answer.headers.get(name, "") == value
    for name, value in expect.get("upstream_request_headers", {}).items():
        assert answer.seen["headers"].get(name.lower(), "") == value
    if "upstream_authority" in expect:
        assert answer.seen["headers"]["host"] == expect["upstream_authority"]
    if "upstream_path" in expect:
        assert answer.seen["path"] == expect["upstream_path"]
    if "destination" in expect:
        assert answer.service == expect["destination"].partition(".")[0]


def _check_all(answers: list[Answer], expect: dict[str, Any]) -> None:
    endpoints = {answer.endpoint for answer in answers}
    if expect.get("single_endpoint"):
        assert len(endpoints) == 1
    if expect.get("several_endpoints"):
        assert len(endpoints) > 1
    shares = Counter(answer.service for answer in answers)
    for name, percent in expect.get("distribution_percent", {}).items():
        assert abs(100 * shares[name] / len(answers) - percent) <= expect["tolerance_percent"], shares
