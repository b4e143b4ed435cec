"""Secrets from a control plane (SDS) or an agent, towards servers that want certificates, over real sockets."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("envoy.service.discovery.v3")
pytest.importorskip("grpc")

import trustme

from meshlib import Mesh, MeshClient, errors
from meshlib.providers import XdsProvider
from tests.providers.test_xds import HOST, NAME, PROTOCOLS, SIDECAR, until
from tests.xds.planes import ControlPlane
from tests.xds.resources import endpoints, socket_listener, table
from tests.xds.secrets import certificate, context, roots, secured

SERVER = "reviews.mesh.example"
URL = "http://reviews:9080/"


class Handler(BaseHTTPRequestHandler):
    """Tells whom it served."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked: Any = self.connection
        names = asked.getpeercert()["subjectAltName"] if isinstance(asked, ssl.SSLSocket) else ()
        body = ",".join(value for _, value in names).encode() or b"plaintext"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Servers:
    """Servers of a mesh's workloads, and who signs for them."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self._running: list[ThreadingHTTPServer] = []

    def start(self, ca: trustme.CA | None = None, *, tls: bool = True) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            (ca or self.ca).issue_cert(SERVER).configure_cert(made)
            (ca or self.ca).configure_trust(made)
            made.verify_mode = ssl.CERT_REQUIRED
            made.set_alpn_protocols(["http/1.1"])
            server.socket = made.wrap_socket(server.socket, server_side=True)
        self._running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_port)

    def stop(self) -> None:
        for server in self._running:
            server.shutdown()
            server.server_close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.stop()


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as made:
        yield made


def served(cluster: Any, assigned: Any) -> list[Any]:
    domains = dict.fromkeys((HOST, "reviews", "reviews.shop"), NAME)
    return [cluster, assigned, socket_listener("0.0.0.0_9080", 9080, "9080"), table("9080", domains, ignore_ports=True)]


def identity(ca: Any, name: str = "web") -> list[Any]:
    return [certificate("default", ca.issue_cert(f"{name}.mesh.example")), roots("ROOTCA", ca)]


def mesh_of(plane: ControlPlane, **given: Any) -> Mesh:
    return Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), secrets=given.pop("secrets", ""), **given))


@PROTOCOLS
def test_a_cluster_waits_for_its_secrets_and_a_renewed_one_is_shown_from_the_next_connection_on(plane, servers, delta):
    port = servers.start()
    plane.serve(*served(secured(NAME, context("default", "ROOTCA", SERVER)), endpoints(NAME, port)))
    with mesh_of(plane, delta=delta) as mesh, MeshClient(mesh) as client:
        plane.serve(*identity(servers.ca))
        assert client.get(URL).text == "web.mesh.example"
        plane.serve(*identity(servers.ca, "renewed"))
        until(lambda: client.get(URL).text == "renewed.mesh.example")


@PROTOCOLS
def test_secrets_of_other_names_serve_clusters_of_their_own(plane, servers, delta):
    leaf = servers.ca.issue_cert("client.example")
    secrets = [certificate("kubernetes://edge", leaf), roots("kubernetes://edge-cacert", servers.ca, SERVER)]
    tls = context("kubernetes://edge", "kubernetes://edge-cacert")
    plane.serve(*served(secured(NAME, tls), endpoints(NAME, servers.start())), *secrets)
    with mesh_of(plane, delta=delta) as mesh, MeshClient(mesh) as client:
        assert client.get(URL).text == "client.example"


def test_a_peer_of_another_authority_or_name_is_refused(plane, servers):
    stranger = servers.start(trustme.CA())
    plane.serve(*served(secured(NAME, context("default", "ROOTCA", SERVER)), endpoints(NAME, stranger)))
    plane.serve(*identity(servers.ca))
    with mesh_of(plane) as mesh, MeshClient(mesh) as client:
        with pytest.raises(errors.ConnectFailure, match="certificate verify failed"):
            client.get(URL)
        other = context("default", "ROOTCA", "other.mesh.example")
        plane.serve(*served(secured(NAME, other), endpoints(NAME, servers.start())))
        until(lambda: "wanted one of" in _failure(client))


def _failure(client: MeshClient) -> str:
    with pytest.raises(errors.ConnectFailure) as told:
        client.get(URL)
    return str(told.value)


def test_a_bad_secret_is_refused_and_the_last_good_stays(plane, servers):
    plane.serve(*served(secured(NAME, context("default", "ROOTCA", SERVER)), endpoints(NAME, servers.start())))
    plane.serve(*identity(servers.ca))
    with mesh_of(plane) as mesh, MeshClient(mesh) as client:
        assert client.get(URL).text == "web.mesh.example"
        broken = certificate("default", servers.ca.issue_cert("x.example"))
        broken.tls_certificate.private_key.inline_string = (
            "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"
        )
        plane.requests()
        plane.serve(broken, roots("ROOTCA", servers.ca))
        until(lambda: mesh.problems)
        (nack,) = [each["error_detail"] for each in plane.requests() if "error_detail" in each]
        assert "default: tls_certificate: cannot be used" in nack["message"]
        assert "AA==" not in str(nack) + str(mesh.problems)
        assert client.get(URL).text == "web.mesh.example"


def test_without_its_secret_a_cluster_refuses_and_says_which_is_missing(plane, servers):
    plane.serve(*served(secured(NAME, context("default", "ROOTCA", SERVER)), endpoints(NAME, servers.start())))
    with mesh_of(plane, delta=True) as mesh, MeshClient(mesh) as client:  # says at once that there is none
        assert "has not sent the certificate 'default', the roots 'ROOTCA'" in _failure(client)
        plane.serve(*identity(servers.ca))
        until(lambda: _works(client))


def _works(client: MeshClient) -> bool:
    try:
        return bool(client.get(URL).is_success)
    except errors.ConnectFailure:
        return False


def test_the_agent_has_the_meshs_own_secrets_and_automatic_mtls_is_spoken_where_it_is_accepted(plane, servers):
    mutual, plain = servers.start(), servers.start(tls=False)
    assigned = endpoints(NAME, mutual, plain)
    accepts = assigned.endpoints[0].lb_endpoints[0].metadata.filter_metadata["envoy.transport_socket_match"]
    accepts["tlsMode"] = "istio"
    tls = context("default", "ROOTCA", SERVER, agent=True)
    plane.serve(*served(secured(NAME, tls, automatic=True), assigned))
    with ControlPlane() as agent:
        agent.serve(*identity(servers.ca))
        with mesh_of(plane, secrets=agent.uri) as mesh, MeshClient(mesh) as client:
            told = {client.get(URL).text for _ in range(20)}
            assert told == {"web.mesh.example", "plaintext"}
            del accepts["tlsMode"]
            assigned.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value = plain
            assigned.endpoints[0].lb_endpoints[1].endpoint.address.socket_address.port_value = mutual
            moved = assigned.endpoints[0].lb_endpoints[1].metadata.filter_metadata["envoy.transport_socket_match"]
            moved["tlsMode"] = "istio"
            plane.patch(assigned)
            until(lambda: {client.get(URL).text for _ in range(20)} == told)
            assert {each.get("type_url", "").rpartition(".")[2] for each in agent.requests()} == {"", "Secret"}
        assert all("Secret" not in each.get("type_url", "") for each in plane.requests())


def test_secrets_are_neither_kept_on_disk_nor_shown(plane, servers, tmp_path):
    plane.serve(*served(secured(NAME, context("default", "ROOTCA", SERVER)), endpoints(NAME, servers.start())))
    plane.serve(*identity(servers.ca))
    kept = tmp_path / "kept"
    provider = XdsProvider(plane.bootstrap(id=SIDECAR), secrets="", keep_in=kept)
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        assert client.get(URL).is_success
        until(kept.exists)
        shown = provider.client_config().SerializeToString()
    assert b"default" in shown
    assert b"PRIVATE KEY" not in shown
    assert b"PRIVATE KEY" not in kept.read_bytes()
    assert kept.stat().st_mode & 0o077 == 0
