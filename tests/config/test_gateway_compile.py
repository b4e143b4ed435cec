"""From Gateway API routes to decisions: the rules of Istio and of the Gateway API, asked through ``explain``."""

from __future__ import annotations

import itertools
import random

import pytest

from meshlib.cli.decision import decision_lines
from meshlib.cli.dump import routes
from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import endpoint_slice, service

SERVICES = "---\n".join([service("svc", 80), *(service(name, 80) for name in ("a", "b", "c", "d", "e", "f", "g"))])


def route(rules, name="r", namespace="default", parents=None, kind="HTTPRoute", created=None):
    stamp = f", creationTimestamp: '{created}'" if created else ""
    parents = parents or "[{group: '', kind: Service, name: svc}]"
    return f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}{stamp}}}
spec:
  parentRefs: {parents}
  rules: {rules}
"""


def to(backend, /, **fields):
    more = "".join(f", {key}: {value}" for key, value in fields.items())
    return f"{{backendRefs: [{{name: {backend}, port: 80}}]{more}}}"


def view(text, namespace="default"):
    loaded = load_text(text)
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources).view(Client(namespace))


def ask(source, url="http://svc/", method="GET", headers=None):
    world = Prepared(Snapshot(source), State(), 0.0, random.Random(1))
    return explain(world, request_of(method, url, headers or {}))


def backends(decision):
    return [d.host.partition(".")[0] for d in decision.destinations]


# Which rule ---------------------------------------------------------------------------------------------------------

RULES = {
    "a": "[{path: {type: Exact, value: /x}}]",
    "b": "[{path: {value: /x/long}}]",
    "c": "[{path: {value: /x}, method: GET, headers: [{name: h, value: v}]}]",
    "d": "[{path: {value: /x}, headers: [{name: h, value: v}, {name: i, value: w}]}]",
    "e": "[{path: {value: /x}, queryParams: [{name: q, value: v}]}]",
    "f": "[{path: {value: /x}}]",
    "g": "[{path: {type: RegularExpression, value: '/[a-z]+'}}]",
}
EVERYTHING = {"h": "v", "i": "w"}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("url", "headers", "winner"),
    [
        ("/x?q=v", EVERYTHING, "a"),
        ("/x/long/er", EVERYTHING, "b"),
        ("/x/y?q=v", EVERYTHING, "c"),
        ("/x/y?q=v", {"h": "no"}, "e"),
        ("/x/y", {}, "f"),
        ("/xy", {}, "g"),
    ],
)
def test_precedence_decides_and_not_the_order_in_the_file(seed, url, headers, winner):
    rules = [to(name, matches=matches) for name, matches in RULES.items()]
    random.Random(seed).shuffle(rules)
    assert backends(ask(view(SERVICES + route(f"[{', '.join(rules)}]")), f"http://svc{url}", headers=headers)) == [
        winner
    ]


def test_more_headers_go_before_more_query_parameters():
    rules = [to(name, matches=RULES[name]) for name in "ed"]
    assert backends(ask(view(SERVICES + route(f"[{', '.join(rules)}]")), "http://svc/x?q=v", headers=EVERYTHING)) == [
        "d"
    ]


def test_equal_rules_keep_the_order_of_the_file_and_of_the_routes_age():
    young = route(f"[{to('a')}, {to('b')}]", name="a", created="2024-02-01T00:00:00Z")
    old = route(f"[{to('c', matches='[{path: {value: /}}]')}]", name="z", created="2024-01-01T00:00:00Z")
    assert backends(ask(view(SERVICES + young))) == ["a"]
    decision = ask(view(SERVICES + young + old))
    assert (backends(decision), decision.resource) == (["c"], "HTTPRoute default/z")


def test_a_rule_without_matches_comes_last_and_hides_no_regular_expression():
    rules = [to("a"), to("b", matches="[{path: {type: RegularExpression, value: /r.*}}]")]
    for ordered in itertools.permutations(rules):
        source = view(SERVICES + route(f"[{', '.join(ordered)}]"))
        assert [backends(ask(source, f"http://svc{path}")) for path in ("/r1", "/x")] == [["b"], ["a"]]


@pytest.mark.parametrize(
    ("prefix", "path", "matches"),
    [
        ("/foo", "/foo", True),
        ("/foo", "/foo/", True),
        ("/foo", "/foo/bar?q=/", True),
        ("/foo", "/foobar", False),
        ("/foo/", "/foo", True),
        ("/foo/", "/foo/bar", True),
        ("/foo/", "/foobar", False),
        ("/foo", "/Foo", False),
        ("/", "/anything", True),
    ],
)
def test_prefixes_go_by_segments(prefix, path, matches):
    source = view(SERVICES + route(f"[{to('a', matches=f'[{{path: {{value: {prefix}}}}}]')}]"))
    decision = ask(source, f"http://svc{path}")
    assert (decision.action, decision.flag) == (("route", "UH") if matches else ("none", "NR"))


def test_of_conditions_with_one_name_the_first_counts():
    matches = "[{headers: [{name: X, value: first}, {name: x, value: second}]}]"
    source = view(SERVICES + route(f"[{to('a', matches=matches)}]"))
    assert ask(source, headers={"x": "first"}).action == "route"
    assert ask(source, headers={"x": "second"}).action == "none"


@pytest.mark.parametrize(
    ("method", "path", "matches"),
    [
        ("{service: shop.Cart, method: Add}", "/shop.Cart/Add", True),
        ("{service: shop.Cart, method: Add}", "/shop.Cart/Added", False),
        ("{service: shop.Cart}", "/shop.Cart/Any", True),
        ("{service: shop.Cart}", "/shop.CartX/Any", False),
        ("{method: Add}", "/any.Service/Add", True),
        ("{method: Add}", "/a/b/Add", False),
        ("{type: RegularExpression, service: 'shop[.].*', method: 'Add|Remove'}", "/shop.Cart/Remove", True),
        ("{type: RegularExpression, service: 'shop[.].*', method: 'Add|Remove'}", "/Remove", False),
        ("{type: RegularExpression, service: 'a|b'}", "/b/Any", True),
        ("{type: RegularExpression, method: 'A.*'}", "/x.Y/Add", True),
    ],
)
def test_grpc_methods_are_paths(method, path, matches):
    source = view(SERVICES + route(f"[{to('a', matches=f'[{{method: {method}}}]')}]", kind="GRPCRoute"))
    assert (ask(source, f"http://svc{path}", "POST").action == "route") is matches


def test_routes_of_both_kinds_are_put_together():
    http = route(f"[{to('a', matches='[{path: {value: /x}}]')}]")
    grpc = route(f"[{to('b', matches='[{method: {service: x, method: y}}]')}]", kind="GRPCRoute", name="g")
    source = view(SERVICES + http + grpc)
    assert [backends(ask(source, f"http://svc{path}")) for path in ("/x/y", "/x/z")] == [["b"], ["a"]]
    decision = ask(source, "http://svc/none")
    assert decision.resource == "GRPCRoute default/g and HTTPRoute default/r"


# For whom -----------------------------------------------------------------------------------------------------------

PARENT = "[{group: '', kind: Service, name: svc, namespace: default}]"


def test_a_consumers_route_is_for_its_own_namespace_and_goes_before_the_producers():
    producer = route(f"[{to('a')}]", created="2024-01-01T00:00:00Z")
    consumer = route(
        "[{backendRefs: [{name: b, namespace: default, port: 80}]}]",
        "c",
        "shop",
        PARENT,
        created="2024-02-01T00:00:00Z",
    )
    text = SERVICES.replace("metadata: {name: ", "metadata: {namespace: default, name: ") + producer + consumer
    asked = {namespace: ask(view(text, namespace), "http://svc.default/") for namespace in ("default", "shop", "third")}
    assert {namespace: backends(decision) for namespace, decision in asked.items()} == {
        "default": ["a"],
        "shop": ["b"],
        "third": ["a"],
    }
    assert asked["shop"].resource == "HTTPRoute shop/c"
    assert any(
        "HTTPRoute shop/c is passed over: it is for clients of namespace shop" in line
        for line in asked["third"].host_reasons
    )
    assert any(
        "HTTPRoute default/r is passed over: HTTPRoute shop/c comes first" in line
        for line in asked["shop"].host_reasons
    )


VIRTUAL_SERVICE = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, creationTimestamp: '2020-01-01T00:00:00Z'}
spec: {hosts: [svc], %s http: [{route: [{destination: {host: b}}]}]}
"""


