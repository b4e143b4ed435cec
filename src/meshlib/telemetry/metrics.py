"""Istio's standard metrics, with Istio's names and labels, for ``reporter="source"``.

Source: Istio proxy ``istio_stats``: counters by request, histograms in milliseconds and bytes; an unknown label is
``unknown``, a revision nobody set ``latest``, flags that nothing set ``-``. Label sets are built once per kind of call
and remembered; their number is bounded, because none of them comes from a URL or an address.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import Meter

from meshlib.dataplane.call import Call
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Workload
from meshlib.model.snapshot import Client

__all__ = ["BUCKETS", "IstioMetrics"]

BUCKETS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000
)  # fmt: skip
"""Histogram boundaries, for milliseconds and bytes alike."""

_UNKNOWN = "unknown"
_NOBODY = Workload()


class IstioMetrics:
    """Counts finished calls."""

    MEMORY = 4096
    """Label sets remembered before the memory starts over."""

    def __init__(self, meter: Meter, client: Client) -> None:
        self._requests = meter.create_counter("istio_requests_total", description="Requests that are over")
        self._duration = _histogram(meter, "istio_request_duration_milliseconds", "ms")
        self._sent = _histogram(meter, "istio_request_bytes", "By")
        self._received = _histogram(meter, "istio_response_bytes", "By")
        changes = "Ejections, circuit breakers and health checks that changed who may be picked"
        self._changes = meter.create_counter("meshlib_health_changes_total", description=changes)
        lag = "How late an event loop was; from the stall bound on, timeouts count against no endpoint"
        self._lag = meter.create_histogram("meshlib_event_loop_lag_seconds", "s", description=lag)
        self._source = _source_labels(client)
        self._labels: dict[tuple[Any, ...], dict[str, str]] = {}

    def record(self, call: Call, now: float) -> None:
        """Count a call that is over."""
        labels = self._labels_of(call)
        self._requests.add(1, labels)
        self._duration.record((now - call.started) * 1000, labels)
        headers = sum(len(name) + len(value) for name, value in call.request.raw_headers)
        self._sent.record(call.request_bytes + headers, labels)
        self._received.record(call.response_bytes, labels)

    def count_change(self, cluster: str, change: str, scope: str) -> None:
        """An endpoint (``scope`` ``endpoint``), or a cluster as a whole, changed for better or worse."""
        self._changes.add(1, {"cluster": cluster, "change": change, "scope": scope})

    def record_lag(self, seconds: float, loop: str) -> None:
        """One beat of an event loop."""
        self._lag.record(seconds, {"loop": loop})

    def _labels_of(self, call: Call) -> dict[str, str]:
        attempt = call.last_attempt
        workload = attempt.endpoint.workload if attempt is not None else _NOBODY
        cluster = call.cluster
        grpc = ""
        if call.request.is_grpc:
            grpc = str((call.outcome.grpc_status if call.outcome is not None else None) or 0)
        key = (cluster.name if cluster is not None else call.host.name, workload, call.status, call.flags, grpc)
        labels = self._labels.get(key)
        if labels is None:
            if len(self._labels) >= self.MEMORY:
                self._labels.clear()
            protocol = "grpc" if call.request.is_grpc else "http"
            labels = {
                **self._source,
                **_destination_labels(cluster, call.host.name, workload),
                "request_protocol": protocol,
                "response_code": str(call.status),
                "grpc_response_status": grpc,
                "response_flags": call.flags,
                "connection_security_policy": _UNKNOWN,
            }
            self._labels[key] = labels
        return labels


def _histogram(meter: Meter, name: str, unit: str) -> Any:
    return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=list(BUCKETS))


def _source_labels(client: Client) -> dict[str, str]:
    labels = client.labels
    app = labels.get("app", "")
    canonical = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or app
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("app.kubernetes.io/version")
    version = labels.get("version", "")
    return {
        "reporter": "source",
        "source_workload": canonical or _UNKNOWN,
        "source_canonical_service": canonical or _UNKNOWN,
        "source_canonical_revision": revision or version or "latest",
        "source_workload_namespace": client.namespace or _UNKNOWN,
        "source_principal": _UNKNOWN,
        "source_app": app or _UNKNOWN,
        "source_version": version or _UNKNOWN,
        "source_cluster": client.cluster or _UNKNOWN,
    }


def _destination_labels(cluster: Cluster | None, host: str, workload: Workload) -> dict[str, str]:
    service = cluster.service if cluster is not None else host
    namespace = cluster.namespace if cluster is not None else ""
    short = service.partition(".")[0] if ".svc." in service else service
    return {
        "destination_workload": workload.name or _UNKNOWN,
        "destination_workload_namespace": workload.namespace or _UNKNOWN,
        "destination_principal": _UNKNOWN,
        "destination_app": workload.canonical_name or _UNKNOWN,
        "destination_version": workload.canonical_revision or _UNKNOWN,
        "destination_service": service,
        "destination_canonical_service": workload.canonical_name or _UNKNOWN,
        "destination_canonical_revision": workload.canonical_revision or "latest",
        "destination_service_name": short,
        "destination_service_namespace": namespace or workload.namespace or _UNKNOWN,
        "destination_cluster": workload.cluster or _UNKNOWN,
    }
