"""Clusters as Istio's cases expect them: TLS by client and server, pools, ejection, the mesh's defaults."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.client_tls import Peer, client_tls, inferred_mode
from meshlib.config.compile.clusters import protocol_of
from meshlib.config.compile.peer_authentication import PeerAuthentications
from meshlib.config.compile.pools import connection_pool, outlier_detection
from meshlib.config.compile.services import AppProtocol, Port
from meshlib.config.compile.traffic_policy import EffectivePolicy, effective_policy
from meshlib.config.resources import load_dict
from meshlib.config.resources.destination_rule import ClientTLSSettings, ConnectionPoolSettings, OutlierDetection
from meshlib.config.resources.mesh_config import DefaultTrafficPolicy, MeshConfig
from meshlib.config.resources.security import MutualTLSMode
from meshlib.model.cluster import Protocol
from meshlib.model.policy import TlsMode
from meshlib.model.snapshot import CertificateFiles, Client
from tests.conftest import data_cases


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


@pytest.mark.parametrize("case", data_cases("model/client_tls.json"))
def test_client_tls(case):
    (_upstream if case["check"] == "upstream_tls" else _inferred)(case)


def _upstream(case):
    mode, files = case["service_mtls_mode"], case["client_cert_files"]
    peer = Peer(
        tuple(case["service_identities"]),
        case["default_sni"],
        None if mode == "UNKNOWN" else MutualTLSMode[mode],
        external=case["mesh_external"],
    )
    given = case["destination_rule_tls"]
    tls = client_tls(
        None if given is None else ClientTLSSettings.model_validate(given),
        peer,
        automatic=case["auto_mtls"],
        files=CertificateFiles(files["cert"], files["key"], files["ca"]) if files else None,
    )
    wanted = case["expect"]
    if wanted is None:
        assert tls.mode is TlsMode.DISABLE
        return
    automatic = case["expect_source"] == "automatic"
    assert (tls.mode is TlsMode.AUTO) is automatic, "automatic TLS is for the endpoints that accept it"
    if not automatic:
        assert tls.mode.value == wanted["mode"]
    assert tls.sni == wanted.get("sni", "")
    assert list(tls.subject_alt_names) == wanted.get("subjectAltNames", [])
    certificate = (tls.client_certificate, tls.private_key, tls.ca_certificates)
    assert certificate == tuple(wanted.get(k, "") for k in ("clientCertificate", "privateKey", "caCertificates"))


def _inferred(case):
    policies = PeerAuthentications(resources_of(case["policies"]), "default", "istio-system")
    service = case["service"]
    endpoints = [] if service["resolution"] == "NONE" else None
    declared = policies.of_namespace(service["namespace"])
    assert inferred_mode(declared, endpoints, external=False) is MutualTLSMode[case["expect"]]
    assert case["expect_if_external"] == "UNKNOWN"
    assert inferred_mode(declared, endpoints, external=True) is None


@pytest.mark.parametrize("case", data_cases("model/peer_authentication.json"))
def test_what_servers_accept(case):
    objects = [
        {**given, "metadata": {"name": "p", "namespace": "my-ns", **given["metadata"]}} for given in case["policies"]
    ]
    policies = PeerAuthentications(resources_of(objects), "my-ns", case["root_namespace"])
    labels = case.get("workload", {}).get("labels", {"app": "foo", "version": "v1"})
    if case["check"] == "inbound_mode":
        assert policies.of_workload("my-ns", labels, case["port"]).value == case["expect"]
        return
    assert policies.of_workload("my-ns", labels, 1).value == case["expect"]["mode"]
    for port, mode in case["expect"]["port_level"].items():
        assert policies.of_workload("my-ns", labels, int(port)).value == mode


@pytest.mark.parametrize("case", data_cases("model/cluster_policy.json"))
def test_cluster_policy(case):
    {"outlier_detection": _outlier, "h2_upgrade": _upgrade, "tcp_keepalive": _keepalive}[case["check"]](case)


def _outlier(case):
    got, wanted = outlier_detection(OutlierDetection.model_validate(case["input"])), case["expect"]
    assert got.success_rate is None, "enforcingSuccessRate is 0"
    for name, spelled in (
        ("consecutive_5xx", "consecutive5xx"),
        ("consecutive_gateway", "consecutiveGatewayFailure"),
        ("consecutive_local_origin", "consecutiveLocalOriginFailure"),
    ):
        if spelled in wanted:
            assert getattr(got, name) == wanted[spelled]
            assert (getattr(got, name) > 0) is (wanted[f"enforcingC{spelled[1:]}"] == 100)
    assert got.split_local_origin is wanted.get("splitExternalLocalOriginErrors", False)


def _upgrade(case):
    pool = ConnectionPoolSettings.model_validate(case["connection_pool"])
    mesh = MeshConfig.model_validate(case["mesh_policy"])
    protocol = protocol_of(Port(80, "p", AppProtocol(case["port_protocol"])), pool, mesh)
    assert (protocol is Protocol.HTTP2) is case["expect"]


def _keepalive(case):
    mesh = MeshConfig.model_validate(case["mesh"])
    policy = EffectivePolicy(connection_pool=ConnectionPoolSettings.model_validate(case["connection_pool"]))
    got = connection_pool(policy, http=True, http2=False, keepalive=mesh.tcp_keepalive).tcp_keepalive
    if case["expect"] is None:
        assert got is None
        return
    wanted = case["expect"]["tcpKeepalive"]
    names = {"probes": "keepaliveProbes", "time": "keepaliveTime", "interval": "keepaliveInterval"}
    assert asdict(got) == {name: wanted.get(spelled) for name, spelled in names.items()}


BLOCKS = {
    "loadBalancer": "load_balancer",
    "connectionPool": "connection_pool",
    "outlierDetection": "outlier_detection",
    "tls": "tls",
    "tunnel": "tunnel",
    "proxyProtocol": "proxy_protocol",
    "retryBudget": "retry_budget",
}


@pytest.mark.parametrize("case", data_cases("model/traffic_policy.json"))
def test_traffic_policy_layers(case):
    mesh = None
    if case["check"] == "mesh_default_policy":
        mesh = DefaultTrafficPolicy.model_validate(case["mesh_default"])
        spec = {"host": "svc", **({"trafficPolicy": case["policy"]} if case["policy"] else {})}
        subset, port = "", 8080
    else:
        level = case["subset_level"]
        spec = {"host": "svc", "subsets": [{"name": "s", **({"trafficPolicy": level} if level else {})}]}
        if case["service_level"]:
            spec["trafficPolicy"] = case["service_level"]
        subset, port = "s", (case["port"] or {}).get("number", 8080)
    raw = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "dr"}, "spec": spec}
    rules = Universe(resources_of([raw])).destination_rules
    rule = rules.find("svc.default.svc.cluster.local", "default", Client(), "istio-system")
    policy = effective_policy(rule, subset, port, mesh)
    got = {
        spelled: block.model_dump(by_alias=True, exclude_unset=True, mode="json")
        for spelled, name in BLOCKS.items()
        if (block := getattr(policy, name)) is not None
    }
    assert got == (case["expect"] or {})


SERVICES = {
    "b": "{name: b, namespace: echo}",
    "migration": "{name: migration, namespace: echo}",
}


def world(case, *, sidecar):
    """Callee and endpoints of the matrix; ``sidecar`` endpoints have an identity, the others speak plaintext only."""
    host = "migration" if any("path" in call for call in case["calls"]) else "b"
    labels = {"app": host, **({"security.istio.io/tlsMode": "istio"} if sidecar else {})}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": host, "namespace": "echo"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    yield service
    for version, number in (("vistio", 1), ("vlegacy", 2)):
        name = f"{host}-{version}"
        own = {**labels, "version": version} if version == "vistio" else {"app": host, "version": version}
        pod_labels = own if host == "migration" else labels
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "echo", "labels": pod_labels},
            "spec": {"serviceAccountName": host},
        }
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "echo", "labels": {"kubernetes.io/service-name": host}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 18080}],
            "endpoints": [{"addresses": [f"10.0.0.{number}"], "targetRef": {"kind": "Pod", "name": name}}],
        }


@pytest.mark.parametrize("case", data_cases("traffic/mtls_matrix.json"))
def test_who_reaches_whom_under_mutual_tls(case):
    for call in case["calls"]:
        if call["client"] == "mesh":
            _call(case, call)


def _call(case, call):
    mesh_server = call["server"] == "mesh"
    universe = Universe(resources_of([*world(case, sidecar=mesh_server), *case["config"]]))
    view = universe.view(Client("other"))
    host = "b.echo.svc.cluster.local"
    if "path" in call:
        host = "migration.echo.svc.cluster.local"
        route = next(
            route
            for route in view.virtual_host(host, 80).routes
            if route.match.path is None or call["path"].startswith(route.match.path.value)
        )
        name = route.action.clusters[0].cluster
    else:
        name = f"outbound|80||{host}"
    cluster = view.cluster(name)
    endpoint = view.assignment(name)[0].endpoints[0]
    sent = cluster.tls.towards(endpoint.accepts_mtls) is TlsMode.ISTIO_MUTUAL
    pod = {"app": name.rpartition("|")[2].partition(".")[0]}
    accepted = universe.peer_authentications.of_workload("echo", pod, endpoint.port)
    success = (
        (accepted is not MutualTLSMode.DISABLE if sent else accepted is not MutualTLSMode.STRICT)
        if (mesh_server)
        else not sent
    )
    assert success is call["success"], (call, cluster.tls.mode, accepted)
    if call["success"]:
        assert sent is call["mtls"]
