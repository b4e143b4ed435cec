"""ServiceEntry and WorkloadEntry as Istio reads them: resolutions, ports, addresses, selection, merging, visibility."""

from __future__ import annotations

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.model.cluster import Discovery
from meshlib.model.endpoint import Health, Locality
from meshlib.model.snapshot import Client

HOST = "svc.example"
NAME = f"outbound|80||{HOST}"


def entry(rest, name="e", ports="[{number: 80, name: http, protocol: HTTP}]", host=HOST, metadata="", status=""):
    meta = f"metadata: {{name: {name}, namespace: default{metadata}}}"
    head = f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n{meta}"
    return f"{head}\nspec:\n  hosts: [{host}]\n  ports: {ports}\n{rest}\n{status}"


def workload(name, spec, metadata="", status="", namespace="default"):
    head = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
    return f"{head}metadata: {{name: {name}, namespace: {namespace}{metadata}}}\nspec: {{{spec}}}\n{status}"


def universe(*texts, mesh=None):
    loaded = load_text("\n---\n".join(texts))
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources, mesh=MeshConfig.model_validate(mesh or {}))


def endpoints(*texts, name=NAME):
    view = universe(*texts).view(Client())
    return [endpoint for group in view.assignment(name) for endpoint in group.endpoints]


def keys(*texts, name=NAME):
    return sorted(endpoint.key for endpoint in endpoints(*texts, name=name))


STATIC = "  resolution: STATIC\n"
SELECTED = STATIC + "  workloadSelector: {labels: {app: svc}}"


@pytest.mark.parametrize(
    ("rest", "discovery", "found"),
    [
        ("  resolution: NONE", Discovery.ORIGINAL_DST, []),
        ("  resolution: DYNAMIC_DNS", Discovery.ORIGINAL_DST, []),
        (STATIC + "  endpoints: [{address: 10.0.0.1}]", Discovery.ENDPOINTS, ["10.0.0.1:80"]),
        (STATIC + "  endpoints: [{address: 'unix:///run/s'}]", Discovery.ENDPOINTS, ["unix:///run/s"]),
        ("  resolution: DNS", Discovery.STRICT_DNS, ["svc.example:80"]),
        ("  resolution: DNS\n  endpoints: [{address: a.example}]", Discovery.STRICT_DNS, ["a.example:80"]),
        ("  resolution: DNS_ROUND_ROBIN", Discovery.LOGICAL_DNS, ["svc.example:80"]),
    ],
)
def test_each_resolution_finds_its_endpoints(rest, discovery, found):
    view = universe(entry(rest)).view(Client())
    assert view.cluster(NAME).discovery is discovery
    assert keys(entry(rest)) == found


def test_one_host_may_race_all_its_addresses():
    note = ", annotations: {istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT}"
    view = universe(entry("  resolution: DNS", metadata=note)).view(Client())
    assert view.cluster(NAME).discovery is Discovery.LOGICAL_DNS


def test_a_host_resolved_on_demand_has_neither_subsets_nor_a_balancer():
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: '*.example', "
        "subsets: [{name: s}], trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {}}}"
    )
    view = universe(entry("  resolution: DYNAMIC_DNS", host="'*.example'"), rule).view(Client())
    assert view.cluster("outbound|80|s|*.example") is None
    found = view.cluster("outbound|80||*.example")
    assert (found.load_balancer.kind.value, found.outlier_detection is None) == ("LEAST_REQUEST", False)


def test_the_mesh_says_when_failed_lookups_are_repeated():
    given = entry("  resolution: DNS")
    assert universe(given).view(Client()).cluster(NAME).dns_refresh == 60.0
    assert universe(given, mesh={"dnsRefreshRate": "5s"}).view(Client()).cluster(NAME).dns_refresh == 5.0


def test_the_port_of_an_endpoint_is_its_own_then_the_target_then_the_number():
    ports = "[{number: 80, name: http, protocol: HTTP, targetPort: 8080}]"
    rest = STATIC + "  endpoints: [{address: 10.0.0.1, ports: {http: 9000}}, {address: 10.0.0.2, ports: {x: 1}}]"
    assert keys(entry(rest, ports=ports)) == ["10.0.0.1:9000", "10.0.0.2:8080"]
    assert keys(entry(rest)) == ["10.0.0.1:9000", "10.0.0.2:80"]
    none = universe(entry("  resolution: NONE", ports=ports)).view(Client()).cluster(NAME)
    assert none.target_port == 8080


