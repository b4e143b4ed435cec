"""Small rules of Istio's model: visibility, policy layering, services, ejection, hashing."""

from __future__ import annotations

import json

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.services import Resolution
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.balancing.consistent import maglev_table, ring_entries
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.outlier import Detector
from meshlib.dataplane.state import ClusterState
from meshlib.model.endpoint import Endpoint
from meshlib.model.policy import OutlierDetection
from meshlib.model.snapshot import Client
from tests.conftest import DATA, data_cases


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def entry_of(given):
    """A service of the data as a ServiceEntry: what a client may see does not depend on the registry."""
    spec = {"hosts": [given["host"]], "exportTo": given["exportTo"], "ports": [{"number": 80, "name": "http"}]}
    metadata = {"name": given["host"], "namespace": given["namespace"]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("case", data_cases("model/visibility.json"))
def test_visibility(case):
    base = json.loads((DATA / "model/visibility.base.json").read_text())
    mesh = {"rootNamespace": case.get("root_namespace", "istio-system")}
    objects = (base.get("sets") or base)[case["set"]]
    objects = objects["resources"] if isinstance(objects, dict) else objects
    if case["check"] == "services_for":
        objects = [entry_of(given) for given in objects]
    universe = Universe(resources_of(objects), mesh=MeshConfig.model_validate(mesh))
    client = Client(case["client_namespace"])
    if case["check"] == "destination_rule_for":
        service = case["service"]
        rule = universe.destination_rules.find(service["host"], service["namespace"], client, mesh["rootNamespace"])
        assert (None if rule is None else sorted(rule.subsets)) == (
            None if case["expect_subsets"] is None else sorted(case["expect_subsets"])
        )
        return
    if case["check"] == "services_for":
        view = universe.view(client)
        seen = {s.host for s in universe.registry.services() if view.seen.named(s.host) is s}
        assert seen == set(case["expect_hosts"])
    elif case["gateway"] != "mesh":
        pytest.skip("rules of a gateway do not concern a client in the mesh")
    else:
        seen = [host for rules in universe.rules.seen_from(client.namespace) for host in rules.hosts]
        assert seen == [host.lower() for host in case["expect_hosts"]]


RESOLUTIONS = {
    Resolution.NONE: "NONE",
    Resolution.ENDPOINTS: "STATIC",
    Resolution.DNS: "DNS",
    Resolution.DNS_ROUND_ROBIN: "DNS_ROUND_ROBIN",
    Resolution.DYNAMIC_DNS: "DYNAMIC_DNS",
}


@pytest.mark.parametrize("case", data_cases("model/service_entry.json"))
def test_service_entries(case):
    universe = Universe(resources_of([case["service_entry"]]))
    services = {service.host: service for service in universe.registry.services()}
    for wanted in case.get("expect_services", ()):
        service = services[wanted["host"]]
        assert {port.name: port.number for port in service.ports} == wanted["ports"]
        assert service.external is wanted["external"]
        assert [*service.addresses] == [address for address in wanted["addresses"] if address != "0.0.0.0"]
        assert RESOLUTIONS[service.resolution] == wanted["resolution"]
        assert [*service.identities] == wanted.get("san", [])
    if "expect_endpoints" not in case:
        return
    wanted_endpoints = {(e["address"].removeprefix("unix://"), e["port"]) for e in case["expect_endpoints"]}
    for service in services.values():
        found = [e for port in service.ports for e in universe.registry.endpoints(service, port)]
        assert {(e.address.removeprefix("unix://"), e.port) for e in found} == wanted_endpoints
        for wanted in case["expect_endpoints"]:
            matching = [e for e in found if e.port == wanted["port"] and e.address.endswith(wanted["address"])]
            if "tls" in wanted:
                assert all(e.accepts_mtls is (wanted["tls"] == "istio") for e in matching)
            assert any(set(wanted.get("labels", {}).items()) <= set(e.labels.items()) for e in matching)


class Forgetful(ClusterState):
    """Forgets an endpoint the moment it leaves, as Envoy does; ours are remembered, so that a flap is harmless."""

    KEEP = 0.0


def answers_of(step):
    """The results of a step, one by one; ``(A B) xN`` repeats a group."""
    for result in step["results"]:
        group, _, count = result.strip().rpartition("x")
        group = group.strip()
        parts = group.strip("()").split() if group.startswith("(") else [f"{group}x1"]
        for _ in range(int(count)):
            for part in parts:
                code, _, times = part.rpartition("x")
                for _ in range(int(times)):
                    yield Outcome.of_status(int(code)) if code.isdigit() else Outcome.of_failure(Failure.CONNECT)


@pytest.mark.parametrize("case", data_cases("lb/outlier.json"))
def test_ejection_over_time(case):
    given = case["config"]
    seconds = {key: float(value.rstrip("s")) for key, value in given.items() if isinstance(value, str)}
    detection = OutlierDetection(
        consecutive_5xx=given.get("consecutive5xxErrors", 5),
        consecutive_gateway=given.get("consecutiveGatewayErrors", 0),
        split_local_origin=given.get("splitExternalLocalOriginErrors", False),
        consecutive_local_origin=given.get("consecutiveLocalOriginFailures", 5),
        interval=seconds.get("interval", 10.0),
        base_ejection_time=seconds.get("baseEjectionTime", 30.0),
        max_ejection_percent=given.get("maxEjectionPercent", 10),
    )
    cluster = Forgetful("c")
    detector = Detector(detection, cluster)
    names = list(case["hosts"])

    def watch():
        detector.watch(cluster.adopt([Endpoint(name, 80) for name in names], 0.0))

    watch()
    cluster.next_sweep = detection.interval
    for step in case["timeline"]:
        now = step["at_s"]
        while detector.next_sweep <= now:
            detector.sweep(detector.next_sweep)
        if "results" in step:
            state = cluster.endpoints[f"{step['host']}:80"]
            for outcome in answers_of(step):
                detector.report(state, outcome, now)
        elif "ejected" in step:
            assert sorted(s.key.partition(":")[0] for s in detector.ejected()) == sorted(step["ejected"]), step
        else:
            names = [name for name in [*names, step.get("add")] if name and name != step.get("remove")]
            watch()


@pytest.mark.parametrize("case", data_cases("lb/hash.json"))
def test_consistent_hashing(case):
    hosts = case["hosts"]
    weighted = [(h["key"], h.get("weight", 1)) if isinstance(h, dict) else (h, 1) for h in hosts]
    if "weights" in case:
        weighted = list(zip([key for key, _ in weighted], case["weights"], strict=True))
    if case["check"] == "ring_hash":
        entries = ring_entries(weighted, case["minimum_ring_size"], case.get("maximum_ring_size", 8 * 1024 * 1024))
        if "ring" in case:
            assert [[weighted[index][0], str(value)] for value, index in entries] == case["ring"]
        for pick in case.get("picks", ()):
            value = int(pick["hash"]) if "hash" in pick else xxh64(pick["key"].encode())
            owner = next((index for position, index in entries if position >= value), entries[0][1])
            assert weighted[owner][0] == pick["host"]
    elif case["check"] == "maglev":
        table = maglev_table(weighted, case["table_size"])
        if "table" in case:
            assert [weighted[index][0] for index in table] == case["table"]
    else:
        pytest.skip(f"{case['check']} is asked elsewhere")
