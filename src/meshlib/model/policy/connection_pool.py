"""How connections are made and kept."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConnectionPool", "Http2KeepAlive", "TcpKeepalive", "Tunnel"]


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """TCP keepalive probes; None leaves the system's value. Times in seconds."""

    probes: int | None = None
    time: float | None = None
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class Http2KeepAlive:
    """HTTP/2 PING every ``interval`` seconds; without an answer in ``timeout`` seconds the connection is closed."""

    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """How connections to one endpoint are made and kept. Times in seconds, None is unlimited.

    Attributes:
        connect_timeout: TCP and TLS together; Istio's mesh default is 10 s.
        idle_timeout: An unused connection is closed after this long; Envoy's default is one hour.
        max_connection_duration: A connection is closed after this long, whatever it does.
        max_requests_per_connection: 1 switches keep-alive off.
        max_concurrent_streams: HTTP/2 only.
        tcp_keepalive: None leaves keepalive off.
        http2_keepalive: HTTP/2 only; None sends no PING.
        proxy_protocol: Version, 1 or 2, of the PROXY header written first on each connection; 0 writes none.
    """

    connect_timeout: float = 10.0
    idle_timeout: float | None = 3600.0
    max_connection_duration: float | None = None
    max_requests_per_connection: int | None = None
    max_concurrent_streams: int | None = None
    tcp_keepalive: TcpKeepalive | None = None
    http2_keepalive: Http2KeepAlive | None = None
    proxy_protocol: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Carry raw TCP to ``host``:``port`` inside an HTTP request (``CONNECT`` or ``POST``) to the endpoint."""

    host: str
    port: int
    method: str = "CONNECT"
