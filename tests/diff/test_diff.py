"""Exactly the requests that a change treats differently are listed, with where they go and what else differs."""

from __future__ import annotations

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.diff import Alarm, Recorded, diff
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import endpoint_slice, service

V1 = "outbound|80|v1|svc.default.svc.cluster.local"
V2 = "outbound|80|v2|svc.default.svc.cluster.local"
V9 = "outbound|80|v9|svc.default.svc.cluster.local"
SUBSETS = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc, namespace: default}
spec:
  host: svc
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 100}}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
BASE = (
    service("svc", 80)
    + "---\n"
    + endpoint_slice("svc", "v1", ("10.0.0.1", 80))
    + "---\n"
    + endpoint_slice("svc", "v2", ("10.0.0.2", 80))
    + SUBSETS
)
RULES = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc, namespace: default}
spec:
  hosts: [svc]
  http:
  - name: users
    match: [{uri: {prefix: /users}}]
    timeout: 1s
    route: [{destination: {host: svc, subset: v1}}]
  - name: old
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - name: rest
    route:
    - {destination: {host: svc, subset: v1}, weight: 90}
    - {destination: {host: svc, subset: v2}, weight: 10}
"""


def world(text, **client):
    return Snapshot(Universe(load_text(text, "mesh.yaml").resources).view(Client(**client)))


def requests(*paths, **more):
    return [Recorded("GET", f"http://svc{path}", **more) for path in paths]


def compare(old, new, *asked):
    return diff(world(BASE + RULES), world((BASE + RULES).replace(old, new)), list(asked))


def urls(found):
    return [request.url for group in found.groups for request, _ in group.requests]


def test_a_moved_weight_moves_a_share_of_the_requests_that_it_is_for():
    found = compare("weight: 90", "weight: 50", *requests("/users/1", "/old", "/a", "/b"))
    assert urls(found) == ["http://svc/a", "http://svc/b"]
    (group,) = found.groups
    assert group.old.shares == {V1: 90, V2: 10}
    assert group.moves == ((V1, V2, pytest.approx(6.6667)),)


def test_ninety_ten_to_fifty_fifty_moves_forty_percent():
    new = (BASE + RULES).replace("weight: 90", "weight: 50").replace("weight: 10", "weight: 50")
    found = diff(world(BASE + RULES), world(new), dict.fromkeys(requests("/a"), 10))
    assert found.groups[0].moves == ((V1, V2, 40.0),)
    assert (found.total, found.changed, found.moved) == (10, 10, 4.0)


def test_only_requests_of_the_changed_rule_are_listed():
    found = compare("timeout: 1s", "timeout: 2s", *requests("/users/1", "/old", "/a"))
    assert urls(found) == ["http://svc/users/1"]
    (change,) = found.groups[0].changes
    assert change == ("timeout_s", 1.0, 2.0, "VirtualService default/svc spec.http[0].timeout")
    assert found.moved == 0


def test_the_names_and_places_of_rules_are_no_difference():
    moved = RULES.replace("name: users", "name: people").replace("metadata: {name: svc", "metadata: {name: other")
    assert not diff(world(BASE + RULES), world(BASE + moved), requests("/users", "/old", "/a"))


def test_a_value_that_stands_elsewhere_is_no_difference():
    lower = SUBSETS.replace(
        "labels: {version: v1}",
        "labels: {version: v1}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 100}}}",
    )
    assert not diff(world(BASE + RULES), world(BASE.replace(SUBSETS, lower) + RULES), requests("/users", "/a"))


def test_a_policy_is_told_with_its_origin():
    found = compare("maxConnections: 100", "maxConnections: 5", *requests("/users"))
    (change,) = found.groups[0].changes
    assert change.field == f"connectionPool.tcp.maxConnections of {V1}"
    assert (change.old, change.new) == (100, 5)
    assert change.origin == "DestinationRule default/svc spec.trafficPolicy.connectionPool.tcp.maxConnections"


@pytest.mark.parametrize(
    ("old", "new", "shares"),
    [
        ("subset: v1}}]", "subset: v9}}]", {f"{V9} (does not exist)": 100}),
        ("    match: [{uri: {prefix: /users}}]\n", "    match: [{uri: {prefix: /people}}]\n", None),
        ("version: v1}}, ", "version: v7}}, ", {f"{V1} (no endpoint)": 100}),
    ],
)
def test_requests_that_reach_nobody_any_more_raise_an_alarm(old, new, shares):
    only = RULES.partition("  - name: old")[0]
    found = diff(world(BASE + only), world((BASE + only).replace(old, new)), requests("/users"))
    (group,) = found.groups
    assert group.alarm is Alarm.UNROUTED
    assert found.alarmed(Alarm.UNROUTED) == 1
    assert group.new.shares == (shares or {"no route": 100})


def test_what_was_broken_before_is_no_alarm():
    broken = BASE + RULES.replace("subset: v1}}]", "subset: v9}}]")
    found = diff(world(broken), world(broken.replace("timeout: 1s", "timeout: 2s")), requests("/users"))
    assert found.groups[0].alarm is None


def test_a_host_that_the_mesh_forgets_leaves_it():
    found = diff(world(BASE + RULES), world(""), requests("/users"))
    assert found.groups[0].alarm is Alarm.LEAVES_MESH
    assert found.groups[0].new.shares == {"straight to its address": 100}
    assert "names it" in found.groups[0].new.why


def test_alarms_come_first():
    found = compare("subset: v1}}]", "subset: v9}}]", *requests("/users"), *requests("/a"))
    assert [group.alarm for group in found.groups] == [Alarm.UNROUTED]
    both = (BASE + RULES).replace("subset: v1}}]", "subset: v9}}]").replace("weight: 90", "weight: 10")
    found = diff(world(BASE + RULES), world(both), {requests("/a")[0]: 1000, requests("/users")[0]: 1})
    assert [group.alarm for group in found.groups] == [Alarm.UNROUTED, None]


@pytest.mark.parametrize(
    ("old", "new", "path", "fields"),
    [
        ("redirect: {uri: /new}", "redirect: {uri: /newer}", "/old", ["location"]),
        ("redirect: {uri: /new}", "directResponse: {status: 410}", "/old", []),
        (
            "timeout: 1s",
            "timeout: 1s\n    rewrite: {uri: /people}",
            "/users/1",
            ["path"],
        ),
        ("timeout: 1s", "timeout: 1s\n    rewrite: {authority: x}", "/users/1", ["authority"]),
        ("timeout: 1s", "timeout: 1s\n    headers: {request: {set: {a: b}}}", "/users/1", ["header a"]),
        ("timeout: 1s", "timeout: 1s\n    headers: {response: {set: {a: b}}}", "/users/1", ["response headers"]),
        ("timeout: 1s", "timeout: 1s\n    retries: {attempts: 5}", "/users/1", ["retries"]),
        ("timeout: 1s", "timeout: 1s\n    mirror: {host: svc, subset: v2}", "/users/1", ["mirrors"]),
        ("timeout: 1s", "timeout: 1s\n    fault: {abort: {httpStatus: 503, percentage: {value: 25}}}", "/users/1", []),
        (
            "timeout: 1s",
            "timeout: 1s\n    fault: {delay: {fixedDelay: 2s, percentage: {value: 25}}}",
            "/users/1",
            ["delay"],
        ),
        ("10.0.0.1", "10.0.0.7", "/users/1", [f"endpoints of {V1}"]),
    ],
)
def test_everything_that_happens_to_a_request_counts(old, new, path, fields):
    found = compare(old, new, *requests(path, "/a/b"))
    (group,) = [group for group in found.groups if group.requests[0][0].url == f"http://svc{path}"]
    assert [change.field for change in group.changes] == fields
    if not fields:
        assert group.moves


def test_an_injected_abort_takes_its_share_of_the_traffic():
    fault = "timeout: 1s\n    fault: {abort: {httpStatus: 503, percentage: {value: 25}}}"
    found = compare("timeout: 1s", fault, *requests("/users"))
    assert found.groups[0].moves == ((V1, "injected abort 503", 25.0),)


def test_each_caller_is_asked_for_itself():
    rule = "match: [{uri: {prefix: /users}, sourceLabels: {app: web}}]"
    asked = [
        *requests("/users"),
        *requests("/users", source_labels=(("app", "web"),)),
        *requests("/users", source_labels=(("app", "job"),), source_namespace="default"),
    ]
    found = diff(world(BASE + RULES), world(BASE + RULES.replace("match: [{uri: {prefix: /users}}]", rule)), asked)
    assert [request.source_labels for group in found.groups for request, _ in group.requests] == [
        None,
        (("app", "job"),),
    ]


def test_requests_that_cannot_be_asked_about_are_told():
    odd = Recorded("GET", "nonsense")
    found = diff(world(BASE), world(BASE), [odd])
    assert found.unusable == ((odd, "'nonsense' is not an absolute http or https URL"),)
    assert found.total == 0


def test_the_json_lists_every_request():
    found = compare("weight: 90", "weight: 50", *requests("/a", "/b")).to_dict()
    assert found["changed"] is True
    assert found["requests"] == {
        "total": 2,
        "distinct": 2,
        "changed": 2,
        "moved": 0.13,
        "unrouted": 0,
        "leaving_mesh": 0,
    }
    (group,) = found["groups"]
    assert [each["url"] for each in group["requests"]] == ["http://svc/a", "http://svc/b"]


# Without traffic ----------------------------------------------------------------------------------------------------


def objects(old, new):
    found = diff(world(BASE + RULES), world((BASE + RULES).replace(old, new)))
    return {(each.what, each.name.partition("|")[0], each.kind.value): each for each in found.objects}, found


HOST = "svc.default.svc.cluster.local:80"


def test_equal_configurations_do_not_differ():
    assert not diff(world(BASE + RULES), world(BASE + RULES))
    assert diff(world(BASE + RULES), world(BASE + RULES)).to_dict() == {
        "changed": False,
        "hosts": [],
        "clusters": [],
        "endpoints": [],
    }


def test_a_rule_that_changed_is_told_by_its_condition():
    found, whole = objects("weight: 90", "weight: 50")
    host = found["host", HOST, "changed"]
    (rule,) = host.rules
    assert (rule.name, rule.kind.value) == ("rest: *", "changed")
    assert rule.changes[0].field == "to"
    assert len(whole.objects) == 1


def test_rules_that_come_go_and_move():
    added, _ = objects(
        "  - name: old", "  - name: fresh\n    match: [{uri: {exact: /x}}]\n    redirect: {uri: /y}\n  - name: old"
    )
    assert [(rule.name, rule.kind.value) for rule in added["host", HOST, "changed"].rules] == [
        ("fresh: path exact /x", "added")
    ]
    gone, _ = objects("  - name: old\n    match: [{uri: {prefix: /old}}]\n    redirect: {uri: /new}\n", "")
    assert [(rule.name, rule.kind.value) for rule in gone["host", HOST, "changed"].rules] == [
        ("old: path prefix /old", "removed")
    ]
    users = RULES[RULES.index("  - name: users") : RULES.index("  - name: old")]
    swapped = RULES.replace(users, "").replace("  - name: rest", f"{users}  - name: rest")
    found = diff(world(BASE + RULES), world(BASE + swapped))
    assert [rule.kind.value for rule in found.objects[0].rules] == ["moved"]


def test_clusters_and_endpoints_that_differ():
    found, _ = objects("maxConnections: 100", "maxConnections: 5")
    assert {(what, kind) for what, _, kind in found} == {("cluster", "changed")}
    found, whole = objects("10.0.0.1", "10.0.0.7")
    assert {(what, kind) for what, _, kind in found} == {("endpoints", "changed")}
    keys = {change.field for each in whole.objects for change in each.changes}
    assert keys == {"10.0.0.1:80", "10.0.0.7:80"}


def test_ways_for_connections_differ_too():
    port = service("db", 5432, "tcp")
    rule = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: default}
spec:
  hosts: [db]
  tcp:
  - route: [{destination: {host: db}, weight: 90}, {destination: {host: svc}, weight: 10}]
"""
    old, new = BASE + "---\n" + port + rule, BASE + "---\n" + port + rule.replace("weight: 90", "weight: 40")
    (host,) = diff(world(old), world(new)).objects
    assert host.name == "db.default.svc.cluster.local:5432"
    assert [change.field for change in host.rules[0].changes] == ["to"]


def test_hosts_that_come_and_go():
    bigger = BASE + RULES + "---\n" + service("other", 80)
    found = diff(world(BASE + RULES), world(bigger))
    assert [(each.what, each.kind.value) for each in found.objects] == [("host", "added"), ("cluster", "added")]
    found = diff(world(bigger), world(BASE + RULES))
    assert [(each.what, each.kind.value) for each in found.objects] == [("host", "removed"), ("cluster", "removed")]
