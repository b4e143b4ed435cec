"""Names of protocols, as ports spell them; any case. Source: Istio ``pkg/config/protocol``."""

from __future__ import annotations

__all__ = ["is_http", "is_tcp", "is_tls", "protocol"]

_HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
_TLS = frozenset({"https", "tls"})
_TCP = _TLS | {"tcp", "mongo", "redis", "mysql"}
_KNOWN = _HTTP | _TCP | {"udp"}


def protocol(name: str) -> str | None:
    """What is wrong with a protocol; an empty name means that it is to be detected."""
    return None if not name or name.lower() in _KNOWN else f"{name!r} is not a protocol"


def is_http(name: str) -> bool:
    """Whether requests can be told apart by their host."""
    return name.lower() in _HTTP


def is_tls(name: str) -> bool:
    """Whether connections can be told apart by their server name."""
    return name.lower() in _TLS


def is_tcp(name: str) -> bool:
    """Whether it is a declared protocol over TCP that is not plain HTTP."""
    return name.lower() in _TCP
