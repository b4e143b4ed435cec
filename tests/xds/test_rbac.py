"""RBAC filters: gRPC's decisions, and the filters that istiod makes of AuthorizationPolicies."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.config.rbac.v3")

from meshlib.dataplane.policies.rbac import Connection, bind_rbac, decide
from meshlib.dataplane.request import Request
from meshlib.model.rbac import Action
from meshlib.xds.decode import InvalidResource, Profile, decode_rbac
from tests.conftest import data_cases


def address(text):
    host, colon, port = (text or "").rpartition(":")
    return host if colon and port.isdigit() and host.count(":") == 0 else text or ""


def connection(given):
    tls = given.get("tls")
    names = tls or {}
    source = address(given.get("source_ip"))
    return Connection(
        source,
        source,
        address(given.get("destination_ip")),
        int(given.get("destination_port") or 0),
        tls=tls is not None,
        certificate=tls is not None and not names.get("no_certificate"),
        uri_sans=tuple(names.get("uri_sans", ())),
        dns_sans=tuple(names.get("dns_sans", ())),
        subject=names.get("subject", ""),
    )


def request(given):
    raw = [(n.encode(), v.encode()) for n, values in given.get("headers", {}).items() for v in values]
    return Request(given.get("method", "POST"), "http", given.get("host", ""), 80, given.get("path", ""), raw)


@pytest.mark.parametrize("case", data_cases("xds/rbac.json"))
def test_a_chain_lets_in_whom_grpc_lets_in(case):
    filters = bind_rbac([decode_rbac(each, Profile.GRPC).value for each in case["rbac"]])
    for each in case["requests"]:
        given = each["request"]
        assert decide(filters, request(given), connection(given)).allowed is each["allow"], given


@pytest.mark.parametrize("case", data_cases("authz/policy_to_rbac.json"))
def test_what_istiod_makes_of_a_policy_is_read_whole(case):
    for given in case["expect_filters"]:
        if not given["name"].endswith("rbac"):
            continue  # an external authorizer's own filter
        found = decode_rbac(given["typedConfig"])
        assert found.not_honoured == ()
        for side in ("rules", "shadowRules"):
            tables = getattr(found.value, {"rules": "rules", "shadowRules": "shadow_rules"}[side])
            wanted = given["typedConfig"].get(side)
            assert (tables is None) is (wanted is None)
            if wanted is not None:
                assert [policy.name for policy in tables.policies] == sorted(wanted.get("policies", {}))
                assert tables.action is Action(wanted.get("action", "ALLOW"))
        bind_rbac([found.value])


def only(permission=None, principal=None, **table):
    policy = {"permissions": [permission or {"any": True}], "principals": [principal or {"any": True}]}
    return decode_rbac({"policies": {"p": policy}, **table})


def allowed(found, given, **facts):
    known = {**{name: getattr(connection(given), name) for name in Connection.__slots__}, **facts}
    return decide(bind_rbac([found.value]), request(given), Connection(**known)).allowed


def test_claims_of_a_token_are_metadata():
    value = {"listMatch": {"oneOf": {"stringMatch": {"exact": "admin"}}}}
    path = [{"key": "request.auth.claims"}, {"key": "groups"}]
    found = only(principal={"metadata": {"filter": "istio_authn", "path": path, "value": value}})
    claims = {"istio_authn": {"request.auth.claims": {"groups": ["dev", "admin"]}}}
    assert allowed(found, {}, metadata=claims)
    assert not allowed(found, {}, metadata={})


def test_a_certificate_is_known_by_any_of_its_names():
    found = only(principal={"authenticated": {"principalName": {"prefix": "spiffe://td/ns/foo/"}}})
    assert allowed(found, {"tls": {"uri_sans": ["spiffe://td/ns/foo/sa/bar"]}})
    assert not allowed(found, {"tls": {"dns_sans": ["foo"]}})
    assert not allowed(found, {})


def test_path_templates_take_segments():
    config = {"@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"}
    template = {"name": "t", "typedConfig": {**config, "pathTemplate": "/a/{*}/c/{**}"}}
    found = only({"uriTemplate": template})
    assert allowed(found, {"path": "/a/b/c/d/e?q=1"})
    assert not allowed(found, {"path": "/a/b/x/c/d"})


def test_a_filter_without_rules_decides_nothing_and_one_without_policies_refuses_all():
    kind = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
    assert allowed(decode_rbac({"@type": kind}), {})
    assert not allowed(decode_rbac({"@type": kind, "rules": {}}), {})


@pytest.mark.parametrize(
    "policy",
    [
        {
            "permissions": [{"any": True}],
            "principals": [{"any": True}],
            "condition": {"constExpr": {"boolValue": True}},
        },
        {"permissions": [{"matcher": {"name": "x"}}], "principals": [{"any": True}]},
        {"permissions": [{"any": True}], "principals": [{"filterState": {"key": "x"}}]},
        {"permissions": [{"destinationIp": {"addressPrefix": "nowhere"}}], "principals": [{"any": True}]},
    ],
)
def test_a_condition_that_cannot_be_asked_refuses_the_filter(policy):
    with pytest.raises(InvalidResource, match=r"policies\[p\]"):
        decode_rbac({"policies": {"p": policy}})
