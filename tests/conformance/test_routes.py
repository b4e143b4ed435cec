"""Which rule and cluster serve a host, as Istio's own cases expect."""

from __future__ import annotations

import json
import random

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import DATA, data_cases

GATEWAY_API = {"HTTPRoute", "GRPCRoute"}


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def clusters_of(source, url, headers=None):
    """(host, port, subset) of every destination; None when the mesh does not route the request."""
    decision = explain(
        Prepared(Snapshot(source), State(), 0.0, random.Random(1)), request_of("GET", url, headers or {})
    )
    if decision.action == "passthrough" or (decision.action == "none" and not decision.virtual_service):
        return None
    return [(d.host, d.port, d.subset) for d in decision.destinations]


@pytest.mark.parametrize("case", data_cases("route/sidecar_routes.json"))
def test_sidecar_routes(case):
    if GATEWAY_API & {given["kind"] for given in case["config"]}:
        pytest.skip("Gateway API routes are not compiled yet")
    base = json.loads((DATA / "route/sidecar_routes.base.json").read_text())["resources"]
    source = Universe(resources_of([*base, *case["config"]])).view(Client(case["client"]["namespace"]))
    for probe in case["probes"]:
        wanted = probe["cluster"]
        got = clusters_of(source, probe["url"])
        assert got == (None if wanted is None else [(wanted["host"], wanted["port"], wanted["subset"])]), probe["url"]


@pytest.mark.parametrize("case", data_cases("route/simulation.json"))
def test_simulation(case):
    if case["direction"] != "outbound":
        pytest.skip("inbound: what a server accepts")
    mesh = MeshConfig.model_validate(case.get("mesh_config") or {})
    client = case.get("client") or {}
    universe = Universe(resources_of(case["config"]), mesh=mesh)
    source = universe.view(Client(client.get("namespace", "default"), client.get("labels") or {}))
    asked = 0
    for call in case["calls"]:
        given, wanted = call["call"], call["expect"]
        host = given.get("host") or given.get("sni") or given.get("address")
        if given.get("protocol") == "tcp" or not host or "cluster" not in wanted or "sni" in given:
            continue  # plain TCP and SNI routing: rules that are read and not acted upon
        asked += 1
        host = f"[{host}]" if host.count(":") > 1 else host.partition(":")[0]
        got = clusters_of(source, f"http://{host}:{given['port']}{given.get('path', '/')}")
        _, _, name = wanted["cluster"].rpartition("|")
        if wanted["cluster"].startswith("outbound|"):
            _, port, subset, name = wanted["cluster"].split("|")
            assert got == [(name, int(port), subset)], given
        else:
            assert got is None, given
    if not asked:
        pytest.skip("only plain TCP and TLS calls")
