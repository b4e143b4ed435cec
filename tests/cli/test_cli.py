"""The commands, as a shell runs them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from meshlib.cli.commands import meshlib
from tests.conftest import endpoint_slice, service
from tests.dns.server import DnsServer

RULES = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: jason
    match: [{headers: {end-user: {exact: jason}}}]
    timeout: 500ms
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{sourceLabels: {app: web}}]
    directResponse: {status: 204}
"""


@pytest.fixture
def run(tmp_path, echo):
    server = echo("v1")
    file = tmp_path / "mesh.yaml"
    file.write_text(service("reviews") + "---\n" + endpoint_slice("reviews", "v1", ("127.0.0.1", server.port)) + RULES)

    def invoke(*arguments):
        return CliRunner().invoke(meshlib, [*arguments, "--config", str(file)])

    invoke.port = server.port
    return invoke


def test_explain_prints_the_contract(run):
    done = run("explain", "http://reviews:9080/x", "-H", "end-user: jason", "--output", "json")
    assert done.exit_code == 0
    decision = json.loads(done.stdout)
    assert decision["host"] == "reviews.default.svc.cluster.local"
    assert decision["virtual_service"] == "default/reviews"
    assert decision["route"] == {"index": 0, "match": 0, "name": "jason"}
    assert decision["action"] == "route"
    assert decision["timeout_s"] == 0.5
    (destination,) = decision["destinations"]
    assert destination["endpoints"] == [f"127.0.0.1:{run.port}"]
    assert destination["cluster"] == "outbound|9080|v1|reviews.default.svc.cluster.local"
    assert destination["weight"] == 100
    assert decision["reasons"][:3] == [
        "rule 0 ('jason'): matches",
        "rule 1: sourceLabels app=web are not the client's (none)",
        "timeout: VirtualService default/reviews spec.http[0].timeout",
    ]
    assert set(decision) >= {"rewrite", "headers", "retries", "fault", "mirrors", "redirect", "direct_response"}


def test_a_header_that_is_given_twice_is_asked_about_and_sent_twice(run):
    done = run("explain", "http://reviews:9080/x", "-H", "end-user: joe", "-H", "end-user: jason", "--output", "json")
    assert json.loads(done.stdout)["route"]["name"] == "jason"
    done = run("explain", "http://reviews:9080/x", "-H", "end-user: joe", "-H", "end-user: ann", "--output", "json")
    assert "header end-user is 'joe' and 'ann', wanted exact 'jason'" in json.loads(done.stdout)["reasons"][0]
    done = run("call", "http://reviews:9080/x", "-H", "end-user: jason", "-H", "end-user: ann")
    assert (done.exit_code, json.loads(done.stdout)["name"]) == (0, "v1")


def test_a_header_that_cannot_be_sent_is_named(run):
    done = run("explain", "http://reviews:9080/x", "-H", "end-user: \u20ac")
    assert done.exit_code == 2
    assert "header 'end-user' has characters that cannot be sent: '\u20ac'" in done.stderr


def test_explain_exits_by_the_outcome(run):
    none = run("explain", "http://reviews:9080/x", "--output", "json")
    assert none.exit_code == 1
    assert (json.loads(none.stdout)["action"], json.loads(none.stdout)["flag"]) == ("none", "NR")
    assert "header end-user is absent" in none.stdout
    labelled = run("explain", "http://reviews:9080/x", "--labels", "app=web", "--output", "json")
    assert json.loads(labelled.stdout)["direct_response"]["status"] == 204
    assert run("explain", "reviews").exit_code == 2
    assert run("explain", "http://reviews/", "-H", "nonsense").exit_code == 2
    assert CliRunner().invoke(meshlib, ["explain", "http://a/", "--config", "/nowhere"]).exit_code == 2
    assert "jason" in run("explain", "http://reviews:9080/x", "-H", "end-user: jason").stdout


