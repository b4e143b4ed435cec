"""A mesh of what an API server holds, over real HTTP."""

from __future__ import annotations

import pytest

from meshlib import Mesh
from meshlib.errors import ConfigError
from meshlib.model.endpoint import Locality
from meshlib.providers import KubernetesProvider
from tests.kubernetes.api import Server
from tests.kubernetes.cluster import ISTIO_TYPES, Cluster, Refused
from tests.kubernetes.objects import endpoints, node, pod, pod_endpoint, route, service
from tests.kubernetes.worlds import QUICK, until, world


@pytest.fixture
def api():
    with Server() as server:
        server.put(service("reviews"), endpoints("reviews", "10.0.0.1", "10.0.0.2"))
        yield server


def test_services_and_their_endpoints_are_known_and_followed(api, tmp_path):
    with world(api, tmp_path) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:8080", "10.0.0.2:8080"]
        api.put(endpoints("reviews", "10.0.0.3"))
        known.settles("reviews", "10.0.0.3:8080")
        api.put(service("ratings"), endpoints("ratings", "10.0.1.1"))
        known.settles("ratings", "10.0.1.1:8080")
        api.delete("Service", "ratings")
        until(lambda: not known.endpoints("ratings"))
        (told,) = known.mesh.status().providers
        assert (told["state"], told["error"], told["version"].isdecimal()) == ("running", "", True)


def test_slices_are_merged_and_one_that_is_deleted_leaves(api, tmp_path):
    """250 endpoints in three slices. users.md (b) 4."""

    def addresses(part, count):
        return [f"10.1.{part}.{number}" for number in range(count)]

    parts = {0: addresses(0, 100), 1: addresses(1, 100), 2: addresses(2, 50)}
    with world(api, tmp_path) as known:
        for part, given in parts.items():
            api.put(endpoints("reviews", *given, part=f"p{part}"))
        api.delete("EndpointSlice", "reviews-a")
        known.settles("reviews", *(f"{each}:8080" for given in parts.values() for each in given))
        api.put(endpoints("reviews", *parts[1][:10], part="p1"))
        api.delete("EndpointSlice", "reviews-p2")
        known.settles("reviews", *(f"{each}:8080" for each in [*parts[0], *parts[1][:10]]))


def test_terminating_and_unready_endpoints_get_no_requests(api, tmp_path):
    leaving = pod_endpoint("10.0.0.1", "r-1", ready=False, serving=True, terminating=True)
    unready = pod_endpoint("10.0.0.2", "r-2", ready=False, serving=False, terminating=False)
    api.put(endpoints("reviews", leaving, unready, pod_endpoint("10.0.0.3", "r-3")))
    with world(api, tmp_path) as known:
        assert known.endpoints("reviews") == ["10.0.0.3:8080"]


def test_pods_nodes_and_namespaces_say_where_endpoints_are_and_whose(api, tmp_path):
    api.put(node("n1", "eu", "eu-1"), pod("r-1", app="reviews", version="v2"))
    api.put(endpoints("reviews", pod_endpoint("10.0.0.1", "r-1")))
    with world(api, tmp_path) as known:
        (local,) = known.mesh.snapshot.source.assignment("outbound|80||reviews.default.svc.cluster.local")
        (endpoint,) = local.endpoints
        assert endpoint.labels["version"] == "v2"
        assert endpoint.locality == Locality("eu", "eu-1", "")
        assert (endpoint.workload.name, endpoint.workload.service_account) == ("db", "web")


def test_a_named_target_port_is_what_the_slice_says(api, tmp_path):
    api.put(endpoints("reviews", "10.0.0.1", port=9191))
    with world(api, tmp_path) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:9191"]


def test_kinds_of_istio_are_followed_and_one_that_is_missing_is_looked_for_again(tmp_path):
    cluster = Cluster()
    cluster.types = [each for each in cluster.types if each not in ISTIO_TYPES]
    with Server(cluster) as api, world(api, tmp_path) as known:
        assert known.status("a") is None
        api.do(lambda: cluster.types.extend(ISTIO_TYPES))
        api.put(route("a", 218))
        until(lambda: known.status("a") == 218)
        api.do(lambda: cluster.types.remove(next(each for each in ISTIO_TYPES if each.kind == "VirtualService")))
        api.end_watches()
        until(lambda: known.status("a") is None)


def test_the_mesh_config_is_read_from_its_config_map(api, tmp_path):
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio-canary", "namespace": "mesh"},
        "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"},
    }
    api.put(config)
    with world(api, tmp_path, mesh_config="mesh/istio-canary") as known:
        assert known.mesh.snapshot.source.outbound_policy.name == "REGISTRY_ONLY"


def test_lists_come_in_pages(api, tmp_path):
    for number in range(23):
        api.put(route(f"r{number}", 200))
    tuning = QUICK.__class__(limit=5, idle=5.0, rediscover=5.0)
    with world(api, tmp_path, tuning) as known:
        assert known.status("r22") == 200
    assert len([each for each in api.requests if "virtualservices?" in each and "continue=" in each]) == 4


def test_lists_may_be_streams(api, tmp_path):
    with world(api, tmp_path, QUICK.__class__(streaming=True)) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:8080", "10.0.0.2:8080"]
        api.put(endpoints("reviews", "10.0.0.3"))
        known.settles("reviews", "10.0.0.3:8080")
    assert not [each for each in api.requests if "limit=" in each]


