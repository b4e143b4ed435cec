"""What a server lets in: plaintext, TLS of its own, or the mesh's mutual TLS, on one of its ports.

Source: Istio ``core/listener_builder.go`` (inbound filter chains), PeerAuthentication modes, Sidecar ``ingress.tls``.
"""

from __future__ import annotations

from enum import Enum

from meshlib.config.compile.services import DECLARED_HTTP, AppProtocol
from meshlib.config.resources.security import MutualTLSMode
from meshlib.config.resources.server_tls import ServerTLSMode, ServerTLSSettings

__all__ = ["Wire", "accepts"]


class Wire(Enum):
    """How a connection begins."""

    PLAINTEXT = "plaintext"
    TLS = "TLS"
    """With a server name and no client certificate of the mesh."""
    MUTUAL = "mutual TLS"
    """With a client certificate, and the mesh's protocol names (ALPN) where it is the mesh's."""


def accepts(
    mode: MutualTLSMode,
    wire: Wire,
    *,
    protocol: AppProtocol | None,
    is_http: bool,
    own_tls: ServerTLSSettings | None = None,
) -> bool:
    """Whether a connection reaches the application.

    Args:
        mode: PeerAuthentication's, effective for the port of the workload.
        wire: How the connection begins.
        protocol: Declared for the port; None for a port that no service and no Sidecar declares.
        is_http: Whether what is inside, or what plaintext there is, is HTTP.
        own_tls: The TLS that a Sidecar terminates on that port; counts only while the mesh's is switched off.
    """
    if own_tls is not None and mode is MutualTLSMode.DISABLE:
        asks = {ServerTLSMode.MUTUAL: {Wire.MUTUAL}, ServerTLSMode.OPTIONAL_MUTUAL: {Wire.TLS, Wire.MUTUAL}}
        return wire in asks.get(own_tls.mode, {Wire.TLS})
    if mode is MutualTLSMode.STRICT and wire is not Wire.MUTUAL:
        return False
    opened = wire is Wire.PLAINTEXT or (wire is Wire.MUTUAL and mode is not MutualTLSMode.DISABLE)
    if protocol in DECLARED_HTTP:
        return opened and is_http
    return True
