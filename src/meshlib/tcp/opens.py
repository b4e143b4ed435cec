"""The part of a mesh that callers of raw connections see: ``open_tcp``, ``aopen_tcp`` and ``pick``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from meshlib import background
from meshlib.errors import NotYet

if TYPE_CHECKING:
    import socket
    import ssl

    from meshlib.clock import Clock
    from meshlib.dataplane.events import Observer
    from meshlib.dataplane.prepared import Prepared
    from meshlib.tcp.connector import Connector, Opening, Wish
    from meshlib.tcp.cooperative import MeshStream
    from meshlib.tcp.lease import Lease

__all__ = ["OpensConnections"]


class OpensConnections:
    """What ``Mesh`` inherits; what dials is imported with the first connection."""

    _connector: Connector | None = None

    if TYPE_CHECKING:  # the mesh's
        prepared: Prepared
        clock: Clock
        rng: random.Random
        observer: Observer | None

        def wait_ready(self) -> None: ...

        async def await_ready(self) -> None: ...

        def lookup(self, name: str) -> tuple[str, ...]: ...

        def wait_known(self, asked: NotYet) -> None: ...

        async def await_known(self, asked: NotYet) -> None: ...

    @property
    def connector(self) -> Connector:
        """Opens raw connections; shared by threads and tasks."""
        if self._connector is None:
            from meshlib.tcp.connector import Connector

            self.__dict__.setdefault("_connector", Connector(self, background.shared.call_soon))  # the first one wins
        assert self._connector is not None
        return self._connector

    def close_connections(self) -> None:
        """End all that stand."""
        if self._connector is not None:
            self._connector.close()

    def forget_connections(self) -> None:
        """In a forked child: those that stand are the parent's."""
        self.__dict__.pop("_connector", None)

    def open_tcp(
        self,
        host: str,
        port: int,
        *,
        sni: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float | None = None,
        attempts: int = 1,
    ) -> socket.socket:
        """A connected socket to an endpoint of ``host``, by the mesh's ``tcp`` and ``tls`` rules; made by a thread.

        Where the DestinationRule asks for TLS, it is a TLS socket. It counts (``maxConnections``, load, metrics) until
        it is closed or dropped, and is shut down after the idle timeout and the longest duration of its rule.

        Args:
            host: Name or IP address, as a client behind a sidecar would dial it.
            port: Port of the service.
            sni: Server name of the TLS handshake that the caller will do itself; by default the host, with ``tls``.
            tls: Speak TLS to the service with this context; not together with a DestinationRule's TLS.
            timeout: Seconds for connecting; the configuration's ``connectTimeout`` where that is less.
            attempts: How often connecting may be tried, each time at an endpoint picked anew.

        Raises:
            MeshError: No endpoint, too many connections, no connection in time ...: each is an ``OSError`` too.
        """
        from meshlib.tcp.blocking import open_socket
        from meshlib.tcp.connector import wish

        asked = wish(host, port, sni, tls, timeout, attempts)
        return open_socket(self.connector, self._begun(asked))

    async def aopen_tcp(
        self,
        host: str,
        port: int,
        *,
        sni: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float | None = None,
        attempts: int = 1,
    ) -> MeshStream:
        """The cooperative form of ``open_tcp``: an anyio byte stream, under asyncio and trio."""
        from meshlib.tcp.connector import wish
        from meshlib.tcp.cooperative import open_stream

        asked = wish(host, port, sni, tls, timeout, attempts)
        await self.await_ready()
        while True:
            try:
                opening = self.connector.begin(asked)
                break
            except NotYet as outstanding:
                await self.await_known(outstanding)
        return await open_stream(self.connector, opening)

    def pick(self, host: str, port: int, *, sni: str | None = None) -> Lease:
        """An endpoint for a connection of any protocol that you make yourself.

        Use it as ``with mesh.pick("db", 5432) as lease: connect(lease.address, lease.port)``: it counts until the block
        ends, and an ``OSError`` that leaves the block counts against the endpoint unless ``lease.connected()`` was
        called before. Waits for the first configuration and for the first answer of DNS about a name; ``ready`` or
        ``aready``, with the host, spares it both.

        Raises:
            MeshError: As ``open_tcp``.
        """
        from meshlib.tcp.connector import wish

        return self._begun(wish(host, port, sni)).lease()

    def _begun(self, asked: Wish) -> Opening:
        """The connection routed, once there is a configuration and it is known where to."""
        self.wait_ready()
        while True:
            try:
                return self.connector.begin(asked)
            except NotYet as outstanding:
                self.wait_known(outstanding)
