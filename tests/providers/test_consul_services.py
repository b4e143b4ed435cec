"""What an answer of Consul means: hosts, ports, labels, weights, places; no sockets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.resources import load_dict
from meshlib.config.validation import validate
from meshlib.model.problem import Level
from meshlib.providers.consul.services import Naming, datacenter_of, instances, objects
from tests.providers.consul_agent import Registry


def answer(*entries):
    registry = Registry()
    for number, entry in enumerate(entries):
        registry.register("web", f"web-{number}", **entry)
    return registry.read("web")[0]


PLAIN = Naming()


def entry(naming=PLAIN, *entries, local=True):
    read = instances(answer(*entries), naming)
    (value,) = objects("web", naming, "dc1", read.usable, local=local)
    return value["spec"]


def endpoints(*entries, naming=PLAIN):
    return entry(naming, *entries)["endpoints"]


def test_a_service_has_the_hosts_that_consuls_dns_has_for_it():
    assert entry()["hosts"] == ["web.service.consul", "web.service.dc1.consul"]
    assert entry(local=False)["hosts"] == ["web.service.dc1.consul"]
    assert entry(Naming(domain="corp", hosts=("{service}.internal",)))["hosts"] == [
        "web.service.corp",
        "web.service.dc1.corp",
        "web.internal",
    ]
    assert entry(Naming(namespace="team"))["hosts"] == [
        "web.service.team.ns.consul",
        "web.service.team.ns.dc1.dc.consul",
    ]


def test_http_is_called_on_port_80_and_on_the_port_that_all_instances_share():
    shared = entry(Naming(), {"port": 8080}, {"port": 8080})
    assert [port["number"] for port in shared["ports"]] == [80, 8080]
    assert shared["endpoints"][0]["ports"] == {"http": 8080, "http-8080": 8080}
    apart = entry(Naming(), {"port": 21001}, {"port": 21002})
    assert [port["number"] for port in apart["ports"]] == [80]
    assert [each["ports"] for each in apart["endpoints"]] == [{"http": 21001}, {"http": 21002}]


def test_the_protocol_is_told_by_meta_and_raw_tcp_gets_an_object_for_each_host():
    grpc = entry(Naming(), {"Meta": {"protocol": "grpc"}})
    assert grpc["ports"][0] == {"number": 80, "name": "grpc", "protocol": "GRPC"}
    read = instances(answer({"port": 5432, "Meta": {"protocol": "tcp"}}), Naming())
    values = objects("web", Naming(), "dc1", read.usable, local=True)
    assert [value["spec"]["hosts"] for value in values] == [["web.service.consul"], ["web.service.dc1.consul"]]
    assert [port["number"] for port in values[0]["spec"]["ports"]] == [5432]
    assert entry(Naming(), {"Meta": {"protocol": "gopher"}})["ports"][0]["protocol"] == "HTTP"


def test_meta_and_tags_are_labels_and_meta_wins():
    tags = ["canary", "version=v1", "track=a", "not a label"]
    (each,) = endpoints({"Tags": tags, "Meta": {"track": "b", "note": "two words"}})
    assert each["labels"] == {"canary": "true", "version": "v1", "track": "b"}


@pytest.mark.parametrize(
    ("status", "weight"), [("passing", 10), ("warning", 3), ("critical", None), ("maintenance", None), ("", None)]
)
def test_the_worst_check_decides_the_weight(status, weight):
    found = endpoints({"status": status, "Weights": {"Passing": 10, "Warning": 3}})
    assert [each["weight"] for each in found] == ([] if weight is None else [weight])


def test_a_weight_of_nought_means_do_not_call_and_passing_only_leaves_warnings_out():
    warned = {"status": "warning", "Weights": {"Passing": 1, "Warning": 0}}
    assert endpoints(warned) == []
    assert endpoints({"status": "warning"}, naming=Naming(passing_only=True)) == []


def test_maintenance_of_the_node_takes_its_instances_out():
    value = answer({})
    value[0]["Checks"].append({"CheckID": "_node_maintenance", "Status": "critical", "ServiceID": ""})
    read = instances(value, Naming())
    assert (read.usable, read.registered) == ([], 1)


def test_the_address_is_the_services_else_its_nodes_and_a_tagged_one_where_asked_for():
    node = {"Address": "10.7.7.7", "TaggedAddresses": {"wan": "198.51.100.7"}}
    tagged = {"wan": {"Address": "203.0.113.9", "Port": 443}}
    assert endpoints({"address": "", "node": node})[0]["address"] == "10.7.7.7"
    assert endpoints({"address": "", "node": node}, naming=Naming(address="wan"))[0]["address"] == "198.51.100.7"
    (each,) = endpoints({"TaggedAddresses": tagged}, naming=Naming(address="wan"))
    assert (each["address"], each["ports"]["http"]) == ("203.0.113.9", 443)
    assert entry(Naming(), {"address": "db.internal"})["resolution"] == "DNS"


def test_of_several_named_ports_the_default_one_is_called_else_the_first():
    ports = [{"Name": "metrics", "Port": 9090}, {"Name": "http", "Port": 8081, "Default": True}]
    found = endpoints({"port": 0, "Ports": ports}, {"port": 0, "Ports": ports[:1]}, {"port": 80, "Ports": None})
    assert [set(each["ports"].values()) for each in found] == [{8081}, {9090}, {80}]
    assert instances(answer({"port": 0, "Ports": []}, {"port": 0, "Ports": {"a": 1}}), PLAIN).usable == []


def test_the_place_is_the_locality_else_the_nodes_meta_else_the_data_centre():
    place = [
        {"Locality": {"Region": "eu", "Zone": "a"}},
        {"node": {"Meta": {"region": "us", "zone": "b"}}},
        {},
    ]
    assert [each["locality"] for each in endpoints(*place)] == ["eu/a", "us/b", "dc1"]


def test_proxies_and_gateways_are_no_instances_of_a_service():
    read = instances(answer({"Kind": "connect-proxy"}, {"Kind": ""}, {"Kind": "mesh-gateway"}), Naming())
    assert (len(read.usable), read.registered) == (1, 1)


def test_one_bad_instance_is_told_and_the_others_stand():
    value = [*answer({"port": 0}, {"address": "a b"}, {}), {"Service": None}, 7, {"Node": {}, "Service": {"Port": "x"}}]
    read = instances(value, Naming())
    assert (len(read.usable), len(read.problems)) == (1, 5)


def test_the_order_of_the_answer_does_not_matter():
    value = answer(*({"address": f"10.0.0.{number}"} for number in range(1, 9)))
    assert instances(value, Naming()).usable == instances(value[::-1], Naming()).usable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(["Node", "Service", "Checks", "Weights", "Port", "Address", "Tags", "Meta", "TaggedAddresses"])


@given(st.lists(JSON, max_size=4), FIELD, JSON)
def test_no_answer_breaks_the_reading_and_what_is_read_is_valid(noise, field, value):
    (good,) = json.loads(json.dumps(answer({})))
    part = good if field in good else good["Service"]
    part[field] = value
    read = instances([*noise, good], Naming())
    datacenter_of([*noise, good])
    for each in objects("web", Naming(), "dc1", read.usable, local=True):
        loaded = load_dict(each)
        assert [p for p in loaded.problems if p.level is Level.ERROR] == []
        (resource,) = loaded.resources
        assert [p for p in validate(resource) if p.level is Level.ERROR] == []
