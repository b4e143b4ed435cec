"""How much may be under way in a cluster at once."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.model.policy.retries import RetryBudget

__all__ = ["CircuitBreaker"]


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Envoy's thresholds of a cluster; None is unlimited.

    Attributes:
        max_connections: Connections to all endpoints together (``tcp.maxConnections``).
        max_pending_requests: Requests that wait for a connection (``http1MaxPendingRequests``).
        max_requests: Requests under way (``http2MaxRequests``), whatever the HTTP version.
        max_retries: Retries under way (``maxRetries``).
        retry_budget: Replaces ``max_retries`` when present.
    """

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    retry_budget: RetryBudget | None = None