def test_a_route_of_the_clients_namespace_goes_before_older_virtual_services_but_not_before_private_ones():
    young = route(f"[{to('a')}]", created="2024-02-01T00:00:00Z")
    public = ask(view(SERVICES + young + VIRTUAL_SERVICE % ""))
    assert (public.virtual_service, public.resource) == (None, "HTTPRoute default/r")
    private = ask(view(SERVICES + young + VIRTUAL_SERVICE % "exportTo: ['.'],"))
    assert (private.virtual_service, private.resource) == ("default/vs", "VirtualService default/vs")


PORTS = """apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {ports: [{name: http, port: 80}, {name: http-alt, port: 8080}]}
---
"""


@pytest.mark.parametrize(
    ("parent", "ports"),
    [
        ("", {80, 8080}),
        (", port: 8080", {8080}),
        (", sectionName: http-alt", {8080}),
        (", sectionName: http-alt, port: 8080", {8080}),
        (", sectionName: http-alt, port: 80", set()),
        (", sectionName: nobody", set()),
    ],
)
def test_a_parents_port_narrows_the_route(parent, ports):
    rules = route(f"[{to('a')}]", parents=f"[{{group: '', kind: Service, name: svc{parent}}}]")
    source = view(PORTS + service("a", 80) + rules)
    ruled = {port for port in (80, 8080) if ask(source, f"http://svc:{port}/").resource}
    assert ruled == ports
    assert ask(source, "http://svc:8080/").action == "route", "other ports have their default route"


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com, "*.cdn.example.com"]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.9.9.9}]
---
"""


def test_a_service_entry_as_parent_stands_for_all_its_hosts():
    parents = "[{group: networking.istio.io, kind: ServiceEntry, name: api}]"
    source = view(ENTRY + SERVICES + route(f"[{to('a')}]", parents=parents))
    for host in ("api.example.com", "x.cdn.example.com"):
        assert backends(ask(source, f"http://{host}/")) == ["a"]
    assert ask(source, "http://example.com/").action == "passthrough"


@pytest.mark.parametrize("parent", ["name: nobody", "name: svc, namespace: other"])
def test_a_parent_that_is_not_there_has_no_rules_and_makes_no_host(parent):
    source = view(SERVICES + route(f"[{to('a')}]", parents=f"[{{group: '', kind: Service, {parent}}}]"))
    assert ask(source, "http://nobody.default.svc.cluster.local/").action == "passthrough"
    assert ask(source).resource == ""


def test_a_gateway_as_parent_does_not_concern_the_mesh():
    assert ask(view(SERVICES + route(f"[{to('a')}]", parents="[{name: gateway}]"))).resource == ""


def test_a_sidecar_that_imports_the_service_imports_the_route():
    sidecar = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ["./svc.default.svc.cluster.local"]}]}
"""
    source = view(SERVICES + route(f"[{to('a')}]") + sidecar)
    assert backends(ask(source)) == ["a"], "what a route names is reached although nobody imports it"
    assert ask(source, "http://a/").action == "passthrough"


