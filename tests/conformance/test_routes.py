"""Which rule and cluster serve a host, as Istio's own cases expect."""

from __future__ import annotations

import json
import random

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.domains import own_addresses, virtual_host_domains
from meshlib.config.compile.inbound import Wire, accepts
from meshlib.config.compile.services import Port, Resolution, Service, parse_protocol
from meshlib.config.compile.sidecar import chosen_sidecar
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.connections import Target
from meshlib.dataplane.explain import explain
from meshlib.dataplane.explain_connection import explain_connection
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request, request_of
from meshlib.dataplane.state import State
from meshlib.model.hosts import join_host_port
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import DATA, data_cases


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def world(source):
    return Prepared(Snapshot(source), State(), 0.0, random.Random(1))


def clusters(decision):
    """(host, port, subset) of every destination; None when the mesh does not route."""
    if decision.action == "passthrough" or (decision.action == "none" and not decision.resource):
        return None
    return [(d.host, d.port, d.subset) for d in decision.destinations]


def clusters_of(source, url, headers=None):
    return clusters(explain(world(source), request_of("GET", url, headers or {})))


@pytest.mark.parametrize("case", data_cases("route/sidecar_routes.json"))
def test_sidecar_routes(case):
    base = json.loads((DATA / "route/sidecar_routes.base.json").read_text())["resources"]
    source = Universe(resources_of([*base, *case["config"]])).view(Client(case["client"]["namespace"]))
    for probe in case["probes"]:
        wanted = probe["cluster"]
        got = clusters_of(source, probe["url"])
        assert got == (None if wanted is None else [(wanted["host"], wanted["port"], wanted["subset"])]), probe["url"]


# Simulated calls ----------------------------------------------------------------------------------------------------

NOWHERE = "1.3.3.7"
"""An address that belongs to no service, dialled where a case names none."""


@pytest.mark.parametrize("case", data_cases("route/simulation.json"))
def test_simulation(case):
    ask = _outbound if case["direction"] == "outbound" else _inbound
    for call in case["calls"]:
        ask(case, call["call"], call["expect"])


def _outbound(case, given, wanted):
    mesh = MeshConfig.model_validate(case.get("mesh_config") or {})
    client = case.get("client") or {}
    universe = Universe(resources_of(case["config"]), mesh=mesh)
    source = universe.view(Client(client.get("namespace", "default"), client.get("labels") or {}))
    decision = _decided(world(source), given)
    if wanted.get("virtual_host") == "block_all" or wanted.get("cluster") == "BlackHoleCluster":
        assert (decision.action, decision.virtual_service) == ("none", None), given
    elif wanted["cluster"] == "PassthroughCluster":
        assert decision.action == "passthrough", given
    else:
        _, port, subset, name = wanted["cluster"].split("|")
        assert clusters(decision) == [(name, int(port), subset)], given
    if "route_name" in wanted:
        assert (decision.route or {"name": "default"})["name"] == wanted["route_name"]


def _decided(prepared, given):
    """HTTP is asked by Host, everything else by address and server name, as an application would dial it."""
    host, port, address = given.get("host", ""), given["port"], given.get("address", NOWHERE)
    encrypted = given.get("tls", "plaintext") != "plaintext"
    if given.get("protocol") in ("http", "http2") and not encrypted:
        authority = host or join_host_port(address, port)
        return explain(prepared, Request("GET", "http", authority, port, given.get("path", "/"), dialled=address))
    return explain_connection(prepared, Target(address, port, given.get("sni") or (host if encrypted else "")))


def _inbound(case, given, wanted):
    """``error`` is a connection that is refused; a cluster is one that reaches the application."""
    universe = Universe(resources_of(case["config"]))
    labels = case["client"]["labels"]
    ingress = {}
    sidecar = chosen_sidecar(universe.sidecars, Client("default", labels), "default", "istio-system")
    if sidecar is not None:
        ingress = {listener.port.number: listener for listener in sidecar.spec.ingress}
    port = given["port"]
    listener = ingress.get(port)
    protocol = None if ingress and listener is None else _protocol(universe, listener, case["client"]["ip"], port)
    wire = {"tls": Wire.TLS, "mtls": Wire.MUTUAL}.get(given.get("tls"), Wire.PLAINTEXT)
    got = accepts(
        universe.peer_authentications.of_workload("default", labels, port),
        wire,
        protocol=protocol,
        is_http=given["protocol"] in ("http", "http2"),
        own_tls=listener.tls if listener is not None else None,
    )
    assert got is ("error" not in wanted), given


