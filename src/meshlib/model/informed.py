"""What a source of snapshots can say about its own answers; for ``explain`` and ``diff``, never for requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from meshlib.model.snapshot import Source

__all__ = ["BUILT_IN", "Informed", "PolicyValue"]

BUILT_IN = "built-in"
"""The origin of a value that no object sets."""


class PolicyValue(NamedTuple):
    """One value of a traffic policy in force.

    Attributes:
        field: In Istio's spelling, for example ``connectionPool.tcp.maxConnections``.
        value: Plain; durations in seconds, None for unlimited or off.
        origin: The object and field that it stands in, for example ``DestinationRule default/reviews
            spec.trafficPolicy.connectionPool.tcp.maxConnections``; ``MeshConfig.connectTimeout``; or ``built-in``.
    """

    field: str
    value: Any
    origin: str


@runtime_checkable
class Informed(Protocol):
    """A source that knows why it answers as it does. Every method is pure, and may be slow."""

    def host_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """Why ``virtual_host`` answers so: the service, who decides about it, who else wanted to and lost."""
        ...

    def connection_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """Why ``tcp_host`` answers so."""
        ...

    def left_out(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """Endpoints of the service that ``assignment`` leaves out, as (``address:port``, why)."""
        ...

    def policy_values(self, cluster: str) -> tuple[PolicyValue, ...]:
        """Every value of the cluster's traffic policy with its origin; empty when the cluster does not exist."""
        ...

    def seen_by(self, namespace: str | None, labels: Mapping[str, str] | None) -> Source:
        """The same configuration as another client sees it; None keeps what the own client has."""
        ...
