"""Kubernetes objects as Istio reads them: what services, endpoints and their labels become."""

from __future__ import annotations

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.workloads import workload_name, workload_of
from meshlib.config.resources import ObjectMeta, load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.model.endpoint import Health, Locality
from meshlib.model.snapshot import Client

HOST = "svc.default.svc.cluster.local"
NAME = f"outbound|80||{HOST}"


def service(rest="", ports="[{name: http, port: 80}]", metadata=""):
    name = f"metadata: {{name: svc, namespace: default{metadata}}}"
    return f"apiVersion: v1\nkind: Service\n{name}\nspec: {{ports: {ports}{rest}}}"


def slices(endpoints, name="s", ports="[{name: http, port: 8080}]", kind="IPv4", labels=""):
    meta = f"metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: svc{labels}}}}}"
    items = "".join(f"- {{{each}}}\n" for each in endpoints)
    head = f"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n{meta}\naddressType: {kind}\nports: {ports}\n"
    return f"{head}endpoints:\n{items}"


def pod(name="p", labels="app: svc", spec="", owner="", status=""):
    meta = f"metadata: {{name: {name}, namespace: default, labels: {{{labels}}}{owner}}}"
    return f"apiVersion: v1\nkind: Pod\n{meta}\nspec: {{{spec}}}\n{status}"


def node(name, labels):
    return f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}"


def space(name, labels="", annotations=""):
    meta = f"{{name: {name}, labels: {{{labels}}}, annotations: {{{annotations}}}}}"
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {meta}"


def universe(*texts, mesh=None, **options):
    loaded = load_text("\n---\n".join(texts))
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources, mesh=MeshConfig.model_validate(mesh or {}), **options)


def endpoints(*texts, client=None, name=NAME, **options):
    groups = universe(*texts, **options).view(client or Client()).assignment(name)
    return [endpoint for group in groups for endpoint in group.endpoints]


def addresses(*texts, **options):
    return [endpoint.address for endpoint in endpoints(*texts, **options)]


def of_pod(*more, labels="app: svc", spec="", owner="", **options):
    item = "addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}"
    return endpoints(service(), slices([item]), pod("p", labels, spec, owner), *more, **options)[0]


# Slices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "rest", "metadata", "health"),
    [
        ("", "", "", Health.HEALTHY),
        ("ready: true, terminating: true", "", "", Health.HEALTHY),
        ("ready: false, terminating: false", "", "", Health.UNHEALTHY),
        ("ready: false, terminating: true", "", "", None),
        ("ready: false", "", "", None),
        ("ready: false, terminating: false", ", publishNotReadyAddresses: true", "", Health.HEALTHY),
        ("ready: false, terminating: true", "", ", labels: {istio.io/persistent-session: c}", Health.DRAINING),
        ("ready: false", "", ", labels: {istio.io/persistent-session-header: h}", Health.DRAINING),
        ("ready: false, serving: false", "", ", labels: {istio.io/persistent-session: c}", None),
    ],
)
def test_conditions_are_health(conditions, rest, metadata, health):
    found = endpoints(
        service(rest, metadata=metadata), slices([f"addresses: [10.0.0.1], conditions: {{{conditions}}}"])
    )
    assert [endpoint.health for endpoint in found] == ([] if health is None else [health])


def test_slices_of_a_service_are_one_set_and_names_are_no_addresses():
    one, two = slices(["addresses: [10.0.0.1]", "addresses: [10.0.0.2]"]), slices(["addresses: [10.0.0.2]"], "t")
    three = slices(["addresses: ['fd00::1']"], "u", kind="IPv6")
    names = slices(["addresses: [a.example]"], "v", kind="FQDN")
    assert addresses(service(), one, two, three, names) == ["10.0.0.1", "10.0.0.2", "fd00::1"]


