"""Consistent hashing sticks: by header, query and cookie, and a generated cookie lasts."""

from __future__ import annotations

import random

import httpx
import pytest

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.policies.hash_key import Maker, hash_key
from meshlib.httpx import MeshTransport
from meshlib.model.policy import HashKey
from meshlib.testing import ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service
from tests.dataplane.worlds import request

RNG = random.Random(1)


def rotated(value):
    return (value << 1 | value >> 63) & (2**64 - 1)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ([HashKey("header", "x-user")], xxh64(b"ann")),
        ([HashKey("query", "u")], xxh64(b"1")),
        ([HashKey("cookie", "c")], xxh64(b"z")),
        ([HashKey("header", "absent")], None),
        ([HashKey("header", "x-user"), HashKey("query", "u")], rotated(xxh64(b"ann")) ^ xxh64(b"1")),
        ([HashKey("header", "x-user", terminal=True), HashKey("query", "u")], xxh64(b"ann")),
        ([HashKey("header", "absent"), HashKey("query", "u")], xxh64(b"1")),
        ([HashKey("cookie", "missing")], None),
    ],
)
def test_sources_combine_as_envoy_combines_them(keys, value):
    asked = request(path="/?u=1", headers={"X-User": "ann", "Cookie": 'a=b; c="z"'})
    assert hash_key(keys, asked, Maker(RNG)) == (value, ())


def test_a_missing_cookie_with_a_time_to_live_is_made():
    key = HashKey("cookie", "sticky", 60.0, "/", (("SameSite", "Strict"), ("Secure", "")))
    value, (cookie,) = hash_key([key], request(), Maker(RNG))
    made = cookie.decode().partition('"')[2].partition('"')[0]
    assert value == xxh64(made.encode())
    assert cookie.decode() == f'sticky="{made}"; Max-Age=60; Path=/; SameSite=Strict; Secure; HttpOnly'


RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec: {{host: svc, trafficPolicy: {{loadBalancer: {{consistentHash: {{{key}}}}}}}}}
"""


def client_of(key, wire):
    slices = endpoint_slice("svc", "v1", *((f"10.0.0.{number}", 80) for number in range(1, 6)))
    mesh = mesh_of(service("svc", 80), slices, RULE.format(key=key), telemetry=False)
    return mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire))


@pytest.mark.parametrize("algorithm", ["", ", ringHash: {minimumRingSize: 100}", ", maglev: {tableSize: 1009}"])
def test_the_same_header_goes_to_the_same_endpoint(algorithm):
    wire = ScriptedTransport()
    mesh, client = client_of("httpHeaderName: x-user" + algorithm, wire)
    with mesh, client:
        for user in ("ann", "bob", "eve", "joe", "kim", "lee"):
            wire.seen.clear()
            for _ in range(10):
                client.get("http://svc/", headers={"x-user": user})
            assert len(set(wire.seen)) == 1
        wire.seen.clear()
        for _ in range(100):
            client.get("http://svc/")
        assert len(set(wire.seen)) == 5, "without the header any endpoint will do"


def test_a_client_with_a_cookie_jar_sticks():
    wire = ScriptedTransport()
    mesh, client = client_of("httpCookie: {name: sticky, ttl: 60s, path: /}", wire)
    with mesh, client:
        first = client.get("http://svc/")
        assert first.headers["set-cookie"].startswith('sticky="')
        for _ in range(20):
            assert "set-cookie" not in client.get("http://svc/").headers
        assert len(set(wire.seen)) == 1
