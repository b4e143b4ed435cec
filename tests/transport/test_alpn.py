"""HTTP/2 under TLS: what is offered, what is spoken then, resumed sessions, and headers in the case that each wants."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
import trustme
from h2.events import RequestReceived, StreamEnded

from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import ConnectionPool, Tls, TlsMode
from meshlib.testing import mesh_of
from meshlib.transport.base import Target
from meshlib.transport.tls import TlsContexts
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS
from tests.transport.http2_peer import RUNS, Talk, Wire, ask
from tests.transport.test_pools import OK, Script, head, script

__all__ = ["script"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA, and the file that its certificate lies in."""
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


class Peer:
    """Speaks what was chosen, and remembers it."""

    def __init__(self, ca: trustme.CA, *protocols: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = newest
        ca.issue_cert("svc", "localhost", "127.0.0.1").configure_cert(self.context)
        if protocols:
            self.context.set_alpn_protocols(protocols)
        self.always_http2 = not protocols
        self.chosen: list[str | None] = []
        self.resumed: list[bool] = []
        self.names: list[list[str]] = []

    def __call__(self, raw: socket.socket) -> None:
        with self.context.wrap_socket(raw, server_side=True) as sock:
            self.chosen.append(sock.selected_alpn_protocol())
            self.resumed.append(bool(sock.session_reused))
            if self.always_http2 or self.chosen[-1] == "h2":
                self.speak_http2(sock)
            while True:
                lines = head(sock).split(b"\r\n")[1:-2]
                self.names.append([line.partition(b":")[0].decode() for line in lines])
                sock.sendall(OK)

    def speak_http2(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, RequestReceived):
                self.names.append([name for name, _ in event.headers if not name.startswith(":")])
            elif isinstance(event, StreamEnded):
                wire.answer(event.stream_id)


def at(server: Script, path: str, *, http1_too: bool = False, **settings) -> Target:
    tls = TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=path), http2=True)
    pool = ConnectionPool(**settings)
    return Target("127.0.0.1", server.port, True, tls, "svc", pool, http1_too)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("speaks", "http1_too", "chosen"),
    [
        (("h2", "http/1.1"), False, "h2"),
        (("h2", "http/1.1"), True, "h2"),
        (("http/1.1", "h2"), True, "http/1.1"),
        (("http/1.1",), True, "http/1.1"),
        ((), False, None),
    ],
)
def test_what_the_peer_chooses_is_spoken_where_there_is_a_choice(run, speaks, http1_too, chosen, authority, script):
    peer = Peer(authority[0], *speaks)
    talk = Talk(run, at(script(peer), authority[1], http1_too=http1_too))
    assert talk.each(*(ask(headers=[(b"X-Canary", b"y")]) for _ in range(3))) == [(200, b"ok")] * 3
    assert peer.chosen[0] == chosen
    assert len(peer.chosen) == (2 if chosen == "http/1.1" else 1)  # the first told what is spoken
    name = "X-Canary" if chosen == "http/1.1" else "x-canary"
    assert [name in names for names in peer.names] == [True] * 3
    assert {response.http_version for response in talk.responses} == (
        {b"HTTP/1.1"} if chosen == "http/1.1" else {b"HTTP/2"}
    )


@pytest.mark.parametrize("run", RUNS)
def test_a_port_declared_http2_is_not_spoken_to_in_http1(run, authority, script):
    peer = Peer(authority[0], "http/1.1")
    [(failure, sent)] = Talk(run, at(script(peer), authority[1], connect_timeout=0.5)).each(ask())
    assert not sent
    assert failure in (Failure.TLS, Failure.CONNECT_TIMEOUT, Failure.CLOSED, Failure.PROTOCOL)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_connection_but_the_first_resumes_the_session(run, newest, authority, script):
    peer = Peer(authority[0], "h2", newest=newest)
    talk = Talk(run, at(script(peer), authority[1], max_requests_per_connection=1))
    assert talk.each(*(ask() for _ in range(4))) == [(200, b"ok")] * 4
    assert peer.resumed == [False, True, True, True]


@pytest.mark.parametrize("run", RUNS)
def test_large_bodies_pass_through_tls_whole(run, authority, script):
    peer = Peer(authority[0], "h2")
    done = threading.Event()

    def speak(sock: socket.socket) -> None:
        wire = Wire(sock)
        body = bytearray()
        for event in wire.come():
            if hasattr(event, "flow_controlled_length"):
                body += event.data
                wire.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, StreamEnded):
                wire.h2.send_headers(1, [(":status", "200")])
                done.set()
            while done.is_set() and body and (room := min(wire.h2.local_flow_control_window(1), 16384, len(body))):
                wire.h2.send_data(1, bytes(body[:room]), end_stream=room == len(body))
                del body[:room]

    peer.speak_http2 = speak
    content = bytes(range(256)) * 4000
    assert Talk(run, at(script(peer), authority[1])).each(ask(b"POST", content)) == [(200, content)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("wants", "chosen"), [(True, "h2"), (False, "http/1.1")])
def test_the_caller_decides_where_the_configuration_leaves_it_to_him(colour, wants, chosen, authority, script):
    peer = Peer(authority[0], "h2", "http/1.1")
    server = script(peer)
    rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\nspec:\n  host: svc\n"
    rule += f"  trafficPolicy: {{tls: {{mode: SIMPLE, sni: svc, caCertificates: {authority[1]}}}, "
    rule += "connectionPool: {http: {useClientProtocol: true}}}\n"
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    with mesh_of("---\n".join([service("svc", 80), slices, rule]), telemetry=False) as mesh:
        version = version_of(colour, mesh, wants)
    assert (version, peer.chosen) == ("HTTP/2" if wants else "HTTP/1.1", [chosen])


def version_of(colour, mesh, wants):
    if colour.run == "threads":
        with colour.library.Client(transport=colour.faces.MeshTransport(mesh, http2=wants)) as client:
            return client.get("http://svc/").http_version

    async def main():
        face = colour.faces.AsyncMeshTransport(mesh, http2=wants)
        async with colour.library.AsyncClient(transport=face) as client:
            found.append((await client.get("http://svc/")).http_version)

    found: list[str] = []
    colour.main(main)
    return found[0]