def test_a_slice_port_belongs_to_the_service_port_of_its_name():
    both = service(ports="[{name: http, port: 80}, {name: admin, port: 81}]")
    given = slices(["addresses: [10.0.0.1]"], ports="[{name: admin, port: 9000}, {name: http, port: 8080}]")
    assert [e.port for e in endpoints(both, given)] == [8080]
    assert [e.port for e in endpoints(both, given, name=f"outbound|81||{HOST}")] == [9000]
    assert addresses(service(), slices(["addresses: [10.0.0.1]"], ports="[{name: other, port: 8080}]")) == []
    unnamed = service(ports="[{port: 80}]")
    assert addresses(unnamed, slices(["addresses: [10.0.0.1]"], ports="[{port: 8080}]")) == ["10.0.0.1"]


def test_the_older_endpoints_object_is_read_without_slices():
    given = (
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: svc, namespace: default}\nsubsets:\n- addresses: [{ip: "
        "10.0.0.1, targetRef: {kind: Pod, name: p}}]\n  notReadyAddresses: [{ip: 10.0.0.2}]\n"
        "  ports: [{name: http, port: 8080}, {name: x, port: 1}]"
    )
    found = endpoints(service(), given, pod(labels="app: svc, version: v1"))
    assert [(e.key, e.health) for e in found] == [
        ("10.0.0.1:8080", Health.HEALTHY),
        ("10.0.0.2:8080", Health.UNHEALTHY),
    ]
    assert found[0].labels["version"] == "v1"


# Places and labels --------------------------------------------------------------------------------------------------


def test_a_pod_is_where_its_node_is_and_carries_the_labels_for_it():
    labels = "topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s"
    found = of_pod(
        node("n", labels), space("istio-system", "topology.istio.io/network: net"), spec="nodeName: n", cluster="c1"
    )
    assert found.locality == Locality("r", "z", "s")
    assert (found.network, found.workload.cluster) == ("net", "c1")
    assert dict(found.labels) == {
        "app": "svc",
        "topology.kubernetes.io/region": "r",
        "topology.kubernetes.io/zone": "z",
        "topology.istio.io/subzone": "s",
        "topology.istio.io/cluster": "c1",
        "topology.istio.io/network": "net",
        "kubernetes.io/hostname": "n",
    }


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ("app: a, istio-locality: r.z.s", Locality("r", "z", "s")),
        ("app: a, topology.istio.io/locality: r/z.1/s", Locality("r", "z.1", "s")),
        ("app: a", Locality("old", "old-z", "")),
    ],
)
def test_a_pods_own_label_gives_its_place_before_the_node_does(labels, place):
    old = "failure-domain.beta.kubernetes.io/region: old, failure-domain.beta.kubernetes.io/zone: old-z"
    assert of_pod(node("n", old), labels=labels, spec="nodeName: n").locality == place


def test_a_pods_own_network_goes_before_the_clusters():
    given = space("istio-system", "topology.istio.io/network: net")
    found = of_pod(given, labels="topology.istio.io/network: own")
    assert (found.network, found.labels["topology.istio.io/network"]) == ("own", "own")


def test_labels_that_mean_something():
    assert of_pod(labels="security.istio.io/tlsMode: istio").accepts_mtls
    assert not of_pod(labels="security.istio.io/tlsMode: disabled").accepts_mtls
    assert of_pod(labels="istio.io/draining: 'true'").health is Health.DRAINING
    assert of_pod(spec="serviceAccountName: sa").workload.service_account == "sa"


def test_a_change_of_nodes_and_pods_alone_is_a_change_of_endpoints():
    texts = [service(), slices(["addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}"]), pod(spec="nodeName: n")]
    before = universe(*texts, node("n", "topology.kubernetes.io/zone: a"))
    moved = load_text("\n---\n".join([*texts, node("n", "topology.kubernetes.io/zone: b")])).resources
    after = Universe(moved, before=before)
    assert after.has_routing_of(before)
    assert after.view(Client()).assignment(NAME)[0].locality == Locality("", "b", "")


# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "labels", "name"),
    [
        ("", {}, "p"),
        ("{kind: ReplicaSet, name: web-abc, controller: true}", {"pod-template-hash": "abc"}, "web"),
        ("{kind: ReplicaSet, name: web-abc, controller: true}", {}, "web-abc"),
        ("{kind: StatefulSet, name: db, controller: true}", {}, "db"),
        ("{kind: Job, name: nightly-28912345, controller: true}", {}, "nightly"),
        ("{kind: Job, name: once, controller: true}", {}, "once"),
        ("{kind: DaemonSet, name: agent, controller: false}", {}, "p"),
    ],
)
def test_a_workload_is_named_for_what_made_its_pods(owner, labels, name):
    import yaml

    owners = [yaml.safe_load(owner)] if owner else []
    assert workload_name(ObjectMeta.model_validate({"name": "p", "labels": labels, "ownerReferences": owners})) == name


def test_canonical_names_have_an_order():
    labels = {"app": "a", "version": "v"}
    assert workload_of({}, "w", "ns")[2:4] == ("w", "latest")
    assert workload_of(labels, "w", "ns")[2:4] == ("a", "v")
    labels |= {"app.kubernetes.io/name": "k", "app.kubernetes.io/version": "kv"}
    assert workload_of(labels, "w", "ns")[2:4] == ("k", "kv")
    labels |= {"service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "cr"}
    assert workload_of(labels, "w", "ns")[2:4] == ("c", "cr")


# Services -----------------------------------------------------------------------------------------------------------


def test_internal_traffic_policy_local_keeps_to_the_callers_node():
    local = service(", internalTrafficPolicy: Local")
    given = slices(["addresses: [10.0.0.1], nodeName: here", "addresses: [10.0.0.2], nodeName: there"])
    assert addresses(local, given, client=Client(node="here")) == ["10.0.0.1"]
    assert addresses(service(), given, client=Client(node="here")) == ["10.0.0.1", "10.0.0.2"]
    assert len(addresses(local, given)) == 2, "a caller that does not know its node cannot tell"


def test_cluster_local_hosts_keep_to_the_callers_cluster():
    given = (
        slices(["addresses: [10.0.0.1]"]),
        slices(["addresses: [10.0.0.2]"], "t", labels=", topology.istio.io/cluster: far"),
    )
    mesh = {"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.default.svc.cluster.local"]}]}
    options = {"client": Client(cluster="near"), "cluster": "near"}
    assert addresses(service(), *given, **options) == ["10.0.0.1", "10.0.0.2"]
    assert addresses(service(), *given, mesh=mesh, **options) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("spec", "metadata", "notes", "expected"),
    [
        (", trafficDistribution: PreferClose", "", "", "PreferSameZone"),
        (
            ", trafficDistribution: PreferSameNode",
            ", annotations: {networking.istio.io/traffic-distribution: PreferClose}",
            "",
            "PreferSameNode",
        ),
        ("", ", annotations: {networking.istio.io/traffic-distribution: PREFERSAMEZONE}", "", "PreferSameZone"),
        ("", "", "networking.istio.io/traffic-distribution: prefersamenode", "PreferSameNode"),
        (", trafficDistribution: Whatever", "", "", None),
    ],
)
def test_traffic_distribution_of_field_annotation_and_namespace(spec, metadata, notes, expected):
    found = universe(service(spec, metadata=metadata), space("default", annotations=notes))
    assert found.registry.named(HOST)[0].traffic_distribution == expected


def test_the_same_node_comes_before_the_same_zone():
    labels = "topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z"
    given = slices([f"addresses: [10.0.0.{n}], nodeName: n{n}" for n in (1, 2, 3)])
    nodes = [node("n1", labels), node("n2", labels), node("n3", labels.replace("zone: z", "zone: y"))]
    client = Client(locality=Locality("r", "z"), node="n2")
    view = universe(service(", trafficDistribution: PreferSameNode"), given, *nodes).view(client)
    assert {e.address: g.priority for g in view.assignment(NAME) for e in g.endpoints} == {
        "10.0.0.2": 0,
        "10.0.0.1": 1,
        "10.0.0.3": 2,
    }


