"""``tcp`` and ``tls`` rules: which way a connection takes, by Istio's rules one by one."""

from __future__ import annotations

import json
import random
from collections import Counter
from ipaddress import ip_address, ip_network

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from meshlib.cli.commands import meshlib
from meshlib.dataplane import connections
from meshlib.dataplane.connections import Target, target_of
from meshlib.dataplane.explain import explain
from meshlib.dataplane.explain_connection import explain_connection
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.request import request_of
from meshlib.errors import NoCluster, UnknownHost
from meshlib.model.hosts import matches
from meshlib.model.route import Forward, Route, RouteMatch
from meshlib.model.tcp import TcpHost, TcpMatch, TcpRoute
from tests.config.test_hosts import NEW, OLD, entry, obj, sidecar, world

MONGO = entry(
    "mongo",
    "[mongo.prod]",
    ", addresses: [10.9.0.1], resolution: STATIC, location: MESH_INTERNAL, endpoints: ["
    "{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]",
    ports="[{number: 27017, name: mongo, protocol: MONGO}]",
)
SUBSETS = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"


def tcp(name, rules, hosts="[mongo.prod]", kind="tcp", **metadata):
    return obj("VirtualService", name, f"{{hosts: {hosts}, {kind}: {rules}}}", **metadata)


def destination_rule(policy=""):
    return obj("DestinationRule", "mongo", f"{{host: mongo.prod, {SUBSETS}{policy}}}")


def to(prepared, url, sni=None):
    """(host, subset) of every destination of a connection; None when the mesh does not route it."""
    decision = explain_connection(prepared, target_of(url, sni))
    return [(d.host, d.subset) for d in decision.destinations] if decision.action == "route" else None


V1 = "{destination: {host: mongo.prod, subset: v1}}"
V2 = "{destination: {host: mongo.prod, subset: v2}}"
URL = "tcp://mongo.prod:27017"

# TCP ----------------------------------------------------------------------------------------------------------------


def test_a_service_without_rules_takes_its_connections():
    assert to(world(MONGO), URL) == [("mongo.prod", "")]
    assert to(world(MONGO), "tcp://10.9.0.1:27017") == [("mongo.prod", "")]


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ("{port: 27017}", True),
        ("{port: 1}", False),
        ("{sourceLabels: {app: x}}", True),
        ("{sourceLabels: {app: y}}", False),
        ("{sourceNamespace: default}", True),
        ("{sourceNamespace: far}", False),
        ("{gateways: [mesh]}", True),
        ("{gateways: [other]}", False),
        ("{gateways: [mesh], sourceLabels: {app: y}}", False),
        ("{sourceSubnet: 10.0.0.0/8}", True),
    ],
)
def test_every_filter_of_a_match_must_hold_also_beside_gateways(match, holds):
    prepared = world(MONGO, destination_rule(), tcp("r", f"[{{match: [{match}], route: [{V1}]}}]"), labels={"app": "x"})
    assert to(prepared, URL) == [("mongo.prod", "v1" if holds else "")]


def test_the_first_rule_without_subnets_ends_the_list():
    prepared = world(MONGO, destination_rule(), tcp("r", f"[{{route: [{V1}]}}, {{route: [{V2}]}}]"))
    assert to(prepared, URL) == [("mongo.prod", "v1")]


def test_subnets_ask_for_the_dialled_address_and_the_smallest_counts():
    rules = (
        f"[{{match: [{{destinationSubnets: [10.0.0.0/8]}}], route: [{V1}]}}, "
        f"{{match: [{{destinationSubnets: [10.9.0.0/16]}}], route: [{V2}]}}]"
    )
    prepared = world(MONGO, destination_rule(), tcp("r", rules))
    assert to(prepared, "tcp://10.9.0.1:27017") == to(prepared, URL) == [("mongo.prod", "v2")]
    far = world(MONGO, destination_rule(), tcp("r", rules.replace("10.", "99.")))
    assert to(far, "tcp://10.9.0.1:27017") == [("mongo.prod", "")]


