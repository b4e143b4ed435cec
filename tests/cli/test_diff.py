"""``meshlib diff``, as a shell runs it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from meshlib.cli.commands import meshlib
from tests.conftest import endpoint_slice, service

RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /reviews}}]
    timeout: 1s
    route: [{destination: {host: reviews, subset: v1}}]
"""
TRAFFIC = [
    {"url": "http://reviews:9080/reviews/0", "count": 9},
    {"url": "http://reviews:9080/reviews/0", "headers": {"end-user": "jason"}},
]


@pytest.fixture
def run(tmp_path):
    services = [service("reviews"), *[endpoint_slice("reviews", f"v{n}", (f"10.0.0.{n}", 9080)) for n in (1, 2)]]
    (tmp_path / "services.yaml").write_text("---\n".join(services))
    (tmp_path / "old.yaml").write_text(RULES)
    (tmp_path / "traffic.jsonl").write_text("".join(json.dumps(line) + "\n" for line in TRAFFIC))

    def invoke(*changes, traffic="traffic.jsonl", more=()):
        text = RULES
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "new.yaml").write_text(text)
        recording = ["--traffic", str(tmp_path / traffic)] if traffic else []
        paths = [str(tmp_path / name) for name in ("old.yaml", "new.yaml")]
        shared = ["--config", str(tmp_path / "services.yaml")]
        return CliRunner().invoke(meshlib, ["diff", *paths, *shared, *recording, *more])

    invoke.folder = tmp_path
    return invoke


def test_nothing_changes(run):
    done = run()
    assert (done.exit_code, done.output) == (0, "10 requests (2 distinct): nothing changes\n")
    done = run(traffic=None)
    assert (done.exit_code, done.output) == (0, "nothing changes\n")


def test_what_moves_is_told_with_where_it_goes(run):
    done = run(("subset: v1}}]", "subset: v2}}]"))
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "10 requests (2 distinct): 9 change, 9 of them go elsewhere",
        "",
        "9 requests",
        "    9 x GET http://reviews:9080/reviews/0",
        "    100% of them move  reviews.default.svc.cluster.local:9080 v1 -> reviews.default.svc.cluster.local:9080 v2",
    ]


def test_requests_that_lose_their_route_are_loud(run):
    done = run(("prefix: /reviews", "prefix: /ratings"))
    lines = done.output.splitlines()
    assert lines[1] == "9 UNROUTED"
    assert lines[3:5] == ["UNROUTED  9 requests", "    9 x GET http://reviews:9080/reviews/0"]
    assert "uri is '/reviews/0', wanted prefix '/ratings'" in done.output


def test_values_are_told_with_the_field_they_stand_in(run):
    done = run(("timeout: 1s", "timeout: 2s"))
    assert "    timeout  1s -> 2s  VirtualService default/reviews spec.http[1].timeout" in done.output.splitlines()


def test_json_lists_the_requests(run):
    (run.folder / "more.jsonl").write_text('nonsense\n{"url": "http://reviews:9080/reviews/1"}\n')
    more = ("--output", "json", "--traffic", str(run.folder / "more.jsonl"))
    done = run(("subset: v1}}]", "subset: v2}}]"), more=more)
    found = json.loads(done.stdout)
    assert found["requests"]["total"] == 11
    assert found["unreadable"] == {"count": 1, "examples": [{"line": 1, "why": "not a JSON object"}]}
    (group,) = found["groups"]
    assert [(each["url"], each["count"]) for each in group["requests"]] == [
        ("http://reviews:9080/reviews/0", 9),
        ("http://reviews:9080/reviews/1", 1),
    ]


def test_without_traffic_the_compiled_objects_are_compared(run):
    done = run(("timeout: 1s", "timeout: 2s"), ("version: v2}", "version: v9}"), traffic=None)
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == "hosts"
    assert "          timeout  1s -> 2s  VirtualService default/reviews spec.http[1].timeout" in lines
    assert "      - 10.0.0.2:9080" in lines
    assert lines[-1] == "2 hosts, 1 set of endpoints differ"
    done = run(("timeout: 1s", "timeout: 2s"), traffic=None, more=("--output", "json"))
    assert [each["change"] for each in json.loads(done.stdout)["hosts"]] == ["changed", "changed"]


def test_the_caller_counts(run):
    only_web = ("{exact: jason}}}]", "{exact: jason}}, sourceLabels: {app: web}}]")
    assert "1 change" in run(only_web).output
    assert run(only_web, more=("--labels", "app=web")).exit_code == 0


def test_unusable_input(run):
    (run.folder / "empty.jsonl").write_text("# nothing\n")
    assert run(traffic="empty.jsonl").exit_code == 2
    assert run(traffic="absent.jsonl").exit_code == 2
    assert CliRunner().invoke(meshlib, ["diff", "/nowhere", "/nowhere"]).exit_code == 2


def test_an_invalid_side_is_told(run):
    done = run(("timeout: 1s", "timeout: soon"))
    assert done.exit_code == 1
    assert "NEW: Error [IST0106]" in done.stderr