def test_a_route_finds_its_parent_when_the_parent_comes_later():
    orphan = load_text(SERVICES.replace("{name: svc}", "{name: later}", 1) + route(f"[{to('a')}]")).resources
    before = Universe(orphan)
    after = Universe([*orphan, *load_text(service("svc", 80)).resources], before=before)
    assert ask(before.view(Client()), "http://svc/").action == "passthrough"
    assert backends(ask(after.view(Client()))) == ["a"]


# What it does -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("{name: nobody, port: 80}", "outbound|80||nobody.default.svc.cluster.local does not exist"),
        ("{name: a, port: 81}", "outbound|81||a.default.svc.cluster.local does not exist"),
        ("{name: a.default, port: 80}", "'a.default' is not the name of a Service"),
        ("{group: x.io, kind: Other, name: a, port: 80}", "kind Other of group 'x.io' is not supported"),
        ("{group: networking.istio.io, kind: Hostname, name: a.default.svc.cluster.local}", "the port is missing"),
        (
            "{group: networking.istio.io, kind: Hostname, name: a, namespace: b, port: 80}",
            "a Hostname has no namespace",
        ),
        (
            "{name: a, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}",
            "filters of type ExtensionRef are not supported at a backend",
        ),
    ],
)
def test_a_backend_that_cannot_be_honoured_answers_500_for_its_share(backend, reason):
    decision = ask(view(SERVICES + route(f"[{{backendRefs: [{backend}, {{name: b, port: 80, weight: 3}}]}}]")))
    assert (decision.action, decision.flag) == ("route", "NC")
    assert [(d.exists, d.weight) for d in decision.destinations] == [(False, 25.0), (True, 75.0)]
    assert any(reason in line for line in decision.reasons), decision.reasons
    assert any("25% of such requests are answered with 500" in line for line in decision.reasons)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("{}", "no backend has a share"),
        ("{backendRefs: []}", "no backend has a share"),
        ("{backendRefs: [{name: a, port: 80, weight: 0}]}", "no backend has a share"),
        (to("a", filters="[{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]"), "type ExtensionRef"),
        (to("a", filters="[{type: Unheard}]"), "type Unheard"),
    ],
)
def test_a_rule_that_cannot_be_honoured_answers_500(rule, reason):
    decision = ask(view(SERVICES + route(f"[{rule}]")))
    assert decision.action == "direct_response"
    assert decision.details["direct_response"]["status"] == 500
    assert any(reason in line for line in decision.reasons), decision.reasons