def test_several_virtual_services_add_their_rules_in_look_up_order():
    subnet = f"[{{match: [{{destinationSubnets: [99.0.0.0/8]}}], route: [{V1}]}}]"
    first = tcp("first", subnet, creationTimestamp=OLD)
    second = tcp("second", f"[{{route: [{V2}]}}]", '["*.prod"]', creationTimestamp=NEW)
    prepared = world(MONGO, destination_rule(), first, second)
    assert to(prepared, URL) == [("mongo.prod", "v2")]
    assert explain_connection(prepared, target_of(URL)).virtual_service == "default/second"


def test_one_draw_for_each_connection_by_weight():
    rule = f"[{{route: [{V1[:-1]}, weight: 25}}, {V2[:-1]}, weight: 75}}, {V1[:-1]}, weight: 0}}]}}]"
    prepared = world(MONGO, destination_rule(), tcp("r", rule))
    assert [d.weight for d in explain_connection(prepared, target_of(URL)).destinations] == [25, 75]
    rng, seen = random.Random(3), Counter()
    for _ in range(4000):
        made = connections.begin(prepared, target_of(URL), 0.0, rng)
        seen[made.call.cluster.subset] += 1
    assert abs(seen["v1"] / 4000 - 0.25) < 0.03


def test_a_connection_is_a_call_that_picks_and_gives_back_and_is_never_retried():
    prepared = world(MONGO, destination_rule(), tcp("r", f"[{{route: [{V1}]}}]"))
    made = connections.begin(prepared, target_of(URL), 0.0, random.Random(1))
    attempt = made.call.next_attempt(0.0)
    state = prepared.state.cluster("outbound|27017|v1|mongo.prod")
    assert (attempt.endpoint.key, state.active, attempt.deadline) == ("10.0.0.1:27017", 1, None)
    assert made.call.settle(attempt, Outcome.of_status(200), 0.0) is None
    made.call.close(1.0)
    assert state.active == 0


def test_the_times_of_a_connection_are_those_of_the_first_destinations_rule():
    policy = ", trafficPolicy: {connectionPool: {tcp: {idleTimeout: 30s, maxConnectionDuration: 1h}}}"
    rule = f"[{{route: [{V1[:-1]}, weight: 1}}, {V2[:-1]}, weight: 1}}]}}]"
    decision = explain_connection(world(MONGO, destination_rule(policy), tcp("r", rule)), target_of(URL)).to_dict()
    assert (decision["idle_timeout_s"], decision["max_connection_duration_s"]) == (30.0, 3600.0)
    plain = explain_connection(world(MONGO), target_of(URL)).to_dict()
    assert (plain["idle_timeout_s"], plain["max_connection_duration_s"]) == (3600.0, None)


def test_a_missing_subset_is_no_cluster():
    prepared = world(MONGO, tcp("r", f"[{{route: [{V1}]}}]"))
    assert explain_connection(prepared, target_of(URL)).flag == "NC"
    with pytest.raises(NoCluster):
        connections.begin(prepared, target_of(URL), 0.0, random.Random(1))


def test_http_ports_take_no_raw_connections_and_detected_ones_have_tcp_rules():
    ports = "[{number: 80, name: http, protocol: HTTP}, {number: 81, name: auto}]"
    given = entry("e", "[x.com]", ", resolution: DNS", ports=ports)
    other = entry("o", "[y.com]", ", resolution: DNS", ports=ports)
    rule = tcp("r", "[{route: [{destination: {host: y.com}}]}]", "[x.com]")
    prepared = world(given, other, rule)
    assert (to(prepared, "tcp://x.com:80"), to(prepared, "tcp://x.com:81")) == (None, [("y.com", "")])


