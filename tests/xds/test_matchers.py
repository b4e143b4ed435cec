"""gRPC's conditions on headers, paths and domains."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("envoy.config.route.v3")

from meshlib.dataplane.matchers import bind
from meshlib.dataplane.request import Request
from meshlib.model.domains import RouteTable, domain_kind, matches_domain
from meshlib.model.match import RouteMatch
from meshlib.model.route import VirtualHost
from meshlib.xds.decode.findings import Findings, Place, Profile
from meshlib.xds.decode.matches import header_match, route_match
from meshlib.xds.messages import json_format, route_components_pb2
from tests.conftest import data_cases


def matches(match, request):
    return all(clause.test(request, random.Random(1)) for clause in bind(match))


def on_headers(given):
    text = {"exact", "prefix", "suffix", "contains"}
    values = {"name": given["name"], "invert_match": given.get("invert_match", False)}
    for key, value in given.items():
        if key in text:
            values["string_match"] = {key: value, "ignore_case": given.get("ignore_case", False)}
        elif key == "regex_full_match":
            values["string_match"] = {"safe_regex": {"regex": value}}
        elif key == "range":
            values["range_match"] = {name: str(number) for name, number in value.items()}
        elif key == "present_match":
            values["present_match"] = value
        elif key in ("string_match", "string"):
            values["string_match"] = value
    message = json_format.ParseDict(values, route_components_pb2.HeaderMatcher())
    return header_match(message, Place(Findings(Profile.GRPC)))


def request(path="/", headers=None):
    raw = [(name.encode(), value.encode()) for name, values in (headers or {}).items() for value in values]
    return Request("POST", "http", "svc", 80, path, [pair for pair in raw if not pair[0].startswith(b":")])


def check_header_match(case):
    return matches(RouteMatch(headers=(on_headers(case["matcher"]),)), request(headers=case["headers"]))


def check_path_match(case):
    values = dict(case["matcher"])
    if "safe_regex" in values:
        values["safe_regex"] = {"regex": values["safe_regex"]}
    message = json_format.ParseDict(values, route_components_pb2.RouteMatch())
    findings = Findings(Profile.GRPC)
    match = route_match(message, Place(findings))
    assert match is not None and not findings.errors
    return matches(match, request(case["path"]))


def check_domain_match(case):
    assert domain_kind(case["domain"]).name.lower() == case["kind"].lower()
    return matches_domain(case["domain"], case["host"])


def check_best_virtual_host(case):
    hosts = tuple((VirtualHost(each["name"], 0, ()), tuple(each["domains"])) for each in case["virtual_hosts"])
    found = RouteTable("", hosts).find(case["host"])
    return found.name if found is not None else None


@pytest.mark.parametrize("case", data_cases("xds/matchers.json"))
def test_a_condition_holds_as_grpc_says(case):
    assert globals()[f"check_{case['check']}"](case) == case["expect"]