def test_filters_of_http_mean_nothing_to_grpc():
    rule = to("a", filters="[{type: RequestRedirect, requestRedirect: {}}]")
    assert ask(view(SERVICES + route(f"[{rule}]", kind="GRPCRoute"))).details["direct_response"]["status"] == 500


def test_other_kinds_of_backends_lead_to_hosts_of_the_registry():
    entry = ENTRY.replace("api.example.com, ", "far.default.svc.clusterset.local, ")
    refs = "{group: multicluster.x-k8s.io, kind: ServiceImport, name: far, port: 80}, "
    refs += "{group: networking.istio.io, kind: Hostname, name: a.default.svc.cluster.local, port: 80}"
    decision = ask(view(entry + SERVICES + route(f"[{{backendRefs: [{refs}]}}]")))
    assert [(d.host, d.exists) for d in decision.destinations] == [
        ("far.default.svc.clusterset.local", True),
        ("a.default.svc.cluster.local", True),
    ]


def test_a_backend_in_another_namespace_needs_no_grant_in_the_mesh():
    far = service("far", 80).replace("{name: far}", "{name: far, namespace: other}")
    decision = ask(view(SERVICES + "---\n" + far + route("[{backendRefs: [{name: far, namespace: other, port: 80}]}]")))
    assert [(d.host, d.exists) for d in decision.destinations] == [("far.other.svc.cluster.local", True)]


@pytest.mark.parametrize(
    ("given", "url", "location"),
    [
        ("{scheme: https}", "http://svc/x?q=1", "https://svc/x?q=1"),
        ("{scheme: https}", "http://svc:8080/x", "https://svc/x"),
        ("{hostname: example.org}", "http://svc:8080/x", "http://example.org:8080/x"),
        ("{hostname: example.org}", "http://svc/x", "http://example.org/x"),
        ("{port: 8443, scheme: https}", "http://svc/x", "https://svc:8443/x"),
        ("{port: 80}", "http://svc:8080/x", "http://svc/x"),
        ("{path: {type: ReplaceFullPath, replaceFullPath: /new}}", "http://svc/x?q=1", "http://svc/new?q=1"),
        ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}", "http://svc/x/y", "http://svc/new/x/y"),
    ],
)
def test_redirects(given, url, location):
    rule = f"{{filters: [{{type: RequestRedirect, requestRedirect: {given}}}]}}"
    decision = ask(view(PORTS + route(f"[{rule}]")), url)
    assert decision.details["redirect"] == {"status": 302, "location": location}


@pytest.mark.parametrize(
    ("prefix", "replacement", "path", "sent"),
    [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo/", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/", "/"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/foo", "/", "/foo/bar?q=1", "/bar?q=1"),
        ("/", "/xyz", "/bar", "/xyz/bar"),
        ("/", "/", "/bar", "/bar"),
    ],
)
def test_prefixes_are_replaced_cleanly(prefix, replacement, path, sent):
    rewrite = (
        f"{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{replacement}'}}}}}}"
    )
    rule = to("a", matches=f"[{{path: {{value: {prefix}}}}}]", filters=f"[{rewrite}]")
    ready = "---\n" + endpoint_slice("a", "v1", ("10.0.0.1", 80))
    decision = ask(view(SERVICES + ready + route(f"[{rule}]")), f"http://svc{path}")
    assert decision.destinations[0].sends.path == sent


