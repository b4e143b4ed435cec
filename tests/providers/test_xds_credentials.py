"""How a control plane is trusted, and how it knows us: TLS, mutual TLS, token files, Google's default."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("envoy.service.discovery.v3")
pytest.importorskip("grpc")
pytest.importorskip("trustme")

import trustme

from meshlib import Mesh, errors
from meshlib.providers import XdsProvider
from meshlib.providers.xds.credentials import call_metadata, tls_context
from meshlib.xds.bootstrap import Credentials, Server
from tests.providers.test_xds import SIDECAR, at, goes_to, sidecar_set, until
from tests.xds.planes import ControlPlane


class Files:
    """A CA with a server's and a client's certificate, in files."""

    def __init__(self, folder: Any) -> None:
        self.ca = trustme.CA()
        self.roots = self._write(folder / "roots.pem", self.ca.cert_pem)
        server = self.ca.issue_cert("127.0.0.1", "localhost")
        self.server = (
            self._write(folder / "server.pem", *server.cert_chain_pems),
            self._write(folder / "server.key", server.private_key_pem),
        )
        self.client = (folder / "client.pem", folder / "client.key")
        self.issue_client(self.ca)

    def issue_client(self, ca: Any) -> None:
        made = ca.issue_cert("client.test")
        self._write(self.client[0], *made.cert_chain_pems)
        self._write(self.client[1], made.private_key_pem)

    @staticmethod
    def _write(path: Any, *blobs: Any) -> str:
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def token(ends_in: float) -> str:
    def part(value: dict) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'exp': time.time() + ends_in})}.x"


def provider(plane: ControlPlane, tls: dict, **call: str) -> XdsProvider:
    bootstrap = plane.bootstrap(id=SIDECAR)
    server = bootstrap["xds_servers"][0]
    server["channel_creds"] = [{"type": "unheard_of"}, {"type": "tls", "config": tls}]
    server["call_creds"] = [{"type": kind, "config": {kind: path}} for kind, path in call.items()]
    return XdsProvider(bootstrap)


def test_a_server_is_trusted_by_the_roots_of_the_bootstrap(files):
    with ControlPlane(tls=files.server) as plane:
        plane.serve(*sidecar_set(1))
        with Mesh(provider(plane, {"ca_certificate_file": files.roots})) as mesh:
            mesh.ready()
            assert goes_to(mesh) == at(1)
        with Mesh(provider(plane, {}), ready_timeout=1) as mesh, pytest.raises(errors.NotReady, match="UNAVAILABLE"):
            mesh.ready()


def test_a_certificate_that_was_replaced_counts_from_the_next_stream_on(files):
    tls = dict(
        zip(
            ("ca_certificate_file", "certificate_file", "private_key_file"),
            (files.roots, *map(str, files.client)),
            strict=True,
        )
    )
    files.issue_client(trustme.CA())
    with ControlPlane(tls=(*files.server, files.roots)) as plane:
        plane.serve(*sidecar_set(1))
        with Mesh(provider(plane, tls)) as mesh:
            until(lambda: mesh.status().providers[0]["error"])
            files.issue_client(files.ca)
            mesh.ready()
            assert goes_to(mesh) == at(1)


def test_a_token_is_sent_is_renewed_and_never_sent_late(files, tmp_path):
    path = tmp_path / "token"
    path.write_text(token(10))  # ends within half a minute
    with ControlPlane(tls=files.server) as plane:
        plane.serve(*sidecar_set(1))
        with Mesh(provider(plane, {"ca_certificate_file": files.roots}, jwt_token_file=str(path))) as mesh:
            until(lambda: "ends at" in mesh.status().providers[0]["error"])
            good = token(3600)
            path.write_text(good)
            mesh.ready()
        sent = [each["metadata"].get("authorization") for each in plane.requests() if "metadata" in each]
    assert sent == [f"Bearer {good}"]


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "a.W10.c"])
def test_what_is_no_token_is_told(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match="holds no JSON web token"):
        call_metadata(
            Server("x:1", Credentials("tls"), (Credentials("jwt_token_file", {"jwt_token_file": str(path)}),))
        )


def test_tokens_are_not_sent_in_plaintext():
    server = Server("127.0.0.1:1", Credentials("insecure"), (Credentials("jwt_token_file", {}),))
    with pytest.raises(errors.ConfigError, match="tokens are not sent without TLS"):
        tls_context(server)


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        raw = json.dumps({"access_token": "from-google", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def token_server():
    server = HTTPServer(("127.0.0.1", 0), _Tokens)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_googles_default_credentials_are_had_where_the_library_is(tmp_path, monkeypatch, token_server):
    pytest.importorskip("google.auth")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    server = Server("xds.test:443", Credentials("google_default"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(errors.ConfigError, match="no Google default credentials"):
        call_metadata(server)
    key = rsa.generate_private_key(65537, 2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "x@p.iam.gserviceaccount.com",
        "token_uri": token_server,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert dict(call_metadata(server))["authorization"] == "Bearer from-google"
