"""Istio's own cases: who gets in, which tokens are believed, and what filters istiod makes of policies."""

from __future__ import annotations

import json
import re

import pytest

from meshlib.admission import Guard
from meshlib.config.compile.attachment import Workload
from meshlib.config.compile.authorization import authorization_filters
from meshlib.config.compile.security_policies import SecurityPolicies
from meshlib.config.resources import load_dict
from meshlib.dataplane.policies.rbac import Connection
from meshlib.dataplane.request import Request
from tests.conftest import DATA, data_cases

NOW = 1_700_000_000.0


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def family(name):
    return json.loads((DATA / "authz" / name).read_text())


def tokens():
    return family("tokens.json")


def guard_of(objects, destination):
    text = json.dumps(objects).replace('"@jwks"', json.dumps(json.dumps(tokens()["jwks"])))
    workload = Workload(destination["namespace"], destination.get("labels", {"app": destination["workload"]}))
    return Guard(resources_of(json.loads(text)), workload)


def request_of(given, extra=()):
    raw = [(name.encode(), value.encode()) for name, value in given.get("headers", {}).items()]
    return Request(given["method"], "http", given.get("host", "b"), 80, given["path"], [*raw, *extra])


@pytest.mark.parametrize("case", data_cases("authz/requests.json"))
def test_istio_lets_in_the_same_requests(case):
    source, destination = case["source"], case["destination"]
    guard = guard_of(family("requests.json")["sets"][case["set"]]["config"], destination)
    connection = Connection(
        source["ip"],
        source.get("remote_ip", source["ip"]),
        destination.get("ip", ""),
        destination["port"],
        destination.get("sni", ""),
        tls=source["mtls"],
        certificate=source["mtls"],
        uri_sans=(f"spiffe://{source['principal']}",) if source["mtls"] else (),
    )
    if "request" not in case:
        assert guard.admit_connection(connection).allowed is case["allow"]
        return
    extra = []
    if case.get("token"):
        extra = [(b"authorization", b"Bearer " + tokens()["tokens"][case["token"]]["jwt"].encode())]
    answer = guard.admit(request_of(case["request"], extra), connection, NOW)
    assert answer.allowed is case["allow"], answer


def spelled(text):
    """``${NAME}`` is a token, ``${NAME.payload}`` its middle part."""

    def token(found):
        name, _, part = found.group(1).partition(".")
        whole = tokens()["tokens"][name]["jwt"]
        return whole.split(".")[1] if part else whole

    return re.sub(r"\$\{([^}]+)\}", token, text)


@pytest.mark.parametrize("case", data_cases("authz/request_authentication.json"))
def test_istio_believes_the_same_tokens(case):
    destination = case["destination"]
    guard = guard_of(family("request_authentication.json")["sets"][case["set"]]["config"], destination)
    given = json.loads(spelled(json.dumps(case["request"])))
    connection = Connection("10.0.1.1", "10.0.1.1", "10.0.1.2", destination["port"])
    answer = guard.admit(request_of(given), connection, NOW)
    expected = case["expect"]
    assert answer.status == expected["status"], answer
    if answer.allowed:
        seen = {name.lower(): value for name, value in given.get("headers", {}).items()}
        seen = {name: value for name, value in seen.items() if name not in answer.removed}
        seen.update(answer.set_headers)
        for name, value in expected.get("upstream_request_headers", {}).items():
            assert seen.get(name.lower(), "") == spelled(value), name


@pytest.mark.parametrize("case", data_cases("authz/policy_to_rbac.json"))
def test_istiod_makes_the_same_filters(case):
    decode = pytest.importorskip("meshlib.xds.decode")
    policies = SecurityPolicies(resources_of(case["policies"]), "foo", "istio-system")
    applied = policies.authorization(Workload("foo", {"app": "httpbin", "version": "v1"}))
    refused = all("bad-CUSTOM-action" in json.dumps(given) for given in case["expect_filters"] or ["asked"])
    if applied.custom and not refused:
        pytest.skip("the provider of the CUSTOM policy is asked by Envoy; nobody here asks one")
    domains = (case.get("trust_domain") or "cluster.local", *(case.get("trust_domain_aliases") or ()))
    made = authorization_filters(applied, domains, tcp=case["protocol"] == "tcp")
    wanted = [decode.decode_rbac(given["typedConfig"]).value for given in case["expect_filters"]]
    assert list(made) == wanted
