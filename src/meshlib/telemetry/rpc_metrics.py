"""gRPC's own client metrics, by its names, labels and buckets, for dashboards that know them; off unless asked for.

Sizes are those of messages as they are serialized: a client in Python never sees what compression makes of them.

Source: gRFC A66.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.metrics import Meter

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.events import CallObserver
from meshlib.dataplane.outcome import Outcome
from meshlib.telemetry.rpc_spans import method_of, status_name

__all__ = ["MeteredRpc", "RpcMetrics"]

LATENCY = (
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013,
    0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0,
    5.0, 10.0, 20.0, 50.0, 100.0,
)  # fmt: skip
"""Upper bounds in seconds."""
SIZE = (0.0, *(float(2**power) for power in (10, 11, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32)))
"""Upper bounds in bytes."""


class RpcMetrics:
    """The five instruments.

    Args:
        meter: Makes them.
    """

    def __init__(self, meter: Meter) -> None:
        attempt = "grpc.client.attempt"
        sizes = "total_compressed_message_size"
        self.started = meter.create_counter(f"{attempt}.started", "{attempt}", "Attempts begun")
        self.duration = _histogram(meter, f"{attempt}.duration", "s", "How long attempts took", LATENCY)
        self.sent = _histogram(meter, f"{attempt}.sent_{sizes}", "By", "Messages sent, by attempt", SIZE)
        self.received = _histogram(meter, f"{attempt}.rcvd_{sizes}", "By", "Messages received, by attempt", SIZE)
        self.call = _histogram(meter, "grpc.client.call.duration", "s", "How long calls took, all attempts", LATENCY)


class _Begun(NamedTuple):
    """What had been counted when an attempt began."""

    sent: int
    received: int


class MeteredRpc:
    """Records one call, around whoever else watches it.

    Args:
        metrics: Where to.
        call: The call.
        inner: Is told everything as well.
    """

    __slots__ = ("_begun", "_call", "_inner", "_labels", "_metrics")

    def __init__(self, metrics: RpcMetrics, call: Call, inner: CallObserver | None) -> None:
        self._metrics = metrics
        self._call = call
        self._inner = inner
        self._begun: dict[int, _Begun] = {}
        self._labels = {"grpc.method": method_of(call), "grpc.target": call.request.authority}

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """One more attempt."""
        self._begun[attempt.number] = _Begun(self._call.request_bytes, self._call.response_bytes)
        self._metrics.started.add(1, self._labels)
        if self._inner is not None:
            self._inner.attempt_started(attempt, now)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """It took so long; of attempts side by side the bytes are told with the one that ends last."""
        begun = self._begun.pop(attempt.number, None)
        if begun is not None:
            labels = {**self._labels, "grpc.status": status_name(outcome.rpc_status)}
            self._metrics.duration.record(now - attempt.started, labels)
            self._metrics.sent.record(self._call.request_bytes - begun.sent, labels)
            self._metrics.received.record(self._call.response_bytes - begun.received, labels)
        if self._inner is not None:
            self._inner.attempt_ended(attempt, outcome, now)

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The whole of it."""
        labels = {**self._labels, "grpc.status": status_name(call.rpc_status)}
        self._metrics.call.record(now - call.started, labels)
        if self._inner is not None:
            self._inner.call_ended(call, outcome, now)


def _histogram(meter: Meter, name: str, unit: str, description: str, bounds: tuple[float, ...]) -> Any:
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=list(bounds))