def _protocol(universe, listener, address, port):
    """What is declared for a port: by the Sidecar's listener, else by a service with that endpoint."""
    if listener is not None:
        return parse_protocol(listener.port.protocol)
    for service in universe.registry.services():
        number = service.port(port)
        if number is not None and any(e.address == address for e in universe.registry.endpoints(service, number)):
            return number.protocol
    return None


# Names --------------------------------------------------------------------------------------------------------------


def service_of(given, place, *, detected=False):
    """A service of the data; ``0.0.0.0`` is a headless one, and of ``detected`` ports nobody said what they speak."""
    headless = given["address"] == "0.0.0.0"
    ports = tuple(
        Port(p["number"], p["name"], parse_protocol("" if detected else p["protocol"])) for p in given["ports"]
    )
    addresses = () if headless or not given["address"] else (given["address"],)
    export = tuple(given["exportTo"])
    host, namespace = given["host"].lower(), given["namespace"]
    return Service(
        host, namespace, ports, Resolution.NONE, addresses, export, kubernetes=True, headless=headless, created=place
    )


@pytest.mark.parametrize("case", data_cases("route/virtual_hosts.json"))
def test_virtual_hosts(case):
    {
        "virtual_host_domains": _domains,
        "outbound_virtual_hosts": _outbound_hosts,
        "duplicate_hosts": _duplicates,
    }[case["check"]](case)


def _domains(case):
    given, client = case["service"], case["client"]
    local = given.get("cluster_vips", {}).get(client["cluster"], [])
    addresses = own_addresses(local, given["address"], client["ips"])
    got = virtual_host_domains(given["host"], client["dns_domain"], addresses)
    assert sorted(got) == sorted(case["expect"])


def _outbound_hosts(case):
    base = json.loads((DATA / f"route/{case['base']}.json").read_text())["services"]
    mode = "REGISTRY_ONLY" if case["registry_only"] else "ALLOW_ANY"
    objects = [*([case["sidecar"]] if case["sidecar"] else []), *case["virtual_services"]]
    mesh = MeshConfig.model_validate({"outboundTrafficPolicy": {"mode": mode}})
    universe = Universe(resources_of(objects), domain="", mesh=mesh)
    route = case["route"]
    detected, _, _ = route.rpartition(":") if not route.startswith("unix:") else ("", "", "")
    for place, given in enumerate(base):
        universe.registry.add(service_of(given, place, detected=given["host"] == detected))
    view = universe.view(Client(case["client"]["namespace"]))
    if detected:
        _any_host(view, case["expect"], detected)
    else:
        _named_hosts(case, view, route, base)


def _named_hosts(case, view, route, base):
    listener = _listener(view.scope, route)
    wanted = {name: domains for name, domains in case["expect"].items() if name not in ("block_all", "allow_any")}
    routes = 1
    for name, domains in wanted.items():
        host, _, port = name.lower().rpartition(":")
        for domain in domains:
            spelled, colon, own = domain.lower().rpartition(":")
            found = view.http.on(listener, _probe(spelled if colon else domain), int(own if colon else port))
            assert found is not None and (found.name, found.port) == (host, int(port)), domain
        routes += len(view.http.on(listener, host, int(port)).routes)
    assert routes == case.get("expect_routes", routes)
    names = {name.lower().rpartition(":")[0] for name in wanted}
    for given in base if route.isdigit() else ():
        if given["host"].lower() not in names:
            assert view.virtual_host(given["host"].lower(), int(route)) is None, given["host"]
    assert (view.outbound_policy.value == "REGISTRY_ONLY") is ("block_all" in case["expect"])


def _any_host(view, expect, dialled):
    """A port whose protocol is detected answers to whatever the Host header says, when that host is dialled."""
    for name, domains in expect.items():
        host, _, port = name.rpartition(":")
        assert domains == ["*"]
        decision = explain(world(view), Request("GET", "http", "zz-probe", int(port), "/", dialled=dialled))
        assert [(d.host, d.port) for d in decision.destinations] == [(host, int(port))]


def _listener(scope, route):
    """The listener of a route's name: a port, or the unix socket that it is bound to."""
    if route.isdigit():
        return scope.listener(int(route))
    return next(listener for listener in scope.listeners if listener.bind == route)


def _probe(domain):
    return domain.replace("*", "zz-probe", 1).rstrip(".")


def _duplicates(case):
    universe = Universe(resources_of(case["config"]))
    for place, given in enumerate(case["services"]):
        universe.registry.add(service_of(given, place))
    source = universe.view(Client("default"))
    for name, domains in case["expect_domains"].items():
        cluster = case["expect_cluster"][name]
        for domain in domains:
            got = clusters_of(source, f"http://{_probe(domain)}/")
            if cluster == "PassthroughCluster":
                assert got is None
            else:
                _, port, subset, host = cluster.split("|")
                assert got == [(host, int(port), subset)], domain
