"""Gateway API routes and cross-origin rules on live calls, in every colour."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib.errors import NoCluster, NoRoute
from meshlib.testing import ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

SERVICES = [
    service("svc", 80),
    service("a", 80),
    service("b", 80),
    endpoint_slice("svc", "v1", ("10.0.0.9", 80)),
    endpoint_slice("a", "v1", ("10.0.0.1", 80)),
    endpoint_slice("b", "v1", ("10.0.0.2", 80)),
]


def route(rules, kind="HTTPRoute"):
    return f"""apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: r}}
spec:
  parentRefs: [{{group: "", kind: Service, name: svc}}]
  rules: {rules}
"""


def virtual_service(rule):
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs}}
spec: {{hosts: [svc], http: [{rule}]}}
"""


@pytest.fixture
def mesh():
    made = []

    def make(*documents):
        text = "---\n".join([*SERVICES, *documents])
        made.append(mesh_of(text, telemetry=False, rng=random.Random(11)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_missing_backend_answers_500_for_its_share_and_nothing_is_sent(colour, mesh):
    world = mesh(route("[{backendRefs: [{name: a, port: 80, weight: 3}, {name: nobody, port: 80}]}]"))
    wire = ScriptedTransport()
    answers = Counter(colour.send(world, "GET", "http://svc/", wire).status_code for _ in range(60))
    assert set(answers) == {200, 500}
    assert 6 <= answers[500] <= 24, "a quarter of sixty"
    assert wire.seen == ["10.0.0.1:80"] * answers[200]
    assert all(cluster.active == 0 for cluster in world.state.clusters())


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_for_a_missing_backend_carries_the_flag_and_the_rules_headers(colour, mesh):
    headers = "[{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: r}]}}]"
    world = mesh(route(f"[{{filters: {headers}, backendRefs: [{{name: nobody, port: 80}}]}}]"))
    response = colour.send(world, "GET", "http://svc/", ScriptedTransport())
    assert (response.status_code, response.headers["x-rule"]) == (500, "r")
    assert response.extensions["mesh"].flags == "NC"


def test_a_virtual_service_keeps_raising_for_a_destination_that_is_not_there(mesh):
    world = mesh(virtual_service("{route: [{destination: {host: svc, subset: v9}}]}"))
    with pytest.raises(NoCluster):
        COLOURS[0].values[0].send(world, "GET", "http://svc/", ScriptedTransport())


@pytest.mark.parametrize("rules", ["[{backendRefs: [{name: nobody, port: 80}]}]", "[{backendRefs: []}]"])
def test_grpc_callers_of_a_grpc_route_are_told_unavailable(rules, mesh):
    colour = COLOURS[0].values[0]
    grpc = {"content-type": "application/grpc"}
    told = colour.send(mesh(route(rules, "GRPCRoute")), "POST", "http://svc/s/m", ScriptedTransport(), headers=grpc)
    assert (told.status_code, told.headers["grpc-status"]) == (200, "14")
    others = colour.send(mesh(route(rules, "GRPCRoute")), "POST", "http://svc/s/m", ScriptedTransport())
    assert others.status_code == 500


def test_no_rule_that_matches_is_no_route_by_the_routes_name(mesh):
    world = mesh(route("[{matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}]"))
    with pytest.raises(NoRoute, match="no rule of HTTPRoute default/r matches GET /b") as caught:
        COLOURS[0].values[0].send(world, "GET", "http://svc/b", ScriptedTransport())
    assert (caught.value.status, caught.value.flag) == (404, "NR")


def test_backends_are_rewritten_each_in_their_own_way(mesh):
    def own(name):
        rewrite = f"{{hostname: {name}.example, path: {{type: ReplaceFullPath, replaceFullPath: /{name}}}}}"
        return f"{{name: {name}, port: 80, filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]}}"

    world, wire = mesh(route(f"[{{backendRefs: [{own('a')}, {own('b')}]}}]")), ScriptedTransport()
    for _ in range(20):
        COLOURS[0].values[0].send(world, "GET", "http://svc/x?q=1", wire)
    sent = {
        (address, request.target, dict(request.headers)[b"Host"])
        for address, request in zip(wire.seen, wire.requests, strict=True)
    }
    assert sent == {("10.0.0.1:80", b"/a?q=1", b"a.example"), ("10.0.0.2:80", b"/b?q=1", b"b.example")}


def test_who_is_dialled_decides_and_not_the_host_header(mesh):
    world, wire = mesh(route("[{backendRefs: [{name: a, port: 80}]}]")), ScriptedTransport()
    send = COLOURS[0].values[0].send
    send(world, "GET", "http://svc/", wire, headers={"Host": "b"})
    send(world, "GET", "http://b/", wire, headers={"Host": "svc"})
    send(world, "GET", "http://localhost/", wire, headers={"Host": "svc"})
    assert wire.seen == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"], "from outside the header still leads there"


CORS = """{corsPolicy: {allowOrigins: [{exact: "https://a.example"}, {regex: "https://.*[.]b[.]example"}],
  allowMethods: [GET, PUT], allowHeaders: [x-one], exposeHeaders: [x-two], maxAge: 1h, allowCredentials: true%s},
  headers: {response: {add: {x-rule: r}}}, route: [{destination: {host: svc}}]}"""
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-one"}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("origin", ["https://a.example", "https://x.b.example"])
def test_a_preflight_of_an_allowed_origin_is_answered_here(colour, origin, mesh):
    wire = ScriptedTransport()
    world = mesh(virtual_service(CORS % ""))
    response = colour.send(world, "OPTIONS", "http://svc/", wire, headers={"Origin": origin, **PREFLIGHT})
    said = {name: value for name, value in response.headers.items() if name.startswith("access-control")}
    assert said == {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-one",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-two",
        "access-control-max-age": "3600",
    }
    assert (response.status_code, wire.seen) == (200, [])
    decision = world.explain("OPTIONS", "http://svc/", {"Origin": origin, **PREFLIGHT})
    assert (decision.action, decision.details["direct_response"]["status"]) == ("direct_response", 200)


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({"Origin": "https://a.example"}, "https://a.example"),
        ({"Origin": "https://evil.example"}, None),
        ({}, None),
    ],
)
def test_answers_say_who_may_read_them(headers, origin, mesh):
    stale = {"access-control-allow-origin": "https://stale.example", "x-other": "o"}
    wire = ScriptedTransport({"10.0.0.9:80": [(200, stale if origin else {}, b"")]})
    response = COLOURS[0].values[0].send(mesh(virtual_service(CORS % "")), "GET", "http://svc/", wire, headers=headers)
    assert response.headers.get("access-control-allow-origin") == origin
    assert response.headers.get("access-control-expose-headers") == ("x-two" if origin else None)
    assert (response.headers["x-rule"], wire.seen) == ("r", ["10.0.0.9:80"])


