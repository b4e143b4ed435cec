"""From objects to decisions: the semantics that Istio's reference states, asked through ``explain``."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

from meshlib.cli.commands import meshlib
from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.model.policy import BalancerKind
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import data_cases, endpoint_slice, service


def view(text, namespace="default", labels=None):
    loaded = load_text(text)
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources).view(Client(namespace, labels or {}))


def ask(source, url, method="GET", headers=None):
    world = Prepared(Snapshot(source), State(), 0.0, random.Random(1))
    return explain(world, request_of(method, url, headers or {}))


def subsets(decision):
    return [(d.host.partition(".")[0], d.subset, d.weight) for d in decision.destinations]


def virtual_service(name, hosts, http, namespace="default", extra="", created=None):
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return f"""---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}{stamp}}}
spec:
  hosts: {hosts}
{extra}
  http: {http}
"""


def destination_rule(host, policy="{}", subsets="[]", namespace="default", name=None):
    body = f"  trafficPolicy: {policy}\n" if policy != "{}" else ""
    return f"""---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name or "dr"}, namespace: {namespace}}}
spec:
  host: "{host}"
{body}  subsets: {subsets}
"""


SEED = (
    service("reviews", 80)
    + "---\n"
    + endpoint_slice("reviews", "v1", ("10.0.0.1", 80))
    + "---\n"
    + endpoint_slice("reviews", "v2", ("10.0.0.2", 80))
    + """---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - match:
    - uri:
        prefix: /user
    route:
    - destination:
        host: reviews
        subset: v1
  - route:
    - destination:
        host: reviews
        subset: v2
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: reviews
spec:
  host: reviews
  subsets:
  - name: v1
    labels:
      version: v1
    trafficPolicy:
      loadBalancer:
        simple: ROUND_ROBIN
  - name: v2
    labels:
      version: v2
    trafficPolicy:
      loadBalancer:
        simple: LEAST_CONN
"""
)


def test_the_seed_of_the_fields_examples():
    source = view(SEED)
    user, other = ask(source, "http://reviews/user/7"), ask(source, "http://reviews/other")
    assert [(d.subset, d.endpoints, d.load_balancer) for d in user.destinations] == [
        ("v1", ("10.0.0.1:80",), "ROUND_ROBIN")
    ]
    assert [(d.subset, d.endpoints, d.load_balancer) for d in other.destinations] == [
        ("v2", ("10.0.0.2:80",), "LEAST_REQUEST")
    ]


@pytest.mark.parametrize(
    ("name", "namespace", "known"),
    [
        ("reviews", "default", True),
        ("REVIEWS", "default", True),
        ("reviews", "other", False),
        ("reviews.default", "other", True),
        ("reviews.default.svc", "other", True),
        ("reviews.default.svc.cluster.local", "other", True),
        ("reviews.default.svc.cluster.local.", "other", True),
        ("reviews.prod", "default", False),
    ],
)
def test_host_spellings(name, namespace, known):
    source = view(SEED.replace("metadata: {name: reviews}", "metadata: {name: reviews, namespace: default}"), namespace)
    assert (ask(source, f"http://{name}/").action == "route") is known


def test_wildcard_hosts_give_way_to_the_more_specific():
    entries = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: all}
spec: {hosts: ["*.example.com"], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one}
spec:
  hosts: [a.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.9.9.9}]
"""
    source = view(entries)
    assert ask(source, "http://a.example.com/").destinations[0].endpoints == ("10.9.9.9:80",)
    assert ask(source, "http://x.b.example.com/").destinations[0].host == "*.example.com"
    assert ask(source, "http://example.com/").action == "passthrough"


