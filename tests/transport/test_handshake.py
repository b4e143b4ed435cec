"""TLS of our own HTTP/1.1: sessions are resumed in both colours, names checked all the same, failures told apart."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
import trustme

from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import ConnectionPool, Tls, TlsMode
from meshlib.transport.base import Target
from meshlib.transport.tls import TlsContexts
from tests.transport.test_http1 import RUNS, ask, talk
from tests.transport.test_pools import OK, Script, closes, head, script

__all__ = ["script"]

ONCE = ConnectionPool(max_requests_per_connection=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA, and the file that its certificate lies in."""
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def context(ca: trustme.CA, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.maximum_version = newest
    ca.issue_cert("svc").configure_cert(made)
    return made


def serving(made: ssl.SSLContext, resumed: list[bool]) -> Callable[[socket.socket], None]:
    def handle(raw: socket.socket) -> None:
        with made.wrap_socket(raw, server_side=True) as sock:
            resumed.append(bool(sock.session_reused))
            while True:
                head(sock)
                sock.sendall(OK)

    return handle


def at(server: Script, path: str, **settings) -> Target:
    tls = TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=path, **settings), http2=False)
    return Target("127.0.0.1", server.port, tls=tls, server_name="svc", settings=ONCE)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("names", [(), ("svc",)], ids=["any name", "a name"])
def test_every_connection_but_the_first_resumes_the_session(run, newest, names, authority, script):
    ca, path = authority
    resumed: list[bool] = []
    server = script(serving(context(ca, newest), resumed))
    answers = talk(run, at(server, path, subject_alt_names=names), *(ask() for _ in range(4)))
    assert answers == [(200, b"ok")] * 4
    assert resumed == [False, True, True, True]


@pytest.mark.parametrize("run", RUNS)
def test_a_peer_that_forgot_the_session_makes_a_whole_handshake(run, authority, script):
    ca, path = authority
    resumed: list[bool] = []

    def handle(raw: socket.socket) -> None:
        serving(context(ca), resumed)(raw)  # a context of its own each time: other keys for tickets

    assert talk(run, at(script(handle), path), ask(), ask()) == [(200, b"ok")] * 2
    assert resumed == [False, False]


def plaintext(sock: socket.socket) -> None:
    sock.recv(100)
    sock.sendall(OK)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("case", ["plaintext", "hangs up", "an unknown authority", "another name", "too old"])
def test_a_handshake_that_fails_is_a_failure_of_tls(run, case, authority, script):
    ca, path = authority
    made = context(trustme.CA() if case == "an unknown authority" else ca, ssl.TLSVersion.TLSv1_2)
    handle = {"plaintext": plaintext, "hangs up": lambda sock: sock.close()}.get(case, serving(made, []))
    settings = {"min_version": "TLSV1_3"} if case == "too old" else {}
    if case == "another name":
        settings = {"subject_alt_names": ("other",)}
    assert talk(run, at(script(handle), path, **settings), ask()) == [Failure.TLS]


@pytest.mark.parametrize("run", RUNS)
def test_a_peer_that_says_nothing_is_a_connect_timeout(run, authority, script):
    server = script(lambda sock: sock.recv(10_000) and head(sock))
    assert talk(run, at(server, authority[1]), ask(connect=0.2)) == [Failure.CONNECT_TIMEOUT]
    plain = Target("127.0.0.1", script(closes).port)
    assert talk(run, plain, ask()) == [Failure.CLOSED]