def test_an_export_annotation_hides_a_service():
    note = ", annotations: {networking.istio.io/exportTo: 'other, .'}"
    found = universe(service(metadata=note))
    seen = {n: found.view(Client(n)).virtual_host(HOST, 80) is not None for n in ("default", "other", "third")}
    assert seen == {"default": True, "other": True, "third": False}


MEMBERS = (
    service(", clusterIP: None"),
    slices(["addresses: [10.0.0.1], hostname: svc-0", "addresses: [10.0.0.2], targetRef: {kind: Pod, name: svc-1}"]),
    pod("svc-1", spec="subdomain: svc"),
)


@pytest.mark.parametrize("spelling", ["svc-1.svc", "svc-1.svc.default", f"svc-1.{HOST}"])
def test_a_member_of_a_headless_service_is_reached_by_its_own_name(spelling):
    view = universe(*MEMBERS).view(Client())
    name = view.virtual_host(spelling, 80).routes[0].action.clusters[0].cluster
    assert name == f"outbound|80||svc-1.{HOST}"
    assert view.cluster(name).service == HOST
    assert [e.address for g in view.assignment(name) for e in g.endpoints] == ["10.0.0.2"]
    assert len(endpoints(*MEMBERS)) == 2, "the service itself stands for all of them"


def test_rules_and_subsets_of_a_headless_service_hold_for_its_members():
    rules = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc}\nspec: {hosts: [svc], http: "
        "[{timeout: 3s, route: [{destination: {host: svc, subset: all}}]}]}",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\nspec: {host: svc, subsets: "
        "[{name: all}], trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}",
    )
    view = universe(*MEMBERS, *rules).view(Client())
    action = view.virtual_host("svc-0.svc", 80).routes[0].action
    assert (action.timeout, action.clusters[0].cluster) == (3.0, f"outbound|80|all|svc-0.{HOST}")
    assert view.cluster(action.clusters[0].cluster).circuit_breaker.max_connections == 7


# What a control plane looks at --------------------------------------------------------------------------------------


def test_discovery_selectors_hide_namespaces():
    mesh = {
        "discoverySelectors": [
            {"matchLabels": {"mesh": "on"}},
            {
                "matchExpressions": [
                    {"key": "team", "operator": "In", "values": ["a", "b"]},
                    {"key": "off", "operator": "DoesNotExist"},
                ]
            },
        ]
    }
    texts = (service(), slices(["addresses: [10.0.0.1]"]))
    for labels, seen in (("mesh: 'on'", True), ("team: b", True), ("team: b, off: x", False), ("", False)):
        assert bool(addresses(*texts, space("default", labels), mesh=mesh)) is seen
    by_name = {"discoverySelectors": [{"matchLabels": {"kubernetes.io/metadata.name": "default"}}]}
    assert addresses(*texts, mesh=by_name) == ["10.0.0.1"], "the label that every namespace has"


def test_objects_of_another_revision_do_not_count():
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc, labels: {istio.io/rev: blue}}"
        "\nspec: {host: svc, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"
    )
    for revision, kind in (("blue", "RANDOM"), ("", "RANDOM"), ("green", "LEAST_REQUEST")):
        found = universe(service(), rule, revision=revision).view(Client()).cluster(NAME)
        assert found.load_balancer.kind.value == kind


def test_kinds_of_others_that_share_a_name_with_ours_are_passed_over():
    other = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: svc, namespace: default}\nspec: {}"
    assert addresses(other, service(), slices(["addresses: [10.0.0.1]"])) == ["10.0.0.1"]
