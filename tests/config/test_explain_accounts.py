"""What the compiled source says about itself: who decides, who lost, who is left out, where each value stands."""

from __future__ import annotations

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.errors import ConfigError
from meshlib.model.cluster import cluster_name
from meshlib.model.endpoint import Locality
from meshlib.model.snapshot import Client, Snapshot
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

HOST = "svc.default.svc.cluster.local"
SERVICE = service("svc", 80)


def virtual_service(name, hosts="[svc]", http="[{route: [{destination: {host: svc}}]}]", metadata="", spec=""):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: default{metadata}}}\nspec:\n  hosts: {hosts}\n  http: {http}\n{spec}"
    )


def rule(spec, name="svc", namespace="default"):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


def view(*texts, mesh=None, **client):
    loaded = load_text("".join(texts), "mesh.yaml")
    assert loaded.problems == [], loaded.problems
    return Universe(loaded.resources, mesh=mesh).view(Client(**client))


def ask(source, url="http://svc/", **headers):
    import random

    return explain(Prepared(Snapshot(source), State(), 0.0, random.Random(1)), request_of("GET", url, headers))


# Hosts --------------------------------------------------------------------------------------------------------------


def test_the_losers_of_a_host_are_named_with_the_reason():
    source = view(
        SERVICE,
        virtual_service("young", metadata=', creationTimestamp: "2026-02-01T00:00:00Z"'),
        virtual_service("old", metadata=', creationTimestamp: "2026-01-01T00:00:00Z"'),
        virtual_service("broad", hosts='["*.default.svc.cluster.local"]'),
        virtual_service("edge", spec="  gateways: [gateway]\n"),
        virtual_service("secret", spec='  exportTo: ["~"]\n'),
        virtual_service("elsewhere", hosts="[other]"),
    )
    assert ask(source).host_reasons == (
        "svc is svc.default.svc.cluster.local (Service default/svc)",
        "VirtualService default/old is in force: its host svc.default.svc.cluster.local matches",
        "VirtualService default/young is passed over: VirtualService default/old comes first by visibility or age",
        "VirtualService default/broad is passed over: VirtualService default/old comes first, "
        "svc.default.svc.cluster.local is more specific than *.default.svc.cluster.local",
        "VirtualService default/secret is passed over: exported to ~, not to default",
        "VirtualService default/edge is passed over: bound to gateways gateway, not to mesh",
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://nowhere/", "no Service, ServiceEntry or VirtualService that the client sees names it"),
        ("http://svc:81/", "Service default/svc has no port 81, only 80"),
    ],
)
def test_why_a_host_is_unknown(url, reason):
    decision = ask(view(SERVICE), url)
    assert decision.action == "passthrough"
    assert reason in decision.host_reasons


def test_a_service_that_is_hidden_is_told():
    hidden = SERVICE.replace(
        "metadata: {name: svc}", 'metadata: {name: svc, annotations: {networking.istio.io/exportTo: "prod"}}'
    )
    assert ask(view(hidden)).host_reasons == ("Service default/svc is exported to prod and not to default",)


def test_rules_of_a_delegate_have_their_own_place():
    root = "[{name: root, match: [{uri: {prefix: /a}}], timeout: 1s, delegate: {name: lender}}]"
    lender = (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: lender, namespace: default}\n"
        "spec:\n  http:\n  - retries: {attempts: 7}\n    route: [{destination: {host: svc}}]\n"
    )
    decision = ask(view(SERVICE, virtual_service("svc", http=root), lender), "http://svc/a")
    assert decision.origins["timeout"] == "VirtualService default/svc spec.http[0].timeout"
    assert decision.origins["retries"] == "VirtualService default/lender spec.http[0].retries"
    assert "the rule is lent by VirtualService default/lender spec.http[0]" in decision.reasons


def test_a_rule_whose_delegate_is_missing_is_told():
    http = "[{name: lost, delegate: {name: nobody}}, {route: [{destination: {host: svc}}]}]"
    decision = ask(view(SERVICE, virtual_service("svc", http=http)))
    assert decision.reasons[:2] == ("rule 0 ('lost'): delegate default/nobody does not exist", "rule 1: matches")


def test_a_destination_without_weight_is_told():
    http = "[{route: [{destination: {host: svc}, weight: 100}, {destination: {host: svc, subset: v2}, weight: 0}]}]"
    decision = ask(view(SERVICE, virtual_service("svc", http=http)))
    assert "destination svc subset v2 has weight 0" in decision.reasons


# Endpoints ----------------------------------------------------------------------------------------------------------


def endpoints(*names):
    return "".join("---\n" + endpoint_slice("svc", name, (f"10.0.0.{n}", 80)) for n, name in enumerate(names, 1))


def test_endpoints_of_other_subsets_are_told_with_the_label_that_differs():
    subsets = rule("{host: svc, subsets: [{name: v1, labels: {version: v1}}]}")
    http = "[{route: [{destination: {host: svc, subset: v1}}]}]"
    source = view(SERVICE, endpoints("v1", "v2"), subsets, virtual_service("svc", http=http))
    (destination,) = ask(source).destinations
    assert destination.endpoints == ("10.0.0.1:80",)
    assert destination.left_out == (("10.0.0.2:80", "not in subset v1: label version is v2, wanted v1"),)