def test_the_full_path_is_replaced_whatever_it_holds():
    rewrite = r"{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a\1b'}}}"
    ready = "---\n" + endpoint_slice("a", "v1", ("10.0.0.1", 80))
    decision = ask(view(SERVICES + ready + route(f"[{to('a', filters=f'[{rewrite}]')}]")), "http://svc/x/y?q=1")
    assert decision.destinations[0].sends.path == "/a\\1b?q=1"


def test_a_backends_own_rewrite_is_for_its_share_alone():
    def rewritten(hostname, path):
        return f"""filters: [{{type: URLRewrite, urlRewrite: {{hostname: {hostname},
          path: {{type: ReplacePrefixMatch, replacePrefixMatch: {path}}}}}}}]"""

    refs = f"{{name: a, port: 80, {rewritten('a.example', '/a')}}}, {{name: b, port: 80}}"
    rule = f"{{matches: [{{path: {{value: /x}}}}], {rewritten('rule.example', '/rule')}, backendRefs: [{refs}]}}"
    ready = "---\n".join(["", *(endpoint_slice(n, "v1", (f"10.0.0.{i}", 80)) for i, n in enumerate("ab", 1))])
    decision = ask(view(SERVICES + ready + route(f"[{rule}]")), "http://svc/x/y")
    assert [(d.sends.authority, d.sends.path) for d in decision.destinations] == [
        ("a.example", "/a/y"),
        ("rule.example", "/rule/y"),
    ]


@pytest.mark.parametrize(
    ("fields", "timeout", "per_try", "attempts"),
    [
        ({}, None, None, 2),
        ({"timeouts": "{request: 2s}"}, 2.0, None, 2),
        ({"timeouts": "{backendRequest: 1s}"}, 1.0, None, 2),
        ({"timeouts": "{request: 2s, backendRequest: 1s}"}, 1.0, None, 2),
        ({"timeouts": "{request: 2s, backendRequest: 1s}", "retry": "{attempts: 5}"}, 2.0, 1.0, 5),
        ({"timeouts": "{request: 0s, backendRequest: 0s}", "retry": "{}"}, None, None, 2),
        ({"timeouts": "{request: 2s, backendRequest: 0s}"}, 2.0, None, 2),
    ],
)
def test_timeouts_and_tries(fields, timeout, per_try, attempts):
    details = ask(view(SERVICES + route(f"[{to('a', **fields)}]"))).details
    retries = details["retries"]
    assert (details["timeout_s"], retries["per_try_timeout_s"], retries["attempts"]) == (timeout, per_try, attempts)


def test_retries():
    def retries(text):
        return ask(view(SERVICES + route(f"[{to('a', retry=text)}]"))).details["retries"]

    given = retries("{codes: [500, 429], backoff: 100ms}")
    assert given["retry_on"] == [
        "cancelled",
        "connect-failure",
        "refused-stream",
        "retriable-status-codes",
        "unavailable",
    ]
    assert (given["status_codes"], given["backoff_s"]["base"]) == ([429, 500], 0.1)
    assert "retriable-status-codes" not in retries("{}")["retry_on"]
    assert retries("{attempts: 0}") is None


def test_mirrors_by_share():
    def mirror(name, share):
        return f"{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}{share}}}}}"

    shares = (
        ("b", ""),
        ("c", ", percent: 20"),
        ("d", ", fraction: {numerator: 1, denominator: 3}"),
        ("e", ", percent: 0"),
    )
    filters = [mirror(name, share) for name, share in shares]
    filters.append("{type: RequestMirror, requestMirror: {backendRef: {group: x, kind: Y, name: z}}}")
    decision = ask(view(SERVICES + route(f"[{to('a', filters='[' + ', '.join(filters) + ']')}]")))
    copied = [(m["host"].partition(".")[0], m["percentage"]) for m in decision.details["mirrors"]]
    assert copied == [("b", 100.0), ("c", 20.0), ("d", 33.3333)]
    assert any("mirror Y z: kind Y of group 'x' is not supported" in line for line in decision.reasons)


def test_headers_of_a_single_backend_run_with_the_rules_and_of_several_before_them():
    def headers(value):
        return (
            f"filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x, value: {value}}}]}}}}]"
        )

    def sent(refs):
        ready = "---\n".join(["", *(endpoint_slice(n, "v1", (f"10.0.0.{i}", 80)) for i, n in enumerate("ab", 1))])
        decision = ask(view(SERVICES + ready + route(f"[{{{headers('rule')}, backendRefs: [{refs}]}}]")))
        return [dict(d.sends.headers)["x"] for d in decision.destinations]

    own = f"{{name: a, port: 80, {headers('backend')}}}"
    assert sent(own) == ["backend"]
    assert sent(f"{own}, {{name: b, port: 80}}") == ["rule", "rule"]


