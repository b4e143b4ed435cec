"""Recorded traffic is read in every form, and what cannot be read is counted."""

from __future__ import annotations

import gzip
import json
import logging

import httpx
import pytest

from meshlib.diff import Recorded, diff, read_traffic
from meshlib.httpx import MeshTransport
from meshlib.telemetry.access_log import AccessLog
from meshlib.testing import ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service


@pytest.fixture
def read(tmp_path):
    def reader(*lines, name="traffic.jsonl"):
        path = tmp_path / name
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
        return read_traffic(path)

    return reader


def test_json_lines_of_our_own(read):
    traffic = read(
        {"method": "POST", "url": "http://svc:81/a?q=1", "headers": {"end-user": "joe"}, "count": 3},
        {"url": "http://svc:81/a", "source_labels": {"app": "web"}, "source_namespace": "shop"},
        {"url": "http://svc:81/a", "source_labels": {"app": "web"}, "source_namespace": "shop"},
    )
    assert traffic.counts == {
        Recorded("POST", "http://svc:81/a?q=1", (("end-user", "joe"),)): 3,
        Recorded("GET", "http://svc:81/a", (), (("app", "web"),), "shop"): 2,
    }
    assert traffic.unreadable_count == 0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json\n", "not a JSON object"),
        ("[1, 2]\n", "not a JSON object"),
        ({"url": "svc/a"}, "not an absolute"),
        ({"url": "http://svc:port/"}, "port"),
        ({"url": 7}, "is no text"),
        ({"url": "http://svc/", "method": None}, "is no text"),
        ({"url": "http://svc/", "headers": [1]}, None),
        ({"url": "http://svc/", "headers": [{"name": "a"}, {"name": 5, "value": "b"}, {"name": ["a"]}]}, None),
        ({"url": "http://svc/", "headers": [{"name": "a", "value": None}]}, "no text"),
        ("[" * 100_000 + "\n", "not a JSON object"),
        ({"url": "http://svc/", "headers": {"a": {}}}, "no text"),
        ({"url": "http://svc/", "headers": {"a": "日本"}}, "cannot be sent"),
        ({"url": "http://svc/", "count": 0}, "count"),
        ({"url": "http://svc/", "count": True}, "count"),
        ({"url": "http://svc/", "source_labels": "app"}, "no object"),
        ({"when": "now"}, "neither url nor"),
    ],
)
def test_an_unreadable_line_is_counted_and_stops_nothing(read, line, why):
    traffic = read({"url": "http://svc/"}, line, {"url": "http://svc/"})
    if why is None:
        assert traffic.unreadable_count == 0
        return
    assert traffic.counts == {Recorded("GET", "http://svc/"): 2}
    assert traffic.unreadable_count == 1
    ((number, reason),) = traffic.unreadable
    assert number == 2
    assert why in reason


def test_the_first_line_may_be_unreadable_too(read):
    traffic = read("# recorded on Monday\n", {"url": "http://svc/"})
    assert (len(traffic.counts), traffic.unreadable) == (1, [(1, "not a JSON object")])


ENVOY = {
    "method": "GET",
    "path": "/reviews/0",
    "protocol": "HTTP/1.1",
    "response_code": 200,
    "authority": "reviews:9080",
    "user_agent": "curl/8",
    "request_id": "6f1c",
    "x_forwarded_for": None,
    "upstream_cluster": "outbound|9080|v1|reviews.default.svc.cluster.local",
    "downstream_local_address": "10.96.0.7:9080",
    "requested_server_name": None,
}


def test_lines_of_envoys_access_log_are_equal_but_for_their_ids(read):
    traffic = read(ENVOY, {**ENVOY, "request_id": "77aa"})
    assert traffic.counts == {Recorded("GET", "http://reviews:9080/reviews/0", (("user-agent", "curl/8"),)): 2}


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"authority": "reviews"}, "http://reviews:9080/reviews/0"),
        ({"authority": "reviews", "downstream_local_address": "10.96.0.7:80"}, "http://reviews/reviews/0"),
        ({"authority": "reviews", "downstream_local_address": "0.0.0.0:15001"}, "http://reviews:9080/reviews/0"),
        ({"authority": "reviews", "downstream_local_address": None}, "http://reviews:9080/reviews/0"),
        (
            {"authority": "reviews", "downstream_local_address": None, "upstream_cluster": "PassthroughCluster"},
            "http://reviews/reviews/0",
        ),
    ],
)
def test_the_port_is_the_one_that_was_dialled(read, changes, url):
    ((request, _),) = read({**ENVOY, **changes}).counts.items()
    assert request.url == url