def test_an_endpoint_keeps_all_it_is_given():
    rest = (
        STATIC + "  endpoints:\n  - {address: 10.0.0.1, weight: 5, network: n, locality: r/z/s, serviceAccount: sa, "
        "labels: {app: a, version: v, topology.istio.io/network: other}}\n"
        "  - {address: 10.0.0.2, labels: {istio-locality: r.y, security.istio.io/tlsMode: istio}}\n"
        "  - {address: 10.0.0.3, serviceAccount: sa, labels: {security.istio.io/tlsMode: disabled}}\n"
        "  - {address: 10.0.0.4, locality: a.b}"
    )
    one, two, three, four = endpoints(entry(rest))
    assert (one.weight, one.network, one.locality) == (5, "n", Locality("r", "z", "s"))
    assert (one.accepts_mtls, one.workload.service_account) == (True, "sa")
    assert (one.workload.canonical_name, one.workload.canonical_revision) == ("a", "v")
    assert (two.locality, two.weight, two.accepts_mtls) == (Locality("r", "y"), 1, True)
    assert not three.accepts_mtls
    assert four.locality == Locality("a.b"), "only labels write dots for slashes"


# Selection ----------------------------------------------------------------------------------------------------------


def test_workloads_are_selected_by_labels_in_the_namespace_of_the_entry():
    found = keys(
        entry(SELECTED),
        workload("a", "address: 10.0.0.1, labels: {app: svc}, ports: {http: 8080}"),
        workload("b", "address: 10.0.0.2, labels: {app: other}", ", labels: {app: svc}"),
        workload("c", "address: 10.0.0.3, labels: {app: other}"),
        workload("d", "address: 10.0.0.4, labels: {app: svc}", namespace="far"),
        workload("e", "address: name.example, labels: {app: svc}"),
        workload("f", "address: 'unix:///run/f', labels: {app: svc}"),
    )
    assert found == ["10.0.0.1:8080", "10.0.0.2:80", "unix:///run/f"]


def test_names_join_services_that_are_resolved_and_nothing_else():
    rest = "  resolution: DNS\n  workloadSelector: {labels: {app: svc}}"
    named = workload("e", "address: name.example, labels: {app: svc}")
    assert keys(entry(rest), named) == ["name.example:80"]
    assert keys(entry(rest)) == [], "a selector stands for the endpoints, even while it selects none"


def test_a_selector_without_labels_selects_nothing():
    given = workload("a", "address: 10.0.0.1, labels: {app: svc}")
    assert keys(entry(STATIC + "  workloadSelector: {labels: {}}"), given) == []


def pod(name, labels="app: svc", status="podIP: 10.0.0.9", spec="", namespace="default"):
    meta = f"metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}"
    return f"apiVersion: v1\nkind: Pod\n{meta}\nspec: {{{spec}}}\nstatus: {{{status}}}"


def test_pods_are_selected_with_their_named_ports_while_they_are_ready():
    named = "containers: [{name: c, ports: [{name: http, containerPort: 8080}]}], serviceAccountName: sa"
    found = endpoints(
        entry(SELECTED),
        pod("a", spec=named),
        pod("b", "app: svc", "podIP: 10.0.0.8, conditions: [{type: Ready, status: 'False'}]"),
        pod("c", "app: svc", "podIP: 10.0.0.7, phase: Succeeded"),
        pod("d", "app: svc", "phase: Pending"),
        pod("e", "app: other", "podIP: 10.0.0.6"),
        pod("f", "app: svc", "podIP: 10.0.0.5, conditions: [{type: Ready, status: 'True'}]"),
        pod("g", "app: svc", "podIP: 10.0.0.4", namespace="far"),
    )
    assert sorted(e.key for e in found) == ["10.0.0.5:80", "10.0.0.9:8080"]
    assert {e.workload.service_account for e in found} == {"sa", ""}
    assert keys(entry(SELECTED.replace("STATIC", "DNS")), pod("a")) == []


