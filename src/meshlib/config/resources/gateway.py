"""Gateway: the ports and hosts of a load balancer at the edge (``networking.istio.io``)."""

from __future__ import annotations

from pydantic import Field

from meshlib.config.resources.base import Message, UInt32
from meshlib.config.resources.server_tls import ServerTLSSettings

__all__ = ["GatewayPort", "GatewaySpec", "Server"]


class GatewayPort(Message):
    """A port of a server."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class Server(Message):
    """Hosts served on one port."""

    port: GatewayPort | None = None
    bind: str = ""
    hosts: list[str] = Field(default_factory=list)
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class GatewaySpec(Message):
    """Servers, and the labels of the workloads that run them."""

    servers: list[Server] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)