def test_what_a_workload_receives_and_what_is_not_http_is_no_call(read):
    traffic = read(ENVOY, {**ENVOY, "upstream_cluster": "inbound|9080||"}, {**ENVOY, "path": None, "method": None})
    assert sum(traffic.counts.values()) == 1
    assert sum(traffic.skipped.values()) == 2
    assert traffic.unreadable_count == 0


def test_har(read):
    headers = [{"name": ":authority", "value": "svc"}, {"name": "End-User", "value": "joe"}]
    entry = {"startedDateTime": "2026-01-01", "request": {"method": "GET", "url": "https://svc/a", "headers": headers}}
    text = json.dumps({"log": {"version": "1.2", "entries": [entry, entry, {"request": {}}, 7]}}, indent=2)
    traffic = read(text, name="recorded.har")
    assert traffic.counts == {Recorded("GET", "https://svc/a", (("End-User", "joe"),)): 2}
    assert [number for number, _ in traffic.unreadable] == [3, 4]


def test_lines_of_one_header_in_har_are_joined_as_rules_compare_them(read):
    pairs = (("x-tag", "a"), ("X-Tag", "b"), ("cookie", "c=1"), ("cookie", "d=2"))
    headers = [{"name": name, "value": value} for name, value in pairs]
    entry = {"request": {"method": "GET", "url": "http://svc/a", "headers": headers}}
    traffic = read(json.dumps({"log": {"entries": [entry]}}), name="traffic.har")
    assert traffic.counts == {Recorded("GET", "http://svc/a", (("cookie", "c=1; d=2"), ("x-tag", "a,b"))): 1}


def test_a_packed_file(tmp_path):
    path = tmp_path / "traffic.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"url": "http://svc/"}\n')
    assert list(read_traffic(path).counts) == [Recorded("GET", "http://svc/")]


def test_a_packed_file_that_is_cut_off_or_broken_is_told_as_a_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "traffic.jsonl.gz"
    whole = gzip.compress(b'{"url": "http://svc/"}\n' * 500)
    for content in (whole[:-20], whole[:20] + b"\xff" * 40 + whole[60:], b"plain"):
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"unpacked|gzip"):
            read_traffic(path)


def test_an_empty_file(read):
    assert read("").counts == {}


def test_our_own_access_log_can_be_asked_about_again(caplog, tmp_path):
    text = service("svc", 9080) + "---\n" + endpoint_slice("svc", "v1", ("10.0.0.1", 80))
    rules = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {end-user: {exact: joe}}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
    route: [{destination: {host: svc}}]
  - route: [{destination: {host: svc}}]
"""
    wire = ScriptedTransport()
    with mesh_of(text + rules, telemetry=False) as mesh:
        mesh.observer = AccessLog(as_json=True, headers=["End-User", "absent"])
        log = caplog.at_level(logging.INFO, "meshlib.access")
        with log, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
            client.get("http://svc:9080/a?b=c", headers={"end-user": "ann"})
            client.get("http://svc:9080/a?b=c", headers={"end-user": "joe"})
        path = tmp_path / "access.log"
        path.write_text("".join(record.getMessage() + "\n" for record in caplog.records), "utf-8")
        traffic = read_traffic(path)
        assert traffic.unreadable_count == 0
        users = {dict(request.headers)["end-user"]: request.url for request in traffic.counts}
        assert users == {"ann": "http://svc:9080/a?b=c", "joe": "http://svc:9080/a?b=c"}
        with mesh_of(text + rules.replace("joe", "ann"), telemetry=False) as other:
            found = diff(mesh.snapshot, other.snapshot, traffic)
        assert found.changed == 2
        assert not diff(mesh.snapshot, mesh.snapshot, traffic)
