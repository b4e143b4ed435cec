"""The small rules of Istio's model, one function each; those of authorization are asked elsewhere."""

from __future__ import annotations

import pytest

from meshlib.config.compile.cluster_local import ClusterLocalHosts
from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.locality import matches_pattern, traffic_distribution
from meshlib.config.compile.services import kubernetes_protocol, parse_protocol
from meshlib.model import hosts
from meshlib.model.cluster import parse_cluster_name
from meshlib.model.endpoint import Locality
from meshlib.model.spiffe import expand_trust_domains, parse_identity, spiffe_uri
from tests.conftest import data_cases

DISTRIBUTION = "networking.istio.io/traffic-distribution"


def labels(case):
    left, right = case["left"] or {}, case["right"] or {}
    return {"subsetOf": selects(left, right), "selected": bool(left) and selects(left, right)}


def uri(case):
    try:
        return spiffe_uri(case["trust_domain"], case["namespace"], case["service_account"])
    except ValueError:
        return None


def distribution(case):
    annotations = case["service_annotations"].get(DISTRIBUTION), case["namespace_annotations"].get(DISTRIBUTION)
    return "TrafficDistribution" + (traffic_distribution(case["spec"], *annotations) or "Any")


def identity(case):
    found = parse_identity(case["input"])
    return None if found is None else found._asdict()


def place(case):
    return dict(zip(("region", "zone", "subzone"), Locality.parse(case["input"]), strict=True))


def protocol(case):
    return kubernetes_protocol(case["transport"], case["app_protocol"], case["port_name"], case["port"]).value


def cluster_local(case):
    settings = [(entry["settings"]["clusterLocal"], entry["hosts"]) for entry in case["mesh_config"]["serviceSettings"]]
    return ClusterLocalHosts(settings, "cluster.local").covers(case["host"])


RULES = {
    "host_matches": lambda case: hosts.matches(case["a"], case["b"]),
    "host_subset_of": lambda case: hosts.subset_of(case["a"], case["b"]),
    "hosts_intersection": lambda case: hosts.intersection(case["a"], case["b"]),
    "hosts_for_namespace": lambda case: hosts.of_namespace(case["hosts"], case["namespace"]),
    "hosts_sort_most_specific_first": lambda case: hosts.most_specific_first(case["a"]),
    "host_more_specific": lambda case: hosts.more_specific(case["a"], case["b"]),
    "host_port_join": lambda case: hosts.join_host_port(case["host"], case["port"]),
    "cluster_local_host": cluster_local,
    "labels": labels,
    "port_protocol": protocol,
    "protocol_parse": lambda case: parse_protocol(case["input"]).value,
    "cluster_name_parse": lambda case: parse_cluster_name(case["input"])._asdict(),
    "locality_match": lambda case: matches_pattern(case["rule"], Locality(**renamed(case["locality"]))),
    "locality_parse": place,
    "spiffe_uri": uri,
    "spiffe_expand_trust_domains": lambda case: [*expand_trust_domains(case["identities"], case["trust_domains"])],
    "spiffe_parse": identity,
    "traffic_distribution": distribution,
}
"""How each check is asked."""
SECURITY = ("authz_", "claim_path_", "is_path_template", "jwks_")


def renamed(place):
    return {"region": place["region"], "zone": place["zone"], "sub_zone": place["subzone"]}


def of_this_file(case):
    return case.values[0] is None or not case.values[0]["check"].startswith(SECURITY)


@pytest.mark.parametrize("case", [case for case in data_cases("model/primitives.json") if of_this_file(case)])
def test_primitives(case):
    answer = RULES[case["check"]](case)
    wanted = case["expect"]
    assert sorted(answer) == sorted(wanted) if case["check"] == "hosts_intersection" else answer == wanted
