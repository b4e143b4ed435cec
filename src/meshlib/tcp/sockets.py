"""Sockets that say when they are closed and how many bytes they carried; else they are what they were.

What goes past them is not seen: bytes that C code moves by the descriptor, and whatever happens after ``detach``, which
ends the accounting because the descriptor is somebody else's from then on.
"""

from __future__ import annotations

import socket
import ssl
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from meshlib.tcp.lease import Lease

__all__ = ["MeshSocket", "watched"]


class _Watched:
    """Mixed into a socket class, in front of it."""

    lease: Lease
    """What the connection counts for."""

    def send(self, data: Any, *args: Any) -> int:
        sent: int = super().send(data, *args)  # type: ignore[misc]
        self.lease.moved(sent=sent)
        return sent

    def sendall(self, data: Any, *args: Any) -> None:
        """See ``socket.sendall``; TLS sockets send all by ``send``, which has counted then."""
        super().sendall(data, *args)  # type: ignore[misc]
        if not isinstance(self, ssl.SSLSocket):
            self.lease.moved(sent=memoryview(data).nbytes)

    def sendmsg(self, buffers: Iterable[Any], *args: Any) -> int:
        sent: int = super().sendmsg(buffers, *args)  # type: ignore[misc]
        self.lease.moved(sent=sent)
        return sent

    def recv(self, size: int, flags: int = 0) -> bytes:
        data: bytes = super().recv(size, flags)  # type: ignore[misc]
        if not flags & socket.MSG_PEEK:
            self.lease.moved(received=len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        count: int = super().recv_into(buffer, nbytes, flags)  # type: ignore[misc]
        if not flags & socket.MSG_PEEK:
            self.lease.moved(received=count)
        return count

    def detach(self) -> int:
        fd: int = super().detach()  # type: ignore[misc]
        self.lease.close()
        return fd

    def close(self) -> None:
        """See ``socket.close``: with files open on it (``makefile``) the socket closes with the last of them."""
        super().close()  # type: ignore[misc]
        if self.fileno() == -1:  # type: ignore[attr-defined]
            self.lease.close()

    def __del__(self) -> None:
        if "lease" in self.__dict__:
            self.close()


class MeshSocket(_Watched, socket.socket):
    """A connected socket; ``lease`` tells the endpoint."""


_CLASSES: dict[type[ssl.SSLSocket], Any] = {}


def _tls_class(plain: type[ssl.SSLSocket]) -> Any:
    """A class of TLS sockets, with ours in front; contexts may have classes of their own."""
    if plain not in _CLASSES:
        doc = "A connected TLS socket; see ``MeshSocket``."
        _CLASSES[plain] = type("MeshTlsSocket", (_Watched, plain), {"__doc__": doc})
    return _CLASSES[plain]


def watched(sock: socket.socket, lease: Lease) -> socket.socket:
    """``sock``, or what takes its place, with the lease that ends when it is closed; the lease begins to count."""
    made: Any = sock
    if isinstance(sock, ssl.SSLSocket):
        made.__class__ = _tls_class(type(sock))
    else:
        made = MeshSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    made.lease = lease
    lease.connected(partial(_shut, weakref.ref(made)))
    return cast(socket.socket, made)


def _shut(known: weakref.ref[socket.socket]) -> None:
    """End the connection; by the plain socket, because TLS sockets would go on in plaintext."""
    sock = known()
    if sock is not None:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
