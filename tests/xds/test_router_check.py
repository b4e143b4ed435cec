"""Envoy's own route tables and what its router check expects of them."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("envoy.config.route.v3")

from meshlib.dataplane import router
from meshlib.dataplane.request import Request, is_grpc, split_host
from meshlib.errors import NoRoute, UnknownHost
from meshlib.model.route import Forward
from meshlib.xds import decode
from tests.conftest import data_cases
from tests.xds.tables import prepared


class ByValue(random.Random):
    """Draws the share of a weighted sum that a 64-bit number stands for, as Envoy does."""

    def __init__(self, value, total):
        super().__init__(1)
        self.share = (value % total + 0.5) / total

    def random(self):
        return self.share


def ask(table, given):
    """(host, call or None)."""
    headers = {name.lower(): value for name, value in given.get("headers", {}).items()}
    raw = [("host", given["authority"]), *headers.items()]
    scheme = "https" if given.get("tls") else "http"
    request = Request(
        given.get("method", "GET"),
        scheme,
        given["authority"],
        443 if given.get("tls") else 80,
        given["path"],
        [(name.encode(), value.encode()) for name, value in raw],
        is_grpc=is_grpc(headers.get("content-type", "").encode()),
    )
    host = table.find(split_host(given["authority"]))
    world = prepared(table)
    bound = world.host(request.host, 80)
    route = bound.find(request, random.Random(1)) if bound is not None else None
    action = route.route.action if route is not None else None
    total = sum(each.weight for each in action.clusters) if isinstance(action, Forward) else 1
    try:
        return host, router.begin(world, request, 0.0, ByValue(given.get("random_value", 0), total))
    except (NoRoute, UnknownHost):
        return host, None


def seen(call):
    """What goes upstream, or the answer made here."""
    if call.answer is not None:
        return "", call.response_headers(call.answer.headers)
    target, headers = call.head(call.next_attempt(0.0))
    found = {}
    for name, value in headers:
        found.setdefault(name.decode().lower(), []).append(value.decode())
    return target, found


def joined(headers):
    found = {}
    for name, value in headers:
        found.setdefault(name.decode().lower(), []).append(value.decode())
    return {name: ",".join(values) for name, values in found.items()}


@pytest.mark.parametrize("case", data_cases("route/xds_router_check.json"))
def test_a_table_routes_as_envoy_says(case):
    table = decode.route_configuration(case["route_config"]).value
    for each in case["tests"]:
        given, expected = each["input"], each["expect"]
        host, call = ask(table, given)
        if expected.get("virtual_host"):
            assert host is not None and host.name == expected["virtual_host"], given
        if "cluster" in expected:
            cluster = call.cluster.name if call is not None and call.answer is None and call.cluster else None
            assert cluster == expected["cluster"], given
        if "redirect" in expected:
            location = joined(call.answer.headers).get("location") if call is not None and call.answer else None
            assert location == expected["redirect"], given
        if "status" in expected:
            assert (call.answer.status if call is not None else 404) == expected["status"], given
        if "timeout" in expected:
            assert f"{call.route.action.timeout:g}s" == expected["timeout"], given
        check_head(call, given, expected)
        check_answer(call, given, expected)


def check_head(call, given, expected):
    wanted = {name.lower(): value for name, value in expected.get("upstream_headers", {}).items()}
    if "path_rewrite" not in expected and "host_rewrite" not in expected and not wanted:
        return
    target, headers = seen(call)
    found = {name: ",".join(values) for name, values in headers.items()}
    found |= {":path": target, ":authority": headers["host"][0], ":method": given.get("method", "GET")}
    if "path_rewrite" in expected:
        assert target == expected["path_rewrite"], given
    if "host_rewrite" in expected:
        assert headers["host"] == [expected["host_rewrite"]], given
    for name, value in wanted.items():
        assert found.get(name) == value, (given, name)
    for name in expected.get("absent_upstream_headers", ()):
        assert name.lower() not in found, given


def check_answer(call, given, expected):
    if not {"response_headers", "absent_response_headers"} & expected.keys():
        return
    made = call.answer.headers if call.answer is not None else []
    found = joined(call.response_headers(made))
    for name, value in expected.get("response_headers", {}).items():
        assert found.get(name.lower()) == value, (given, name)
    for name in expected.get("absent_response_headers", ()):
        assert name.lower() not in found, (given, name)