def test_a_process_may_watch_only_what_it_uses(api, tmp_path):
    api.put(service("ratings"), endpoints("ratings", "10.0.1.1"))
    api.put(service("reviews", "shop"), endpoints("reviews", "10.2.0.1", namespace="shop"))
    with world(api, tmp_path, namespaces=["default"], services=["reviews"], labels={"Pod": "tier=web"}) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:8080", "10.0.0.2:8080"]
        assert known.endpoints("ratings") == []
        assert known.endpoints("reviews.shop") == []
    asked = " ".join(api.requests)
    assert "/api/v1/nodes" not in asked
    assert "/api/v1/services" not in asked
    assert "labelSelector=tier%3Dweb%2Capp%3Dreviews" in asked


def test_of_named_services_there_are_the_pods_that_they_select_now(api, tmp_path):
    api.put(service("ratings"), service("reviews", "shop"), pod("r-1", app="reviews", version="v1"))
    api.put(pod("x-1", app="ratings"), pod("r-2", app="other", version="v2"))
    api.put(endpoints("reviews", pod_endpoint("10.0.0.1", "r-1"), pod_endpoint("10.0.0.2", "r-2")))

    def versions(known):
        (local,) = known.mesh.snapshot.source.assignment("outbound|80||reviews.default.svc.cluster.local")
        return [each.labels.get("version") for each in local.endpoints]

    with world(api, tmp_path, services=["reviews.default"]) as known:
        assert versions(known) == ["v1", None]
        moved = service("reviews")
        moved["spec"]["selector"] = {"app": "other"}
        api.put(moved)
        until(lambda: versions(known) == [None, "v2"])
        api.delete("Service", "reviews")
        until(lambda: not [each for each in api.watches if each.type.kind == "Pod"])
    paths = {each.partition("?")[0].removeprefix("GET ") for each in api.requests}
    assert "/api/v1/pods" not in paths
    assert "/api/v1/namespaces/default/services" in paths


def test_a_kind_that_is_installed_later_and_cannot_be_listed_holds_up_nothing(api, tmp_path):
    """As custom resources whose conversion webhook is down."""
    kind = next(each for each in ISTIO_TYPES if each.kind == "VirtualService")
    api.do(lambda: api.cluster.types.remove(kind))
    with world(api, tmp_path) as known:
        api.answer(Refused(500, "InternalError", "conversion webhook failed"), "virtualservices", times=10_000)
        api.do(lambda: api.cluster.types.append(kind))
        until(lambda: any("conversion webhook" in each for each in known.problems()))
        api.put(endpoints("reviews", "10.0.0.7"))
        known.settles("reviews", "10.0.0.7:8080")


def test_what_rbac_forbids_is_told_and_the_rest_works(api, tmp_path):
    api.forbidden = {"nodes", "pods"}
    with world(api, tmp_path) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:8080", "10.0.0.2:8080"]
        (told,) = known.problems()
        assert "nodes: 403 Forbidden" in told
        assert "pods: 403 Forbidden" in told
        api.forbidden = set()
        until(lambda: not known.problems())


def test_one_bad_object_of_the_server_leaves_the_others(api, tmp_path):
    bad = route("bad", 200)
    bad["spec"]["http"] = [{"timeout": 5}]
    api.put(bad, route("good", 201))
    with world(api, tmp_path) as known:
        assert (known.status("bad"), known.status("good")) == (None, 201)
        (problem,) = known.mesh.problems
        assert problem.resource == "VirtualService default/bad"
        api.put(route("bad", 202))
        until(lambda: known.status("bad") == 202)
        api.put(bad)
        until(lambda: known.mesh.problems)
        assert known.status("bad") == 202, "the last good one"


def test_objects_that_change_where_nobody_looks_cost_nothing(api, tmp_path):
    with world(api, tmp_path) as known:
        version = known.mesh.status().version
        for number in range(50):
            changed = node("n1", "eu", "eu-1")
            changed["status"] = {"heartbeat": number}
            api.put(changed)
        api.put(endpoints("reviews", "10.0.0.3"))
        known.settles("reviews", "10.0.0.3:8080")
        assert known.mesh.status().version - version <= 2


def test_a_server_that_is_not_there_is_told(tmp_path):
    with Server() as api:
        path = tmp_path / "kubeconfig"
        path.write_text(api.kubeconfig())
    with Mesh(KubernetesProvider(path), telemetry=False) as mesh:
        until(lambda: "connection could not be made" in mesh.status().providers[0]["error"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespaces": "default"}, "give a list"),
        ({"namespaces": []}, "give a list"),
        ({"services": "reviews"}, "give a list"),
        ({"services": []}, "give a list"),
        ({"kinds": ["Secret"]}, "no kind that a mesh is made of"),
        ({"labels": {"Pods": "a=b"}}, "no kind that a mesh is made of"),
        ({"mesh_config": "istio"}, "not namespace/name"),
        ({"context": "other"}, "other"),
    ],
)
def test_arguments_of_no_use_are_refused_at_once(api, tmp_path, options, message):
    path = tmp_path / "kubeconfig"
    path.write_text(api.kubeconfig())
    with pytest.raises(ConfigError, match=message):
        KubernetesProvider(path, **options)


def test_no_cluster_is_refused_at_once(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="nothing-here"):
        KubernetesProvider(tmp_path / "nothing-here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(ConfigError, match="is not there, and this is no pod"):
        KubernetesProvider()