@pytest.mark.parametrize(
    ("policy", "forwarded"),
    [("", True), (", unmatchedPreflights: FORWARD", True), (", unmatchedPreflights: IGNORE", False)],
)
def test_preflights_of_other_origins_are_forwarded_unless_they_are_ignored(policy, forwarded, mesh):
    wire = ScriptedTransport()
    headers = {"Origin": "https://evil.example", **PREFLIGHT}
    world = mesh(virtual_service(CORS % policy))
    response = COLOURS[0].values[0].send(world, "OPTIONS", "http://svc/", wire, headers=headers)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert bool(wire.seen) is forwarded


def test_an_options_request_that_is_no_preflight_is_sent(mesh):
    wire = ScriptedTransport()
    world = mesh(virtual_service(CORS % ", unmatchedPreflights: IGNORE"))
    for headers in ({}, {"Origin": "https://a.example"}, PREFLIGHT):
        COLOURS[0].values[0].send(world, "OPTIONS", "http://svc/", wire, headers=headers)
    assert len(wire.seen) == 3


def test_a_star_repeats_what_the_preflight_asks_for(mesh):
    cors = "{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']}}"
    world = mesh(route(f"[{{filters: [{cors}], backendRefs: [{{name: a, port: 80}}]}}]"))
    headers = {"Origin": "http://any.example:8080", **PREFLIGHT}
    response = COLOURS[0].values[0].send(world, "OPTIONS", "http://svc/", ScriptedTransport(), headers=headers)
    assert response.headers["access-control-allow-origin"] == "http://any.example:8080"
    assert response.headers["access-control-allow-methods"] == "PUT"
    assert response.headers["access-control-allow-headers"] == "x-one"
    assert response.headers["access-control-max-age"] == "5", "the API server's default"
