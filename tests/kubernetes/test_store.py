"""What is kept of an object, and that what did not change stays the same Python object."""

from __future__ import annotations

import copy
import tracemalloc

import pytest

from meshlib.providers.kubernetes.collections import ResourceType
from meshlib.providers.kubernetes.lean import lean
from meshlib.providers.kubernetes.store import Store
from tests.kubernetes.objects import endpoints, node, pod, pod_endpoint, route, service

TYPES = {
    "Service": ResourceType("", "v1", "services", "Service"),
    "Pod": ResourceType("", "v1", "pods", "Pod"),
    "Node": ResourceType("", "v1", "nodes", "Node", namespaced=False),
    "EndpointSlice": ResourceType("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    "VirtualService": ResourceType("networking.istio.io", "v1", "virtualservices", "VirtualService"),
}


def versioned(value, version):
    made = copy.deepcopy(value)
    made["metadata"] |= {"resourceVersion": str(version), "uid": "u", "managedFields": [{"fieldsV1": {"f:x": {}}}]}
    return made


def store(kind, **options):
    return Store(TYPES[kind], "test", **options)


def listed(known):
    return list(known.facts().resources)


def test_a_pod_keeps_its_labels_place_account_owner_and_readiness():
    kept = lean("v1", "Pod", versioned(pod("db-0", app="db"), 1))
    assert kept["metadata"] == {
        "name": "db-0",
        "namespace": "default",
        "labels": {"app": "db"},
        "ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True}],
    }
    assert kept["spec"] == {"serviceAccountName": "web", "nodeName": "n1"}
    assert kept["status"] == {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
    }


def test_a_named_port_of_a_container_is_kept():
    value = pod("a")
    value["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]
    assert lean("v1", "Pod", value)["spec"]["containers"] == [{"ports": [{"name": "web", "containerPort": 8080}]}]


def test_items_of_lists_do_not_name_their_kind_and_are_read_all_the_same():
    value = versioned(service("a"), 1)
    del value["kind"], value["apiVersion"]
    known = store("Service")
    known.put(value)
    assert listed(known)[0].id == "Service default/a"


@pytest.mark.parametrize(
    ("value", "touch"),
    [
        (pod("a"), lambda made: made["status"]["conditions"].append({"type": "Initialized", "status": "True"})),
        (node("n", "r", "z"), lambda made: made["status"].update(conditions=[{"lastHeartbeatTime": "now"}])),
        (service("a"), lambda made: made["status"].update(loadBalancer={"ingress": [{"ip": "1.2.3.4"}]})),
        (endpoints("a", "10.0.0.1"), lambda made: made["metadata"]["annotations"].update({"x": "y"})),
        (route("a", 200), lambda made: made.update(status={"validationMessages": []})),
    ],
    ids=["pod", "node", "service", "slice", "route"],
)
def test_what_nobody_reads_changes_nothing(value, touch):
    known = store(value["kind"])
    known.put(versioned(value, 1))
    before, changes = listed(known), known.changes
    later = versioned(value, 2)
    touch(later)
    known.put(later)
    assert (known.changes, listed(known)[0] is before[0]) == (changes, True)


def test_a_list_of_the_same_changes_nothing():
    known = store("Service")
    for name in "abc":
        known.put(versioned(service(name), 1))
    before, changes = listed(known), known.changes
    known.keep({known.put(versioned(service(name), 1), listed=True) for name in "cba"})
    assert known.changes == changes
    assert all(one is other for one, other in zip(listed(known), before, strict=True))


def test_one_bad_object_is_told_and_hurts_no_other():
    known = store("VirtualService")
    bad = route("bad", 200)
    bad["spec"]["http"] = [{"timeout": 5}]
    known.put(versioned(bad, 1))
    known.put(versioned(route("good", 200), 2))
    assert [each.metadata.name for each in listed(known)] == ["good"]
    (problem,) = known.facts().problems
    assert (problem.resource, problem.path) == ("VirtualService default/bad", "spec.http[0].timeout")
    known.remove(versioned(bad, 3))
    assert known.facts().problems == ()


def test_unknown_fields_are_warnings_or_errors():
    value = route("a", 200)
    value["spec"]["nonsense"] = 1
    lax, strict = store("VirtualService"), store("VirtualService", strict=True)
    for known in (lax, strict):
        known.put(versioned(value, 1))
    assert (len(listed(lax)), len(lax.facts().problems)) == (1, 1)
    assert (len(listed(strict)), len(strict.facts().problems)) == (0, 1)


def test_a_thousand_pods_cost_little_whatever_their_specs_hold():
    def big(number):
        made = versioned(pod(f"web-{number}", app="web"), number)
        made["spec"]["containers"] *= 5
        made["metadata"]["managedFields"] = [{"fieldsV1": {f"f:{n}": {} for n in range(100)}}]
        return made

    known = store("Pod")
    known.put(big(0))
    tracemalloc.start()
    for number in range(1, 1001):
        known.put(big(number))
    each = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert each < 4096, f"{each:.0f} bytes a pod"


def test_terminating_endpoints_keep_their_conditions():
    value = endpoints("a", pod_endpoint("10.0.0.1", "a-0", serving=True, terminating=True, ready=False))
    kept = lean("discovery.k8s.io/v1", "EndpointSlice", value)["endpoints"][0]
    assert kept["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert kept["targetRef"] == {"kind": "Pod", "name": "a-0", "namespace": "default"}