RULES = """
  - match: [{uri: {exact: /exact}, ignoreUriCase: true}]
    route: [{destination: {host: svc, subset: exact}}]
  - match: [{uri: {regex: "/r[0-9]+"}}]
    route: [{destination: {host: svc, subset: regex}}]
  - match: [{method: {exact: DELETE}}]
    route: [{destination: {host: svc, subset: method}}]
  - match: [{authority: {prefix: "svc.default"}}]
    route: [{destination: {host: svc, subset: authority}}]
  - match: [{scheme: {exact: https}}]
    route: [{destination: {host: svc, subset: scheme}}]
  - match: [{headers: {x-exact: {exact: "1"}}}]
    route: [{destination: {host: svc, subset: header}}]
  - match: [{headers: {x-there: {}}}]
    route: [{destination: {host: svc, subset: presence}}]
  - match: [{queryParams: {q: {exact: "1"}}}]
    route: [{destination: {host: svc, subset: query}}]
  - match: [{withoutHeaders: {x-must: {exact: "1"}}, headers: {x-without: {}}}]
    route: [{destination: {host: svc, subset: without}}]
  - match: [{sourceLabels: {app: caller}, uri: {prefix: /labels}}]
    route: [{destination: {host: svc, subset: labels}}]
  - match: [{port: 81}]
    route: [{destination: {host: svc, subset: port}}]
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: svc, subset: rest}}]
"""
ALL = "exact regex method authority scheme header presence query without labels port rest".split()


@pytest.mark.parametrize(
    ("url", "method", "headers", "subset"),
    [
        ("http://svc/EXACT", "GET", {}, "exact"),
        ("http://svc/exact?q=1", "GET", {}, "exact"),
        ("http://svc/r12", "GET", {}, "regex"),
        ("http://svc/r12x", "GET", {}, "rest"),
        ("http://svc/", "DELETE", {}, "method"),
        ("http://svc/", "delete", {}, "rest"),
        ("http://svc.default/", "GET", {}, "authority"),
        ("http://svc/", "GET", {"X-Exact": "1"}, "header"),
        ("http://svc/", "GET", {"X-Exact": "2"}, "rest"),
        ("http://svc/", "GET", {"x-there": ""}, "presence"),
        ("http://svc/?q=1", "GET", {}, "query"),
        ("http://svc/?q=2&q=1", "GET", {}, "rest"),
        ("http://svc/?q=%31", "GET", {}, "rest"),
        ("http://svc/", "GET", {"x-without": "1"}, "without"),
        ("http://svc/", "GET", {"x-without": "1", "x-must": "2"}, "without"),
        ("http://svc/", "GET", {"x-without": "1", "x-must": "1"}, "rest"),
        ("http://svc/labels", "GET", {}, "labels"),
        ("http://svc:81/", "GET", {}, "port"),
        ("http://svc/a/../r7", "GET", {}, "regex"),
    ],
)
def test_every_kind_of_match(url, method, headers, subset):
    ports = "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\n"
    ports += "spec: {ports: [{name: http, port: 80}, {name: http-2, port: 81}]}\n"
    named = ", ".join(f"{{name: {name}}}" for name in ALL)
    text = ports + virtual_service("svc", "[svc]", RULES) + destination_rule("svc", subsets=f"[{named}]")
    source = view(text, labels={"app": "caller", "version": "v1"})
    assert ask(source, url, method, headers).destinations[0].subset == subset


def test_what_follows_a_catch_all_is_never_reached_and_explained_so():
    http = "[{route: [{destination: {host: svc}}]}, {match: [{uri: {prefix: /x}}], redirect: {uri: /y}}]"
    decision = ask(view(service("svc", 80) + virtual_service("svc", "[svc]", http)), "http://svc/x")
    assert decision.action == "route"
    assert "rule 1: rule 0 before it matches everything" in decision.reasons


def test_a_service_that_yields_no_rule_for_this_caller_has_its_default_route():
    http = "[{match: [{sourceLabels: {app: x}}], route: [{destination: {host: svc, subset: v9}}]}]"
    text = service("svc", 80) + virtual_service("svc", "[svc]", http)
    decision = ask(view(text, labels={"app": "y"}), "http://svc/")
    assert (decision.action, decision.virtual_service) == ("route", None)
    more = http[:-1] + ", {match: [{uri: {prefix: /v2}}], route: [{destination: {host: svc}}]}]"
    text = service("svc", 80) + virtual_service("svc", "[svc]", more)
    assert ask(view(text, labels={"app": "y"}), "http://svc/v1").flag == "NR"


