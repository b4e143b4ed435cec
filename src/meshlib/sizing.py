"""How large a connection pool should be, by Little's law.

What is under way at a time is arrivals times how long each stays: 500 calls a second of 40 ms are 20 calls. That is the
mean; arrivals that do not know of each other swing around it by its square root, so with three roots on top fewer than
one call in a hundred finds no connection free. Workers share nothing, so each has its share of the calls and a swing of
its own: eight workers need more connections together than one would.

Source: J. D. C. Little, "A proof for the queuing formula L = lambda W" (1961); the normal approximation of Poisson's
distribution for the swing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Sizing", "size"]

_SWINGS = 3.0
"""Standard deviations above the mean that find a connection free."""

_LONGEST_IDLE = 3600.0
"""Envoy's own idle time, beyond which nothing is recommended."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What to write into ``connectionPool``, for each worker process.

    Attributes:
        under_way: Calls of one worker under way at a time, on average.
        max_connections: ``tcp.maxConnections``.
        max_pending: ``http.http1MaxPendingRequests``: those that get a connection within the wait that is accepted.
        idle_timeout: ``http.idleTimeout``, seconds: below the server's keep-alive, so that we close first.
        total_connections: Of all workers together; what the servers must bear.
        utilization: Share of the connections that carry a call, on average, 0..1.
    """

    under_way: float
    max_connections: int
    max_pending: int
    idle_timeout: float
    total_connections: int
    utilization: float

    def yaml(self) -> str:
        """The block of a DestinationRule."""
        return (
            "connectionPool:\n"
            f"  tcp: {{maxConnections: {self.max_connections}}}\n"
            f"  http: {{http1MaxPendingRequests: {self.max_pending}, idleTimeout: {self.idle_timeout:g}s}}\n"
        )


def size(
    rps: float, latency: float, workers: int = 1, wait: float | None = None, server_keepalive: float = 60.0
) -> Sizing:
    """Recommend a pool for calls over HTTP/1.1, where each call has a connection to itself.

    Args:
        rps: Calls per second of all workers together, at their busiest.
        latency: Seconds that a call takes on average, its body included.
        workers: Processes that share the calls evenly.
        wait: Seconds that a call may wait for a connection; by default as long as a call takes.
        server_keepalive: Seconds after which the server closes an idle connection.

    Raises:
        ValueError: A number is not positive.
    """
    wait = latency if wait is None else wait
    if not all(math.isfinite(each) and each > 0 for each in (rps, latency, wait, server_keepalive)) or workers < 1:
        raise ValueError("rate, latency, wait, keep-alive and number of workers must be positive")
    under_way = rps / workers * latency
    connections = math.ceil(under_way + _SWINGS * math.sqrt(under_way))
    pending = max(1, math.floor(connections * wait / latency))
    idle = min(_LONGEST_IDLE, max(server_keepalive - 1.0, 0.5 * server_keepalive))
    return Sizing(under_way, connections, pending, idle, connections * workers, under_way / connections)