def test_endpoints_of_other_localities_wait_or_get_nothing():
    slices = (
        endpoints("near", "far")
        .replace("version: near}", "version: near, topology.kubernetes.io/region: r1}")
        .replace("version: far}", "version: far, topology.kubernetes.io/region: r2}")
    )
    waiting = rule("{host: svc, trafficPolicy: {outlierDetection: {}}}")
    (destination,) = ask(view(SERVICE, slices, waiting, locality=Locality("r1"))).destinations
    assert destination.left_out == (("10.0.0.2:80", "priority 1 waits while priority 0 is healthy enough"),)
    assert [(each["priority"], each["percent"]) for each in destination.priorities] == [(0, 100), (1, 0)]
    setting = "{distribute: [{from: r1/*, to: {r1/*: 100}}]}"
    distributed = rule(f"{{host: svc, trafficPolicy: {{loadBalancer: {{localityLbSetting: {setting}}}}}}}")
    (destination,) = ask(view(SERVICE, slices, distributed, locality=Locality("r1"))).destinations
    assert destination.left_out == (("10.0.0.2:80", "locality r2 gets nothing by localityLbSetting.distribute"),)


def test_endpoints_on_other_nodes_are_told():
    text = service("svc", 80).replace("spec: {", "spec: {internalTrafficPolicy: Local, ")
    slices = endpoints("here", "there")
    slices = slices.replace("[{addresses: [10.0.0.1]}]", "[{addresses: [10.0.0.1], nodeName: n1}]")
    slices = slices.replace("[{addresses: [10.0.0.2]}]", "[{addresses: [10.0.0.2], nodeName: n2}]")
    (destination,) = ask(view(text, slices, node="n1")).destinations
    assert destination.endpoints == ("10.0.0.1:80",)
    assert destination.left_out == (("10.0.0.2:80", "not on the client's node n1 (internalTrafficPolicy: Local)"),)


def test_the_key_of_a_request_leads_to_one_endpoint():
    hashing = rule("{host: svc, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}")
    source = view(SERVICE, endpoints("a", "b", "c"), hashing)
    (destination,) = ask(source).destinations
    assert len(destination.endpoints) == 3
    decision = ask(source, **{"x-user": "joe"})
    (destination,) = decision.destinations
    assert len(destination.endpoints) == 1
    assert {why for _, why in destination.left_out} == {"the hash key of this request leads to another"}
    assert decision.details["hash_key"]["sources"] == [{"source": "header", "name": "x-user"}]


# Values -------------------------------------------------------------------------------------------------------------


def values(source, subset="", port=80):
    return {
        value.field: (value.value, value.origin) for value in source.policy_values(cluster_name(HOST, port, subset))
    }


LAYERS = """{host: svc, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, loadBalancer: {simple: RANDOM}},
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}},
    {name: v2, labels: {version: v2}, trafficPolicy: {portLevelSettings: [
      {port: {number: 80}, outlierDetection: {interval: 1s}}]}}]}"""


def test_each_value_names_the_object_and_field_that_it_stands_in():
    source = view(SERVICE, rule(LAYERS))
    whole, v1, v2 = values(source), values(source, "v1"), values(source, "v2")
    place = "DestinationRule default/svc spec"
    assert whole["loadBalancer.simple"] == ("RANDOM", f"{place}.trafficPolicy.loadBalancer.simple")
    assert v1["loadBalancer.simple"] == ("ROUND_ROBIN", f"{place}.subsets[0].trafficPolicy.loadBalancer.simple")
    pool = (7, f"{place}.trafficPolicy.connectionPool.tcp.maxConnections")
    assert whole["connectionPool.tcp.maxConnections"] == v1["connectionPool.tcp.maxConnections"] == pool
    port_level = f"{place}.subsets[1].trafficPolicy.portLevelSettings[0].outlierDetection"
    assert v2["outlierDetection.interval"] == (1.0, f"{port_level}.interval")
    assert v2["outlierDetection.baseEjectionTime"] == (30.0, "built-in")
    assert v2["loadBalancer.simple"] == ("LEAST_REQUEST", "built-in")
    assert v2["connectionPool.tcp.maxConnections"] == (None, "built-in")


def test_values_of_the_mesh_and_of_nobody():
    from meshlib.config.resources.mesh_config import MeshConfig

    mesh = MeshConfig.model_validate({"connectTimeout": "3s", "defaultHttpRetryPolicy": {"attempts": 9}})
    source = view(SERVICE, mesh=mesh)
    assert values(source)["connectionPool.tcp.connectTimeout"] == (3.0, "MeshConfig.connectTimeout")
    assert values(source)["tls.mode"][1] == "built-in"
    origins = ask(source).origins
    assert origins["retries"] == "MeshConfig.defaultHttpRetryPolicy"
    assert origins["timeout"] == "built-in"
    assert ask(view(SERVICE)).origins["retries"] == "built-in"


def test_values_of_a_client_policy():
    text = (
        "---\napiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {name: p, namespace: default}\n"
        "spec: {hosts: [svc], retryBudget: {percent: 30, minConcurrency: 2}, hedge: {after: 50ms}}\n"
    )
    budget = rule("{host: svc, trafficPolicy: {retryBudget: {percent: 10}}}")
    found = values(view(SERVICE, budget, text))
    assert found["retryBudget.percent"] == (30.0, "ClientPolicy default/p spec.retryBudget.percent")
    assert found["hedge"][0]["after"] == 0.05
    assert found["hedge"][1] == "ClientPolicy default/p spec.hedge"


def test_the_effective_policy_of_a_mesh():
    with mesh_of(SERVICE, rule(LAYERS).removeprefix("---\n"), telemetry=False) as mesh:
        found = {value.field: value for value in mesh.effective_policy("svc", "v1", 80)}
        assert found["loadBalancer.simple"].value == "ROUND_ROBIN"
        assert found["connectionPool.tcp.maxConnections"].origin.startswith("DestinationRule default/svc")
        assert mesh.effective_policy(HOST, port=80)
        for host, subset, port in (("svc", "v9", 80), ("svc", "", 81), ("other", "", 80)):
            with pytest.raises(ConfigError, match="no service"):
                mesh.effective_policy(host, subset, port)
