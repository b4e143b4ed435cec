"""The way to servers of configuration: TLS whose files change, unix sockets, bounds."""

from __future__ import annotations

import asyncio
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import trustme

from meshlib.providers.http import BadAnswer, HttpServer, tls_of
from meshlib.transport.base import WireError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        peer = self.connection.getpeercert() if hasattr(self.connection, "getpeercert") else None
        body = f"{self.headers['Host']} {(peer or {}).get('serialNumber', '-')}".encode()
        self.send_response(200 if self.path == "/ok" else 429)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"on", b"e\ntw", b"o\n", b"rest"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if self.path == "/ends":
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.rfile.read(1)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def serve():
    made = []

    def make(context=None):
        server = Server(("127.0.0.1", 0), _Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        made.append(server)
        return server.server_address[1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def asked(server, *paths, between=lambda: None):
    async def scenario():
        found = []
        try:
            for path in paths:
                found.append((await server.ask("GET", path, headers={}, limit=10)).body.decode())
                between()
        finally:
            await server.aclose()
        return found

    return asyncio.run(scenario())


def test_a_plain_server_is_asked_by_its_name(serve):
    port = serve()
    assert asked(HttpServer(f"127.0.0.1:{port}"), "/ok") == [f"127.0.0.1:{port} -"]


def test_a_refusal_carries_status_words_and_the_wait_asked_for(serve):
    with pytest.raises(BadAnswer, match="HTTP 429") as caught:
        asked(HttpServer(f"http://127.0.0.1:{serve()}"), "/no")
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)


def test_a_renewed_certificate_is_shown_without_a_restart(serve, tmp_path):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))

    def renew():
        mine = authority.issue_cert("me")
        mine.private_key_pem.write_to_path(str(tmp_path / "key"))
        mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))

    renew()
    tls = tls_of(str(tmp_path / "ca"), str(tmp_path / "cert"), str(tmp_path / "key"))
    server = HttpServer(f"https://127.0.0.1:{serve(context)}", tls, "localhost")
    first, second = asked(server, "/ok", "/ok", between=renew)
    assert first.split()[1] != second.split()[1]


def test_a_stranger_is_not_believed(serve):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with pytest.raises(WireError, match="TLS"):
        asked(HttpServer(f"https://localhost:{serve(context)}"), "/ok")


def test_a_stream_is_read_line_by_line_and_its_silence_is_noticed(serve):
    async def scenario(path):
        server, found = HttpServer(f"127.0.0.1:{serve()}"), []
        try:
            async for line in server.lines(path, headers={}, body=b"{}", silence=0.5):
                found.append(line)
        except WireError as error:
            found.append(error.failure.name)
        finally:
            await server.aclose()
        return found

    assert asyncio.run(scenario("/ends")) == [b"one", b"two"]
    assert asyncio.run(scenario("/goes-on")) == [b"one", b"two", "READ_TIMEOUT"]