def test_unknown_connections_follow_the_outbound_policy():
    assert connections.begin(world(MONGO), Target("nobody", 1), 0.0, random.Random(1)) is None
    closed = world(MONGO, mesh={"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})
    with pytest.raises(UnknownHost):
        connections.begin(closed, Target("nobody", 1), 0.0, random.Random(1))
    proxy = "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: mongo.prod, port: {number: 27017}}}}"
    assert to(world(MONGO, obj("Sidecar", "default", proxy)), "tcp://nobody:1") == [("mongo.prod", "")]


def test_a_listener_on_a_port_decides_about_connections_too():
    egress = '[{port: {number: 27017, protocol: TCP, name: m}, hosts: ["*/other.com"]}, {hosts: ["*/*"]}]'
    assert to(world(MONGO, sidecar(egress)), URL) is None


def test_an_http_request_to_such_a_port_takes_the_way_of_any_connection():
    prepared = world(MONGO, destination_rule(), tcp("r", f"[{{route: [{V1}]}}]"))
    decision = explain(prepared, request_of("GET", "http://mongo.prod:27017/", {}))
    assert [d.subset for d in decision.destinations] == ["v1"]
    assert (decision.details["retries"], decision.virtual_service) == (None, "default/r")


# TLS ----------------------------------------------------------------------------------------------------------------

TLS = "[{number: 443, name: tls, protocol: TLS}]"
OUTSIDE = [entry(n, f"[{n}.com]", ", resolution: DNS", ports=TLS) for n in "abc"]


def sni(name, *pairs, hosts=None, extra=""):
    """Rules of (server names, host to go to)."""
    listed = ", ".join(
        f"{{match: [{{sniHosts: {names}{extra}}}], route: [{{destination: {{host: {host}}}}}]}}"
        for names, host in pairs
    )
    return tcp(name, f"[{listed}]", hosts or "[a.com]", "tls")


def test_a_service_without_rules_is_found_by_its_name_in_the_handshake():
    prepared = world(*OUTSIDE)
    assert to(prepared, "tls://a.com:443") == [("a.com", "")]
    assert to(prepared, "tls://1.2.3.4:443", "b.com") == [("b.com", "")]
    assert to(prepared, "tls://a.com:443", "b.com") == [("b.com", "")]
    assert to(prepared, "tls://a.com:443", "nobody.com") is None
    assert to(prepared, "tcp://a.com:443") is None


def test_a_service_with_an_address_takes_whatever_name_the_handshake_has():
    given = entry("e", "[x.com]", ", resolution: DNS, addresses: [10.1.1.1]", ports=TLS)
    for url, name in (("tls://10.1.1.1:443", "y"), ("tls://x.com:443", "y"), ("tcp://10.1.1.1:443", None)):
        assert to(world(given), url, name) == [("x.com", "")]


def test_the_most_specific_server_name_counts():
    names = ('["*.a.com"]', "b.com"), ("[x.a.com]", "c.com"), ("[a.com]", "a.com")
    prepared = world(*OUTSIDE, sni("r", *names, hosts='["*.a.com", a.com]'))
    asked = {name: to(prepared, "tls://a.com:443", name) for name in ("x.a.com", "y.a.com", "a.com", "X.A.COM")}
    assert asked == {
        "x.a.com": [("c.com", "")],
        "y.a.com": [("b.com", "")],
        "a.com": [("a.com", "")],
        "X.A.COM": [("c.com", "")],
    }


def test_of_two_matches_with_the_same_names_and_subnets_the_second_is_skipped_and_explained_so():
    prepared = world(*OUTSIDE, sni("r", ("[a.com]", "b.com"), ("[a.com]", "c.com")))
    decision = explain_connection(prepared, target_of("tls://a.com:443"))
    assert [d.host for d in decision.destinations] == ["b.com"]
    assert any("same server names and subnets" in reason for reason in decision.reasons)


def test_a_match_that_does_not_apply_leaves_its_names_to_a_later_one():
    early = "{match: [{sniHosts: [a.com], port: 1}], route: [{destination: {host: b.com}}]}"
    late = "{match: [{sniHosts: [a.com]}], route: [{destination: {host: c.com}}]}"
    assert to(world(*OUTSIDE, tcp("r", f"[{early}, {late}]", "[a.com]", "tls")), "tls://a.com:443") == [("c.com", "")]


def test_rules_take_the_place_of_a_services_own_name():
    prepared = world(*OUTSIDE, sni("r", ("[x.a.com]", "b.com"), hosts='["*.a.com", a.com]'))
    assert to(prepared, "tls://a.com:443", "x.a.com") == [("b.com", "")]
    assert to(prepared, "tls://a.com:443") is None


def test_an_https_url_takes_tls_rules_and_no_http_rules():
    both = obj(
        "VirtualService",
        "r",
        "{hosts: [a.com], http: [{route: [{destination: {host: c.com}}]}], "
        "tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: b.com}}]}]}",
    )
    decision = explain(world(*OUTSIDE, both), request_of("GET", "https://a.com/", {}))
    assert [d.host for d in decision.destinations] == ["b.com"]


def test_a_short_name_stands_for_the_full_one_in_the_handshake_that_nobody_chose():
    service = obj("Service", "a", "{ports: [{port: 443, name: tls}]}", api="v1")
    rule = sni("r", ("[a.default.svc.cluster.local]", "b.com"), hosts="[a]")
    assert to(world(service, *OUTSIDE, rule), "tls://a:443") == [("b.com", "")]
    assert to(world(service, *OUTSIDE, rule), "tls://a:443", "other") is None


# The table ----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.com", "x.a.com", "y.a.com", "b.com", ""])
PATTERNS = st.lists(st.sampled_from(["a.com", "x.a.com", "*.a.com", "*.com", "b.com"]), max_size=2).map(tuple)
SUBNETS = st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "0.0.0.0/0"]), max_size=2).map(tuple)
ADDRESSES = st.sampled_from(["10.1.1.1", "10.1.2.1", "10.2.0.1", "11.0.0.1"])


