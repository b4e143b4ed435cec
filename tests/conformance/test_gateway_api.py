"""Gateway API's own conformance requests, sent by a real client through the real data plane to scripted backends."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.actions import Actions
from meshlib.config.compile.gateway_routes import GatewayRules, in_precedence, rules_of
from meshlib.config.compile.virtual_services import VirtualServices
from meshlib.config.resources import load_dict
from meshlib.config.resources.base import duration
from meshlib.dataplane.outcome import Failure
from meshlib.errors import MeshError
from meshlib.httpx import MeshTransport
from meshlib.mesh import Mesh
from meshlib.model.hosts import expand
from meshlib.model.route import DirectResponse, Forward, MatchKind, Redirect
from meshlib.model.snapshot import Client
from meshlib.providers import StaticProvider
from meshlib.testing import ManualClock, ScriptedTransport
from meshlib.transport.base import WireError
from tests.conftest import DATA, data_cases


class Backends(ScriptedTransport):
    """Backends that answer when they are asked to, and set the headers that they are asked to set."""

    def __init__(self, clock, names, headers):
        super().__init__({address: [(200, headers, b"ok")] for address in names})
        self.clock = clock
        self.names = names

    def _answer(self, target, request):
        query = parse_qs(urlsplit(request.target.decode()).query)
        ready = self.clock.now() + duration(query.get("delay", ["0s"])[0])
        deadline = request.timeouts.deadline
        if deadline is not None and ready > deadline:
            self.clock.time = deadline
            raise WireError(Failure.DEADLINE, "too late", sent=True)
        self.clock.time = ready
        return super()._answer(target, request)

    def received(self):
        """(service, request) of everything that arrived."""
        return [(self.names[address], request) for address, request in zip(self.seen, self.requests, strict=True)]


def slices(services):
    """An endpoint for every Service, listening on each of its ports under the port's own number."""
    names, found = {}, []
    for number, given in enumerate(services, 1):
        address, ports = f"10.0.0.{number}", given["spec"].get("ports", [])
        names.update({f"{address}:{port['port']}": given["metadata"]["name"] for port in ports})
        meta = {
            "name": given["metadata"]["name"],
            "namespace": given["metadata"]["namespace"],
            "labels": {"kubernetes.io/service-name": given["metadata"]["name"]},
        }
        found.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": meta,
                "addressType": "IPv4",
                "ports": [{"name": port.get("name", ""), "port": port["port"]} for port in ports],
                "endpoints": [{"addresses": [address]}],
            }
        )
    return names, found


def objects_of(case):
    base = json.loads((DATA / "gatewayapi/base.json").read_text("utf-8"))
    return [*base["mesh"], *base["infra"], *case["config"]]


@pytest.mark.parametrize("case", data_cases("gatewayapi/httproute.json"))
def test_httproute(case):
    objects = objects_of(case)
    names, endpoints = slices([given for given in objects if given["kind"] == "Service"])
    for call in case["calls"]:
        namespace, clock = call.get("client_namespace", case["namespace"]), ManualClock()
        options = {"namespace": namespace, "telemetry": False, "clock": clock, "rng": random.Random(7)}
        with Mesh(StaticProvider(*objects, *endpoints), **options) as mesh:
            mesh.ready()
            assert not [p for p in mesh.problems if p.level.value == "Error"], mesh.problems
            wire = Backends(clock, names, call["request"].get("backend_sets_response_headers", {}))
            with httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
                answers = [ask(client, call["request"]) for _ in range(asked(call))]
            settled(mesh)
            compare(call["expect"], answers, wire)
            assert wire.open == 0
            assert all(cluster.active == 0 for cluster in mesh.state.clusters())


def asked(call):
    """How often to ask; for shares four times as often, so that chance alone is far from the tolerance."""
    count = call["request"].get("count", 1)
    return 4 * count if "distribution" in call["expect"] else count


def ask(client, given):
    """The response, or the error that stands for one."""
    headers = dict(given.get("headers", {}))
    if given.get("protocol") == "grpc":
        headers["content-type"] = "application/grpc"
    request = client.build_request(given["method"], f"http://{given['host']}{given['path']}", headers=headers)
    try:
        return client.send(request)
    except MeshError as error:
        return error


def settled(mesh):
    ends = time.monotonic() + 10
    while mesh.mirrors.running:
        assert time.monotonic() < ends
        time.sleep(0.005)


def status_of(answer):
    return answer.status if isinstance(answer, MeshError) else answer.status_code


def compare(wanted, answers, wire):
    assert {status_of(answer) for answer in answers} <= set(wanted["status"]), answers
    copies = Counter(mirror["name"] for mirror in wanted.get("mirrored_to", ()))
    arrived = Counter(name for name, _ in wire.received())
    if "distribution" in wanted:
        shares = {name: count / sum(arrived.values()) for name, count in arrived.items()}
        assert shares == pytest.approx(wanted["distribution"], abs=wanted.get("tolerance", 0.05))
        assert sum(arrived.values()) == len(answers)
    elif "backend" in wanted:
        assert arrived == copies + Counter({wanted["backend"]: len(answers)})
        for _, request in wire.received():
            compare_request(wanted.get("upstream_request", {}), request)
    elif not 200 <= status_of(answers[0]) < 300:
        assert not arrived, "what is answered here goes nowhere"
    for answer in answers:
        compare_response(wanted, answer)


def compare_request(wanted, request):
    lines = [(name.decode().lower(), value.decode()) for name, value in request.headers]
    if "path" in wanted:
        assert request.target.decode() == wanted["path"]
    if "host" in wanted:
        assert dict(lines)["host"] == wanted["host"]
    for name, value in wanted.get("headers", {}).items():
        assert ",".join(v for n, v in lines if n == name.lower()) == value
    assert not {name.lower() for name in wanted.get("absent_headers", ())} & {name for name, _ in lines}


