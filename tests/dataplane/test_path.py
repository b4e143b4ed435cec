"""Paths are made normal as the mesh asks, before they are matched and sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.path import may_change, normalize_path
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.router import begin
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client, PathNormalization, Snapshot

NONE, BASE, MERGE, DECODE = PathNormalization


@pytest.mark.parametrize(
    ("path", "none", "base", "merge", "decode"),
    [
        ("/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
        ("/a/./b/../c", "/a/./b/../c", "/a/c", "/a/c", "/a/c"),
        ("/../a", "/../a", "/a", "/a", "/a"),
        ("/a/..", "/a/..", "/", "/", "/"),
        ("/%61%2d%7E", "/%61%2d%7E", "/a-~", "/a-~", "/a-~"),
        ("/a\\b", "/a\\b", "/a/b", "/a/b", "/a/b"),
        ("//a///b", "//a///b", "//a///b", "/a/b", "/a/b"),
        ("/a%2Fb%5cc", "/a%2Fb%5cc", "/a%2Fb%5cc", "/a%2Fb%5cc", "/a/b/c"),
        ("/a%2F..%2fb", "/a%2F..%2fb", "/a%2F..%2fb", "/a%2F..%2fb", "/b"),
        ("/%2e%2E/a", "/%2e%2E/a", "/a", "/a", "/a"),
        ("/a?x=/../%61//", "/a?x=/../%61//", "/a?x=/../%61//", "/a?x=/../%61//", "/a?x=/../%61//"),
        ("/.well-known/x", "/.well-known/x", "/.well-known/x", "/.well-known/x", "/.well-known/x"),
    ],
)
def test_each_normalization_does_more_than_the_one_before(path, none, base, merge, decode):
    assert [normalize_path(path, how) for how in (NONE, BASE, MERGE, DECODE)] == [none, base, merge, decode]


@given(st.text(alphabet="/.%aA2eEfF5cC\\?x", max_size=20), st.sampled_from([BASE, MERGE, DECODE]))
def test_what_may_not_change_does_not_and_what_is_normal_stays(rest, how):
    path = f"/{rest}"
    if not may_change(path):
        assert normalize_path(path, how) == path
    once = normalize_path(path, BASE)
    assert "/../" not in once.partition("?")[0]


@pytest.mark.parametrize(
    ("normalization", "subset"),
    [(None, "exact"), ("BASE", "exact"), ("NONE", "rest"), ("DEFAULT", "exact"), ("MERGE_SLASHES", "exact")],
)
def test_what_is_matched_is_what_is_sent(normalization, subset):
    text = """
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec: {host: svc, subsets: [{name: exact}, {name: rest}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - {match: [{uri: {exact: /secret}}], route: [{destination: {host: svc, subset: exact}}]}
  - {route: [{destination: {host: svc, subset: rest}}]}
"""
    mesh = {} if normalization is None else {"pathNormalization": {"normalization": normalization}}
    source = Universe(load_text(text).resources, mesh=MeshConfig.model_validate(mesh)).view(Client())
    rng = random.Random(1)
    prepared = Prepared(Snapshot(source), State(), 0.0, rng)
    request = request_of("GET", "http://svc/x/../secret", {})
    call = begin(prepared, request, 0.0, rng)
    assert call.destination.cluster.cluster.subset == subset
    assert request.path == ("/secret" if subset == "exact" else "/x/../secret")
    call.close(0.0)