def test_two_virtual_services_for_a_host_the_older_decides():
    one = "[{route: [{destination: {host: svc, subset: one}}]}]"
    two = "[{route: [{destination: {host: svc, subset: two}}]}]"
    young = virtual_service("a", "[svc]", two, created="2024-02-01T00:00:00Z")
    old = virtual_service("b", "[svc]", one, created="2024-01-01T00:00:00Z")
    text = service("svc", 80) + young + old
    assert ask(view(text), "http://svc/").destinations[0].subset == "one"
    private = young.replace("spec:", 'spec:\n  exportTo: ["."]')
    assert ask(view(service("svc", 80) + private + old), "http://svc/").destinations[0].subset == "two"


def test_a_virtual_service_for_a_gateway_does_not_concern_the_mesh():
    http = "[{route: [{destination: {host: svc, subset: v9}}]}]"
    text = service("svc", 80) + virtual_service("svc", "[svc]", http, extra="  gateways: [my-gateway]")
    assert ask(view(text), "http://svc/").virtual_service is None


def test_weights_are_shares_of_their_sum_and_zero_is_dropped():
    routes = "".join(
        f"{{destination: {{host: svc, subset: {s}}}, weight: {w}}}," for s, w in (("a", 1), ("b", 3), ("c", 0))
    )
    text = service("svc", 80) + virtual_service("svc", "[svc]", f"[{{route: [{routes}]}}]")
    assert [(d.subset, d.weight) for d in ask(view(text), "http://svc/").destinations] == [("a", 25.0), ("b", 75.0)]


def test_a_missing_subset_is_no_cluster_and_the_rest_stands():
    http = "[{match: [{uri: {prefix: /a}}], route: [{destination: {host: svc, subset: v9}}]}, "
    http += "{route: [{destination: {host: svc}}]}]"
    source = view(
        service("svc", 80)
        + "---\n"
        + endpoint_slice("svc", "v1", ("10.0.0.1", 80))
        + virtual_service("svc", "[svc]", http)
    )
    assert ask(source, "http://svc/a").flag == "NC"
    assert ask(source, "http://svc/b").flag == ""


POLICY = (
    "{connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {}, "
    "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"
)
SUBSETS = (
    "[{name: v1, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}, "
    "{name: v2, trafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}}]"
)


@pytest.mark.parametrize(
    ("port", "subset", "kind", "limited", "ejects"),
    [
        (80, "", "RANDOM", False, False),
        (81, "", "LEAST_REQUEST", True, True),
        (80, "v1", "ROUND_ROBIN", False, False),
        (81, "v1", "ROUND_ROBIN", True, True),
        (81, "v2", "LEAST_REQUEST", False, False),
    ],
)
def test_policies_replace_each_other_block_by_block(port, subset, kind, limited, ejects):
    ports = "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\n"
    ports += "spec: {ports: [{name: http, port: 80}, {name: http-2, port: 81}]}\n"
    source = view(ports + destination_rule("svc", POLICY, SUBSETS))
    cluster = source.cluster(f"outbound|{port}|{subset}|svc.default.svc.cluster.local")
    assert cluster is not None
    assert cluster.load_balancer.kind is BalancerKind[kind]
    assert (cluster.circuit_breaker.max_connections == 5) is limited
    assert (cluster.outlier_detection is not None) is ejects


def test_a_wildcard_rule_at_home_hides_the_services_own():
    text = service("a", 80).replace("{name: a}", "{name: a, namespace: prod}")
    text += destination_rule("*.svc.cluster.local", "{loadBalancer: {simple: RANDOM}}", namespace="client", name="wild")
    text += destination_rule("a.prod.svc.cluster.local", "{loadBalancer: {simple: ROUND_ROBIN}}", namespace="prod")
    for namespace, kind in (("client", "RANDOM"), ("third", "ROUND_ROBIN")):
        cluster = view(text, namespace).cluster("outbound|80||a.prod.svc.cluster.local")
        assert cluster is not None
        assert cluster.load_balancer.kind.value == kind