def compare_response(wanted, answer):
    headers = {} if isinstance(answer, MeshError) else answer.headers
    blank = (lambda text: text.replace(" ", "")) if wanted.get("ignore_whitespace_in_headers") else str
    for name, value in wanted.get("response_headers", {}).items():
        assert blank(headers[name]) == blank(value)
    for name, values in wanted.get("response_header_one_of", {}).items():
        assert blank(headers[name]) in [blank(value) for value in values]
    for name in wanted.get("absent_response_headers", ()):
        assert name not in headers
    if "redirect" in wanted:
        location = urlsplit(headers["location"])
        got = {"scheme": location.scheme, "host": location.hostname, "port": location.port, "path": location.path}
        want = {key: int(value) if key == "port" and value else value for key, value in wanted["redirect"].items()}
        assert {key: got[key] or "" for key in want} == want


PARENTS = "internal.istio.io/parents"
DOMAIN = "domain.suffix"


def gateway_table(case, wanted):
    """Our routes of the objects that an expected VirtualService was made of, compiled as for one parent."""
    namespace, host, port = wanted.metadata.namespace, wanted.spec.hosts[0], port_of(wanted)
    by_name = {f"{r.kind}/{r.metadata.name}.{r.metadata.namespace}": r for r in loaded(case["input"])}
    routes = [by_name[name] for name in wanted.metadata.annotations[PARENTS].split(",")]
    rules = in_precedence(rule for route in routes for rule in rules_of(route, route.metadata.namespace))
    return GatewayRules(namespace, host, 0, rules, ("*",), DOMAIN).routes(Client(), port or 80, actions_in(namespace))


def istio_table(wanted):
    spec = wanted.spec.model_copy(update={"gateways": ["mesh"]})
    [rules] = VirtualServices([replace(wanted, spec=spec)], wanted.metadata.namespace, DOMAIN, ("*",))
    return rules.routes(Client(), port_of(wanted) or 80, actions_in(wanted.metadata.namespace))


def loaded(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def port_of(wanted):
    return next((match.port for rule in wanted.spec.http for match in rule.match), 0)


def actions_in(namespace):
    def cluster(to):
        return f"outbound|{to.port.number}||{expand(to.host, namespace, DOMAIN)}"

    return Actions(cluster, lambda cluster, port: (), None)


def comparable(route):
    """A route without what the two languages say differently while meaning the same."""
    path, action, cors = route.match.path, route.action, route.cors
    if path is not None and path.kind in (MatchKind.PREFIX, MatchKind.SEGMENT_PREFIX):
        path = ("prefix", path.value.rstrip("/"))  # ours goes by segments, as a sidecar reads Istio's here too
    if isinstance(action, Forward):
        action = replace(action, missing_cluster=None)
    elif isinstance(action, Redirect):
        action = replace(action, port=action.port or None)  # without a port, Istio keeps that of the Host header
    elif isinstance(action, DirectResponse):
        action = replace(action, grpc_status=None)
    if cors is not None:
        origins = tuple(replace(origin, value=origin.value.strip("^$")) for origin in cors.allow_origins)
        age = None if cors.max_age == 5 else cors.max_age  # the API server's default, which the fixtures lack
        cors = replace(cors, allow_origins=origins, max_age=age)
    match = (path, route.match.headers, route.match.query)
    return route.name, match, action, route.fault, route.request_headers, route.response_headers, cors


@pytest.mark.parametrize("case", data_cases("gatewayapi/to_virtualservice.json"))
def test_to_virtualservice(case):
    for wanted in loaded(case["expect_virtual_services"]):
        if not wanted.spec.http:
            continue  # TCPRoute and TLSRoute: traffic that is not HTTP
        (ours, left_out), (theirs, ended) = gateway_table(case, wanted), istio_table(wanted)
        assert (len(ours), len(left_out)) == (len(theirs), len(ended)), wanted.metadata.name
        for own, other in zip(ours, theirs, strict=True):
            if any("InferencePool" in note for note in own.origin.notes):
                assert own.action.missing_cluster.status == 500, "an endpoint picker is not there to be asked"
                own = replace(own, action=replace(own.action, clusters=other.action.clusters))
            assert comparable(own) == comparable(other)


@pytest.mark.parametrize("case", data_cases("gatewayapi/to_virtualservice.json"))
def test_routes_are_grouped_by_namespace_port_and_parent(case):
    for_mesh = [v for v in loaded(case["expect_virtual_services"]) if v.spec.gateways == ["mesh"] and v.spec.http]
    wanted = {
        (v.metadata.namespace, v.spec.hosts[0], port_of(v), v.metadata.annotations[PARENTS].replace(",", " ")): v
        for v in for_mesh
    }
    services = {host: host.split(".")[:2] for _, host, _, _ in wanted}
    resources = loaded([*case["input"], *(kubernetes_service(*parts) for parts in services.values())])
    found = {}
    for rules in Universe(resources, "default", DOMAIN).rules:
        names = dict.fromkeys(
            f"{r.route.kind}/{r.route.metadata.name}.{r.route.metadata.namespace}"
            for r in sorted(rules.rules, key=lambda r: (r.route.metadata.name, r.index))
        )
        found[rules.namespace, rules.host, rules.port, " ".join(names)] = rules
    assert found.keys() == wanted.keys()
    assert {key: rules.age[1] for key, rules in found.items()} == {k: v.metadata.name for k, v in wanted.items()}


def kubernetes_service(name, namespace):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