@pytest.mark.parametrize(
    ("metadata", "status", "health"),
    [
        ("", "", Health.HEALTHY),
        ("", "status: {conditions: [{type: Healthy, status: 'True'}]}", Health.HEALTHY),
        ("", "status: {conditions: [{type: Healthy, status: 'False'}]}", Health.UNHEALTHY),
        (", annotations: {proxy.istio.io/health-checks-enabled: 'true'}", "", Health.UNHEALTHY),
        (
            ", annotations: {proxy.istio.io/health-checks-enabled: 'true'}",
            "status: {conditions: [{type: Healthy, status: 'True'}]}",
            Health.HEALTHY,
        ),
        (", labels: {istio.io/draining: 'true'}", "", Health.DRAINING),
    ],
)
def test_the_health_of_a_workload_entry(metadata, status, health):
    given = workload("a", "address: 10.0.0.1, labels: {app: svc}", metadata, status)
    assert [e.health for e in endpoints(entry(SELECTED), given)] == [health]


# Addresses ----------------------------------------------------------------------------------------------------------


def test_virtual_addresses_stand_for_the_host():
    view = universe(entry(STATIC + "  addresses: [192.0.2.1, 198.51.100.0/24]\n  endpoints: [{address: 10.0.0.1}]"))
    view = view.view(Client())
    assert view.virtual_host("192.0.2.1", 80).name == HOST
    assert view.virtual_host("203.0.113.1", 80) is None


def test_allocated_addresses_count_where_none_are_written():
    status = "status: {addresses: [{value: 240.240.0.1, host: svc.example}, {value: 240.240.0.2, host: other}]}"
    found = universe(entry("  resolution: DNS", status=status))
    assert found.registry.named(HOST)[0].addresses == ("240.240.0.1",)
    written = universe(entry("  resolution: DNS\n  addresses: [192.0.2.1]", status=status))
    assert written.registry.named(HOST)[0].addresses == ("192.0.2.1",)


# Several objects ----------------------------------------------------------------------------------------------------

OTHER = "[{number: 81, name: http-2, protocol: HTTP}]"
AGE = ", creationTimestamp: '2024-0{}-01T00:00:00Z'"


def test_entries_of_one_host_that_agree_are_one_service():
    one = entry(STATIC + "  endpoints: [{address: 10.0.0.1}]", "a", metadata=AGE.format(1))
    two = entry(STATIC + "  endpoints: [{address: 10.0.0.2}]", "b", ports=OTHER, metadata=AGE.format(2))
    assert [p.number for p in universe(one, two).registry.named(HOST)[0].ports] == [80, 81]
    assert keys(one, two) == ["10.0.0.1:80"]
    assert keys(one, two, name=f"outbound|81||{HOST}") == ["10.0.0.2:81"]


@pytest.mark.parametrize(
    ("rest", "metadata"),
    [
        ("  resolution: DNS", ""),
        (STATIC + "  exportTo: ['.']", ""),
        (STATIC, ", labels: {a: b}"),
        (STATIC + "  workloadSelector: {labels: {app: x}}", ""),
    ],
)
def test_of_entries_that_differ_the_older_counts(rest, metadata):
    one = entry(STATIC + "  endpoints: [{address: 10.0.0.1}]", "a", metadata=AGE.format(1))
    two = entry(rest, "b", ports=OTHER, metadata=AGE.format(2) + metadata)
    assert [p.number for p in universe(two, one).registry.named(HOST)[0].ports] == [80]


BOUND = {"applyToSidecars": True, "defaultVisibility": "PUBLIC"}
POLICY = {"matchingRules": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}]}


@pytest.mark.parametrize(
    ("bound", "export", "seen"),
    [
        ({**BOUND}, "['*']", (True, True)),
        ({**BOUND, "policies": [{**POLICY, "visibility": "NAMESPACE"}]}, "['*']", (True, False)),
        ({**BOUND, "policies": [{**POLICY, "visibility": "NONE"}]}, "['*']", (False, False)),
        ({**BOUND, "defaultVisibility": "NAMESPACE"}, "[other]", (False, False)),
        ({"defaultVisibility": "NONE"}, "['*']", (True, True)),
    ],
)
def test_the_mesh_bounds_how_far_entries_are_seen(bound, export, seen):
    given = entry(STATIC + f"  exportTo: {export}")
    found = universe(given, mesh={"serviceEntryVisibility": bound})
    hosts = [found.view(Client(space)).virtual_host(HOST, 80) is not None for space in ("default", "other")]
    assert tuple(hosts) == seen
