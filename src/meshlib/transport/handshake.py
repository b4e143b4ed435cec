"""TLS handshakes: shortened where the peer remembers us, and told in words when they fail.

A resumed session spares the certificates and most of the arithmetic. It is of use to one endpoint, one context and one
server name only, which is what a pool has; names of certificates are checked again, from what the session remembers.
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, WireError

__all__ = ["Sessions", "connect_failure", "sessions_of"]

_naming = threading.Lock()
"""A context offers the same protocols on all its connections; so they are named just before each is made."""


class Sessions:
    """Remembers the latest session with one endpoint. Safe to share between threads.

    To asyncio it stands for the context, of which asyncio asks ``wrap_bio`` alone and which has no room for a session.
    """

    __slots__ = ("_context", "_protocols", "_session")

    def __init__(self, context: ssl.SSLContext, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        self._context = context
        self._protocols = protocols
        self._session: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """As ``SSLContext.wrap_bio``."""
        with _naming:
            self._context.set_alpn_protocols(self._protocols)
            return self._context.wrap_bio(incoming, outgoing, server_side, server_hostname, self._session)

    def wrap_socket(self, sock: socket.socket, server_hostname: str | None) -> ssl.SSLSocket:
        """As ``SSLContext.wrap_socket``; the handshake is made."""
        with _naming:
            self._context.set_alpn_protocols(self._protocols)
            secured = self._context.wrap_socket(
                sock, server_hostname=server_hostname, session=self._session, do_handshake_on_connect=False
            )
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured

    def learn(self, secured: Any) -> None:
        """An exchange is over on ``secured``, an ``SSLSocket`` or ``SSLObject``: by now a TLS 1.3 ticket has come."""
        session = getattr(secured, "session", None)
        if session is not None and (session.has_ticket or session.id):
            self._session = session

    def forget(self) -> None:
        """A handshake failed: begin anew the next time."""
        self._session = None


def sessions_of(target: Target) -> Sessions | None:
    """For the connections to ``target``, which decides what protocols they offer (ALPN); None for plaintext."""
    if target.tls is None:
        return None
    offered = ("h2", "http/1.1") if target.http1_too else ("h2",) if target.http2 else ("http/1.1",)
    return Sessions(target.tls, (*_ISTIO[target.http2], *offered) if target.mesh else offered)


_ISTIO = {True: ("istio-h2", "istio"), False: ("istio-http/1.1", "istio")}
"""What a sidecar offers before the protocol itself (Istio's ``alpn`` filter); the peer chooses the protocol itself."""


_HUNG_UP = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_WORDS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "HTTP_REQUEST": "the peer does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "no version of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no version of TLS in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "nothing in common with the peer",
    "UNEXPECTED_EOF_WHILE_READING": "the peer hung up",
}
"""OpenSSL's reason -> what it means."""


def connect_failure(target: Target, error: OSError) -> WireError:
    """What it means that no connection could be made; nothing was sent."""
    if isinstance(error, ssl.SSLError):
        meaning = _WORDS.get(getattr(error, "reason", None) or "", "")
        words = f"{meaning} ({error})" if meaning else str(error)
        return WireError(Failure.TLS, f"TLS handshake failed: {words}", sent=False)
    if target.tls is not None and isinstance(error, _HUNG_UP):
        return WireError(Failure.TLS, f"TLS handshake failed: the peer hung up ({error})", sent=False)
    return WireError(Failure.CONNECT, str(error), sent=False)