def test_a_host_header_that_a_filter_sets_is_the_authority():
    headers = "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: example.org}]}}]"
    assert ask(view(SERVICES + route(f"[{to('a', filters=headers)}]"))).details["rewrite"]["authority"] == "example.org"


def test_weights_are_shares_of_their_sum_and_zero_is_dropped():
    refs = ", ".join(f"{{name: {name}, port: 80, weight: {weight}}}" for name, weight in (("a", 1), ("b", 3), ("c", 0)))
    decision = ask(view(SERVICES + route(f"[{{backendRefs: [{refs}]}}]")))
    assert [(d.host.partition(".")[0], d.weight) for d in decision.destinations] == [("a", 25.0), ("b", 75.0)]


def test_policies_of_a_destination_rule_hold_for_a_backend():
    rule = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
"""
    decision = ask(
        view(SERVICES + "---\n" + endpoint_slice("a", "v1", ("10.0.0.1", 80)) + rule + route(f"[{to('a')}]"))
    )
    assert decision.destinations[0].load_balancer == "RING_HASH"
    assert decision.details["hash_key"]["sources"] == [{"source": "header", "name": "x-user"}]


# What is told -------------------------------------------------------------------------------------------------------


def test_explain_names_the_object_the_rule_and_the_match():
    other = to("b", name="canary", matches="[{path: {value: /b}}, {path: {value: /c}}]", timeouts="{request: 2s}")
    rules = f"[{to('a', matches='[{path: {value: /a}}]')}, {other}]"
    decision = ask(view(SERVICES + route(rules)), "http://svc/c/x").to_dict()
    assert (decision["virtual_service"], decision["resource"]) == (None, "HTTPRoute default/r")
    assert decision["route"] == {"index": 1, "match": 1, "name": "canary"}
    assert [(verdict["rule"], verdict["verdict"]) for verdict in decision["rules"]] == [
        ("HTTPRoute default/r rule 0 ('default.r.0')", "uri is '/c/x', wanted segment prefix '/a'"),
        ("HTTPRoute default/r rule 1 ('canary')", "uri is '/c/x', wanted segment prefix '/b'"),
        ("HTTPRoute default/r rule 1.1 ('canary')", "matches"),
    ]
    assert decision["origins"]["timeout"] == "HTTPRoute default/r spec.rules[1].timeouts"
    assert decision["origins"]["retries"] == "built-in"


def test_what_can_never_be_reached_is_told():
    old = route(f"[{to('a', matches='[{path: {value: /}}]')}]", name="all")
    young = route(f"[{to('b', matches='[{path: {type: RegularExpression, value: /x}}]')}]", name="some")
    [verdict] = [v for v in ask(view(SERVICES + old + young), "http://svc/x").rules if not v.tried]
    assert verdict.rule.startswith("HTTPRoute default/some rule 0")
    assert verdict.verdict == "HTTPRoute default/all rule 0 before it matches everything"


def test_the_text_of_explain_tells_what_is_answered_with_500():
    refs = "{name: a, port: 80, weight: 3}, {group: inference.networking.k8s.io, kind: InferencePool, name: pool}"
    text = "\n".join(decision_lines(ask(view(SERVICES + route(f"[{{backendRefs: [{refs}]}}]"))), "GET", "http://svc/"))
    assert "HTTPRoute default/r, rule 0 ('default.r.0')" in text
    assert "InferencePool pool: kind InferencePool of group 'inference.networking.k8s.io' is not supported" in text
    assert "25% of such requests are answered with 500" in text


def test_config_routes_lists_the_rules_in_the_order_they_are_tried():
    rules = f"[{to('a')}, {to('b', matches='[{path: {type: Exact, value: /x}}]')}]"
    rows = [row for row in routes(Snapshot(view(SERVICES + route(rules)))) if row["resource"]]
    assert [(row["resource"], row["rule"], row["match"]) for row in rows] == [
        ("HTTPRoute default/r", 1, "path exact /x"),
        ("HTTPRoute default/r", 0, "*"),
    ]