def test_call_goes_through_the_mesh(run):
    done = run("call", "http://reviews:9080/x", "-H", "end-user: jason", "-v")
    assert done.exit_code == 0
    assert '"name": "v1"' in done.stdout
    assert f"attempt 1 at 127.0.0.1:{run.port}: status 200" in done.stderr
    assert "call: reviews.default.svc.cluster.local:9080 v1, 1 attempt, " in done.stderr
    refused = run("call", "http://reviews:9080/x")
    assert refused.exit_code == 1
    assert "NoRoute" in refused.stderr


@pytest.mark.parametrize("what", ["routes", "clusters", "endpoints", "dump"])
def test_config_shows_what_was_compiled(run, what):
    done = run("config", what, "--output", "json")
    assert done.exit_code == 0, done.output
    assert "reviews.default.svc.cluster.local" in done.stdout
    assert json.loads(done.stdout)
    assert run("config", what).exit_code == 0


def test_config_tells_what_was_left_out_and_where_values_stand(run, tmp_path):
    extra = tmp_path / "policy.yaml"
    extra.write_text(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: pool}\n"
        "spec: {host: other, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}\n---\n" + service("other")
    )
    clusters = json.loads(run("config", "clusters", "--output", "json", "--config", str(extra)).stdout)
    (other,) = [each for each in clusters if "other" in each["cluster"]]
    assert other["set"]["connectionPool.tcp.maxConnections"] == {
        "value": 5,
        "origin": "DestinationRule default/pool spec.trafficPolicy.connectionPool.tcp.maxConnections",
    }
    assert "maxConnections 5" in run("config", "clusters", "--config", str(extra)).stdout
    labelled = json.loads(run("config", "endpoints", "--output", "json").stdout)
    assert {each["left_out"] for each in labelled} == {""}
    routes = json.loads(run("config", "routes", "--output", "json").stdout)
    assert "not tried: sourceLabels app=web are not the client's (none)" in {each["action"] for each in routes}


def test_the_demo_proves_what_it_claims():
    done = CliRunner().invoke(meshlib, ["demo", "--seconds", "5", "--no-tty", "--output", "json"])
    summary = json.loads(done.stdout)
    assert done.exit_code == 0, summary
    assert summary["proven"]
    assert len(summary["chapters"]) == 8
    assert summary["requests"] > 100


def test_a_problem_is_told_once(tmp_path):
    (tmp_path / "mesh.yaml").write_text(RULES + "  bogus: 1\n")
    for command in (["explain"], ["call", "--timeout", "1"], ["config", "routes"]):
        given = [*command, *(["http://127.0.0.1:1/"] if command[0] != "config" else []), "--config", str(tmp_path)]
        told = subprocess.run([sys.executable, "-m", "meshlib.cli", *given], capture_output=True, text=True)
        assert told.stderr.count("unknown field 'bogus'") == 1


def test_live_waits_for_names_and_says_how_the_sources_are_doing(tmp_path):
    with DnsServer() as server:
        server.zone[("svc.test", "A")] = [(30, "10.0.0.1"), (30, "10.0.0.2")]
        file = tmp_path / "mesh.yaml"
        file.write_text(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\nspec:\n  hosts: [svc.test]\n"
            "  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: DNS\n"
        )
        arguments = ["--config", str(file), "--live", "--nameservers", server.address, "--output", "json"]
        done = CliRunner().invoke(meshlib, ["config", "endpoints", *arguments])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert [row["endpoint"] for row in told["endpoints"]] == ["10.0.0.1:80", "10.0.0.2:80"]
        assert [(each["name"], each["state"]) for each in told["providers"]] == [(f"file:{file}", "running")]
        assert [(each["name"], each["values"]) for each in told["names"]] == [("svc.test", ["10.0.0.1", "10.0.0.2"])]
        whole = json.loads(CliRunner().invoke(meshlib, ["config", "dump", *arguments]).stdout)
        assert whole["names"][0]["name"] == "svc.test"
        assert whole["hosts"][0]["name"] == "svc.test"