def test_sidecar_scope_and_registry_only():
    sidecar = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  egress: [{hosts: ["./a.default.svc.cluster.local"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"""
    source = view(service("a", 80) + "---\n" + service("b", 80) + sidecar)
    assert ask(source, "http://a/").action == "route"
    assert (ask(source, "http://b/").action, ask(source, "http://b/").flag) == ("none", "NR")


def test_retries_as_istio_reads_them():
    def retries(text):
        http = f"[{{route: [{{destination: {{host: svc}}}}], retries: {text}}}]"
        details = ask(view(service("svc", 80) + virtual_service("svc", "[svc]", http)), "http://svc/").details
        return details["retries"]

    listed = retries('{attempts: 3, retryOn: "503,reset"}')
    assert (listed["attempts"], listed["retry_on"], listed["status_codes"]) == (
        3,
        ["reset", "retriable-status-codes"],
        [503],
    )
    assert retries("{attempts: 0}") is None
    assert ask(view(service("svc", 80)), "http://svc/").details["retries"]["attempts"] == 2


def test_a_fault_without_a_percentage_never_happens():
    http = "[{fault: {abort: {httpStatus: 503}}, route: [{destination: {host: svc}}]}]"
    details = ask(view(service("svc", 80) + virtual_service("svc", "[svc]", http)), "http://svc/").details
    assert details["fault"]["abort"]["percentage"] == 0


def test_unready_endpoints_are_known_and_not_picked():
    slice_ = endpoint_slice("svc", "v1", ("10.0.0.1", 80))
    unready = endpoint_slice("svc", "v2", ("10.0.0.2", 80)).replace(
        "]}]", "], conditions: {ready: false, terminating: false}}]"
    )
    gone = endpoint_slice("svc", "v3", ("10.0.0.3", 80)).replace("]}]", "], conditions: {ready: false}}]")
    decision = ask(view("---\n".join([service("svc", 80), slice_, unready, gone])), "http://svc/")
    assert decision.destinations[0].endpoints == ("10.0.0.1:80",)
    left_out = decision.destinations[0].left_out
    assert left_out == (("10.0.0.2:80", "not ready"), ("10.0.0.3:80", "terminating"))


@pytest.mark.parametrize("case", data_cases("samples/explain.json"))
def test_sample_decisions(case, shared_data):
    """Asked of the command itself, as a user would."""
    config = [part for file in case["files"] for part in ("--config", str(shared_data / file))]
    for probe in case["probes"]:
        asked = probe["request"]
        labels = ",".join(f"{name}={value}" for name, value in asked.get("source_labels", {}).items())
        headers = [part for pair in asked.get("headers", {}).items() for part in ("-H", ": ".join(pair))]
        options = ["-X", asked.get("method", "GET"), "--namespace", case["namespace"], "--labels", labels, *headers]
        result = CliRunner().invoke(meshlib, ["explain", asked["url"], *config, *options, "--output", "json"])
        assert result.exit_code == (1 if probe["expect"].get("no_route") else 0), result.output
        _compare(json.loads(result.stdout), probe["expect"])


def _compare(decision, wanted):
    if "destinations" in wanted:
        got = [{key: d[key] for key in ("host", "subset", "port", "weight")} for d in decision["destinations"]]
        assert got == wanted["destinations"]
    for subset, addresses in wanted.get("endpoints", {}).items():
        assert [d["endpoints"] for d in decision["destinations"] if d["subset"] == subset] == [addresses]
    if wanted.get("no_route"):
        assert decision["action"] == "none"
    if "redirect" in wanted:
        assert decision["redirect"] == {key: wanted["redirect"][key] for key in ("status", "location")}
    if wanted.get("tls"):
        assert decision["destinations"][0]["tls"] == wanted["tls"]
    if wanted.get("request_headers_add"):
        assert decision["headers"]["request"]["add"] == wanted["request_headers_add"]
    if "fault" in wanted:
        _compare_fault(decision["fault"], wanted["fault"])


def _compare_fault(got, wanted):
    if wanted is None:
        assert got is None
        return
    for kind, field, spelled in (("delay", "fixed_delay_s", "fixedDelay"), ("abort", "http_status", "httpStatus")):
        if kind in wanted:
            value = wanted[kind][spelled]
            assert got[kind]["percentage"] == wanted[kind]["percentage"]
            assert got[kind][field] == (float(value.rstrip("s")) if kind == "delay" else value)
