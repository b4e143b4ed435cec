"""Where the keys of an issuer are fetched. Source: Istio ``pkg/config/security`` (ParseJwksURI)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["JwksUri", "parse_jwks_uri"]

_PORTS = {"http": 80, "https": 443}


class JwksUri(NamedTuple):
    """The parts that a connection needs."""

    hostname: str
    scheme: str
    port: int

    @property
    def tls(self) -> bool:
        """Whether the keys come over TLS."""
        return self.scheme == "https"


def parse_jwks_uri(text: str) -> JwksUri | None:
    """The parts of an ``http`` or ``https`` URI; None for anything else."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS:
        return None
    return JwksUri(parts.hostname or "", parts.scheme, _PORTS[parts.scheme] if port is None else port)