def _route(match):
    return TcpRoute(match, Route("", RouteMatch(), Forward(())))


@given(st.lists(st.builds(TcpMatch, PATTERNS, SUBNETS), max_size=6), ADDRESSES, NAMES)
def test_the_smallest_range_is_chosen_first_then_the_longest_name_without_a_second_thought(found, address, name):
    def size(match):
        held = [ip_network(each).prefixlen for each in match.subnets if ip_address(address) in ip_network(each)]
        return max(held, default=None) if match.subnets else -1

    table = TcpHost("h", 1, [_route(match) for match in found])
    chosen = table.select(address, name)
    sizes = [size(match) for match in found if size(match) is not None]
    if not sizes:
        assert chosen is None
        return
    best = [match for match in found if size(match) == max(sizes)]
    named = [match for match in best if name and any(matches(each, name) for each in match.sni_hosts)]
    anyone = [match for match in best if not match.sni_hosts]
    if named:
        exact = [match for match in named if name in match.sni_hosts]
        assert chosen is not None and chosen.match == (exact or [chosen.match])[0] and chosen.match in named
    else:
        assert (chosen.match if chosen is not None else None) == (anyone[0] if anyone else None)


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_explains_connections_in_the_same_json(tmp_path):
    (tmp_path / "mesh.yaml").write_text(yaml.safe_dump_all([*OUTSIDE, sni("r", ("[a.com]", "b.com"))]))

    def asked(*arguments):
        result = CliRunner().invoke(meshlib, ["explain", *arguments, "--config", str(tmp_path), "--output", "json"])
        return result.exit_code, json.loads(result.stdout) if result.exit_code < 2 else result.output

    code, found = asked("tls://1.2.3.4:443", "--sni", "a.com")
    assert (code, found["action"], found["virtual_service"], found["route"]["index"]) == (0, "route", "default/r", 0)
    assert [each["cluster"] for each in found["destinations"]] == ["outbound|443||b.com"]
    assert asked("tcp://nobody:1")[1]["action"] == "passthrough"
    assert asked("tcp://nobody")[0] == 2
