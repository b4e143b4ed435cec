"""Names on the wire: headers as the caller wrote them, and the service's name wherever a peer looks for one."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {x-canary: {exact: "yes"}}}]
    headers: {request: {add: {X-Rule: canary}}}
    route: [{destination: {host: svc}}]
  - route: [{destination: {host: svc}}]
"""


def speaks_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.mark.skipif(not speaks_ipv6(), reason="this machine has no IPv6 loopback")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Peer:
    """Keeps what it is sent: heads over HTTP/1.1, headers over HTTP/2, server names of TLS."""

    def __init__(self, host="127.0.0.1", http2=False, tls=None, answer=ANSWER):
        self.heads, self.headers, self.server_names = [], [], []
        self.answer, self._tls = answer, tls
        if tls is not None:
            tls.sni_callback = lambda _sock, name, _context: self.server_names.append(name)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=16)
        self.port = self._listener.getsockname()[1]
        self._talk = self._http2 if http2 else self._http1
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with suppress(OSError), sock:
            if self._tls is None:
                self._talk(sock)
                return
            with self._tls.wrap_socket(sock, server_side=True) as secured:
                self._talk(secured)

    def _http1(self, sock):
        held = b""
        while data := sock.recv(65536):
            held += data
            while b"\r\n\r\n" in held:
                head, _, held = held.partition(b"\r\n\r\n")
                self.heads.append(head)
                sock.sendall(self.answer)

    def _http2(self, sock):
        connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, validate_inbound_headers=True, header_encoding=None)
        )
        connection.initiate_connection()
        sock.sendall(connection.data_to_send())
        while data := sock.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.headers.append(event.headers)
                    connection.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
            sock.sendall(connection.data_to_send())


@pytest.fixture
def peer():
    made = []

    def make(*args, **options):
        made.append(Peer(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def lines(head):
    return head.split(b"\r\n")[1:]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", ["x-canary", "X-Canary", "X-CANARY"])
def test_a_header_matches_whatever_its_case_and_is_sent_as_it_was_written(colour, name, peer):
    server = peer()
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    with mesh_of(service("svc", 80), slices, RULE, telemetry=False) as mesh:
        assert colour.send(mesh, "GET", "http://svc/", headers={name: "yes"}).status_code == 200
    (head,) = server.heads
    assert f"{name}: yes".encode() in lines(head)
    assert b"x-rule: canary" in head.lower()


@pytest.mark.parametrize("colour", COLOURS)
def test_over_http2_every_name_is_in_lower_case(colour, peer):
    server = peer(http2=True)
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port), protocol="grpc")
    with mesh_of(service("svc", 80, "grpc"), slices, RULE, telemetry=False) as mesh:
        assert colour.send(mesh, "GET", "http://svc/", headers={"X-Canary": "yes"}).status_code == 200
    (headers,) = server.headers
    assert (b"x-canary", b"yes") in headers
    assert (b"x-rule", b"canary") in headers
    assert all(name == name.lower() for name, _ in headers)
    assert (b":authority", b"svc") in headers


@pytest.mark.parametrize("colour", COLOURS[::2])  # TLS is the transport's, whichever library asks
@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=IPV6)])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_address_is_dialled_and_every_name_stays_the_services(colour, address, scheme, peer, tmp_path):
    """With ``http`` the DestinationRule's TLS, with ``https`` the caller's own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(roots := tmp_path / "roots.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("db.example").configure_cert(context)
    server = peer(address, tls=context)
    port, protocol = (80, "HTTP") if scheme == "http" else (443, "HTTPS")
    entry = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: db}}
spec:
  hosts: [db.example]
  ports: [{{number: {port}, name: main, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: "{address}", ports: {{main: {server.port}}}}}]
"""
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: db}}
spec:
  host: db.example
  trafficPolicy:
    tls: {{mode: SIMPLE, sni: db.example, subjectAltNames: [db.example], caCertificates: "{roots}"}}
"""
    texts, own = ([entry, rule], None) if scheme == "http" else ([entry], ssl.create_default_context(cafile=str(roots)))
    with mesh_of(*texts, telemetry=False) as mesh:
        answer = fetch(colour, mesh, f"{scheme}://db.example/", own)
        assert answer.status_code == 200
        assert answer.extensions["mesh"].last_attempt.state.endpoint.address == address
    (head,) = server.heads
    assert b"host: db.example" in [line.lower() for line in lines(head)]
    assert server.server_names == ["db.example"]


def fetch(colour, mesh, url, tls):
    options = {} if tls is None else {"verify": tls}
    if colour.run == "threads":
        with colour.library.Client(transport=colour.faces.MeshTransport(mesh, **options)) as client:
            return client.get(url)

    async def main():
        async with colour.library.AsyncClient(transport=colour.faces.AsyncMeshTransport(mesh, **options)) as client:
            return await client.get(url)

    return colour.main(main)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_redirect_to_another_host_leaves_the_mesh_and_its_rules_behind(colour, peer):
    outside = peer()
    location = f"http://127.0.0.1:{outside.port}/there"
    inside = peer(answer=f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode())
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", inside.port))
    with mesh_of(service("svc", 80), slices, RULE, telemetry=False) as mesh:
        headers = {"X-Canary": "yes", "Authorization": "secret"}
        answer = colour.send(mesh, "GET", "http://svc/here", headers=headers, follow_redirects=True)
        assert (answer.status_code, str(answer.url)) == (200, location)
    assert b"x-rule: canary" in inside.heads[0].lower()
    (head,) = outside.heads
    assert head.startswith(b"GET /there HTTP/1.1")
    assert f"host: 127.0.0.1:{outside.port}".encode() in [line.lower() for line in lines(head)]
    assert b"x-rule" not in head.lower()
    assert b"secret" not in head
