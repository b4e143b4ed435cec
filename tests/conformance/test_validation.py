"""Validation equals Istio's: its semantic tables, its published schemas, its syntax of single fields."""

from __future__ import annotations

import pytest
import re2

from meshlib.config.resources import load_dict
from meshlib.config.resources.base import duration
from meshlib.config.validation import authorization_values, primitives, validate
from meshlib.config.validation.header_format import header_value
from meshlib.model.jwks_uri import parse_jwks_uri
from meshlib.model.path_template import is_path_template
from meshlib.model.principals import claim_path, namespace_regex, service_account_regex
from meshlib.model.problem import Level
from tests.conftest import data_cases

NOT_OF_CLIENTS = {
    "EnvoyFilter": "patches Envoy's own configuration",
    "WasmPlugin": "is a program for Envoy",
    "TrafficExtension": "is a program for Envoy",
}


def problems_of(resource):
    loaded = load_dict(resource)
    return [*loaded.problems, *(problem for r in loaded.resources for problem in validate(r))]


def errors_in(problems):
    return [problem for problem in problems if problem.level is Level.ERROR]


def in_a_gateway(case):
    """The row's bare message, in the smallest Gateway that is otherwise valid."""
    message = case["message"]
    server = {"hosts": ["foo.bar.com"], "port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": message}
    if case["message_type"].endswith(".Port"):
        server = {"hosts": ["foo.bar.com"], "port": message}
    metadata = {"name": "gateway", "namespace": "default"}
    spec = {"servers": [server]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("case", data_cases("validate/tables.json"))
def test_istios_tables(case):
    found = problems_of(case.get("resource") or in_a_gateway(case))
    assert (not errors_in(found)) is case["valid"], found
    if "warning" in case:
        assert (len(found) > len(errors_in(found))) is case["warning"] or not case["valid"], found


@pytest.mark.parametrize("case", data_cases("validate/crd.json"))
def test_istios_schemas(case):
    resource = case["resource"]
    if resource["kind"] in NOT_OF_CLIENTS:
        pytest.skip(f"{resource['kind']} {NOT_OF_CLIENTS[resource['kind']]} and cannot concern a client")
    if any(not isinstance(text, str) for text in (resource.get("spec") or {}).get("addresses") or []):
        pytest.skip("one of the row's addresses is a mapping, which the schema's list of strings cannot take")
    found = problems_of(resource)
    assert (not errors_in(found)) is case["valid"], found


def exported(given):
    rule = given["is_destination_rule_with_selector"]
    return primitives.export_to(given["exportTo"], given["namespace"], nobody=given["is_service_entry"], selected=rule)


SYNTAX = {
    "http_header_name_strict": primitives.plain_header_name,
    "http_header_name_or_jwt_claim": primitives.header_match_name,
    "http_header_value (envoy format string)": header_value,
    "http_status_code": primitives.http_status,
    "port_name": primitives.dns_label,
    "port_number": primitives.port,
    "export_to": exported,
    "fqdn": primitives.fqdn,
    "wildcard_domain": primitives.wildcard_host,
    "wildcard_domain_vs_on_gateway": lambda given: primitives.sni_host(given["host"], generated=given["sni"]),
    "trust_domain": primitives.trust_domain,
    "duration_at_least_1ms_whole_ms": lambda text: primitives.duration(duration(text)),
    "connect_timeout": lambda text: primitives.connect_timeout(duration(text)),
    "locality_list": primitives.localities,
    "ip_address": primitives.ip,
    "ip_subnet": primitives.subnet,
}


@pytest.mark.parametrize("case", data_cases("validate/primitives.json"))
def test_syntax_of_single_fields(case):
    problem = SYNTAX[case["check"]](case["input"])
    assert (problem is None) is case["valid"], problem


def key_source(case):
    found = parse_jwks_uri(case["input"])
    if found is None:
        return None
    return {"hostname": found.hostname, "scheme": found.scheme, "port": found.port, "useSSL": found.tls}


def claim(case):
    found = claim_path(case["input"])
    return None if found is None else list(found)


def in_namespace(case):
    pattern = namespace_regex(case["value"])
    return None if re2.fullmatch(pattern, case["match"]) and not re2.fullmatch(pattern, case["no_match"]) else pattern


def of_account(case):
    return bool(re2.fullmatch(service_account_regex(case["policy_value"], "policy-ns"), case["identity"]))


AUTHORIZATION = {
    "authz_condition_valid": lambda case: authorization_values.condition(case["key"], case["values"]) is None,
    "authz_path_template_valid": lambda case: authorization_values.paths(case["values"]) is None,
    "authz_service_account_wildcards_valid": lambda case: authorization_values.wildcards(case["values"]) is None,
    "authz_trust_domain_values_valid": lambda case: authorization_values.trust_domains(case["values"]) is None,
    "authz_service_account_matches": of_account,
    "authz_namespace_matches": in_namespace,
    "is_path_template": lambda case: is_path_template(case["input"]),
    "claim_path_parse": claim,
    "jwks_uri_parse": key_source,
}


def of_authorization(case):
    return case.values[0] is None or case.values[0]["check"] in AUTHORIZATION


@pytest.mark.parametrize("case", [case for case in data_cases("model/primitives.json") if of_authorization(case)])
def test_authorization_syntax(case):
    assert AUTHORIZATION[case["check"]](case) == case.get("expect")
