"""Istio's standard metrics of raw connections, for ``reporter="source"``.

A connection is opened once, when it stands or when it fails, and closed once; its bytes are counted while it lasts, so
that one which stays for days shows in the meantime. Sent and received are the proxy's words: what it sent is what the
application read.

Source: Istio proxy ``istio_stats``.
"""

from __future__ import annotations

from opentelemetry.metrics import Meter

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Outcome
from meshlib.model.endpoint import Workload
from meshlib.model.snapshot import Client
from meshlib.telemetry.metrics import destination_labels, source_labels

__all__ = ["TcpMetrics", "WatchedConnection"]


class TcpMetrics:
    """Counts connections and their bytes."""

    def __init__(self, meter: Meter, client: Client) -> None:
        self.opened = meter.create_counter("istio_tcp_connections_opened_total", description="Connections opened")
        self.closed = meter.create_counter("istio_tcp_connections_closed_total", description="Connections closed")
        self.sent = meter.create_counter("istio_tcp_sent_bytes_total", "By", "Bytes that applications read")
        self.received = meter.create_counter("istio_tcp_received_bytes_total", "By", "Bytes that applications wrote")
        self._source = source_labels(client)

    def labels(self, call: Call) -> dict[str, str]:
        """The labels of a connection as it is now."""
        attempt = call.last_attempt
        workload = attempt.endpoint.workload if attempt is not None else Workload()
        return {
            **self._source,
            **destination_labels(call.cluster, call.host.name, workload),
            "request_protocol": "tcp",
            "response_flags": call.flags,
            "connection_security_policy": "unknown",
        }


class WatchedConnection:
    """One raw connection that is counted; a ``ConnectionObserver``."""

    __slots__ = ("_metrics", "_opened", "_received", "_sent")

    def __init__(self, metrics: TcpMetrics) -> None:
        self._metrics = metrics
        self._opened = False
        self._sent = self._received = 0

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """Nothing is sent with it."""

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The connection is what counts."""

    def connected(self, call: Call, now: float) -> None:
        """Opened."""
        self._opened = True
        self._metrics.opened.add(1, self._metrics.labels(call))

    def bytes_moved(self, call: Call, now: float) -> None:
        """What came since the last time."""
        sent, received = call.response_bytes - self._sent, call.request_bytes - self._received
        if not (sent or received):
            return
        self._sent += sent
        self._received += received
        labels = self._metrics.labels(call)
        self._metrics.sent.add(sent, labels)
        self._metrics.received.add(received, labels)

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """Closed; one that never stood was opened all the same, with the flag that says why it ended."""
        self.bytes_moved(call, now)
        if not self._opened:
            self.connected(call, now)
        self._metrics.closed.add(1, self._metrics.labels(call))
