"""Istio's standard metrics, with Istio's names and labels, for ``reporter="source"``.

Source: Istio proxy ``istio_stats``: counters by request, histograms in milliseconds and bytes; an unknown label is
``unknown``, a revision nobody set ``latest``, flags that nothing set ``-``. Label sets are built once per kind of call
and remembered; their number is bounded, because none of them comes from a URL or an address.

Under OpenTelemetry's own SDK a call adds to a ``Series``, which its readers are told of when they collect; elsewhere it
is recorded by the API's instruments, value by value.
"""

from __future__ import annotations

from typing import Any, Protocol

from opentelemetry.metrics import Meter

from meshlib.dataplane.call import Call
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Workload
from meshlib.model.snapshot import Client
from meshlib.telemetry.breaker_gauge import report_breakers
from meshlib.telemetry.provider_gauge import report_providers
from meshlib.telemetry.sdk_readers import COUNTERS, HISTOGRAMS, ledger_of
from meshlib.telemetry.series import BUCKETS

__all__ = ["IstioMetrics", "destination_labels", "source_labels"]

_UNKNOWN = "unknown"
_NOBODY = Workload()


class _Adds(Protocol):
    def add(self, duration: float, sent: int, received: int, asked: int, answered: int) -> None:
        """A call that is over; see ``series.Tally``."""
        ...


class IstioMetrics:
    """Counts finished calls.

    Args:
        meter: Makes the instruments.
        client: Who calls.
        provider: Where the meter is from; None always uses its instruments.
    """

    MEMORY = 4096
    """Kinds of calls remembered before the memory starts over; what was counted stays."""

    def __init__(self, meter: Meter, client: Client, provider: Any = None) -> None:
        counters = [meter.create_counter(name, "", description) for name, (_, description) in COUNTERS.items()]
        self._instruments = (*counters, *(_histogram(meter, name, unit) for name, (_, unit) in HISTOGRAMS.items()))
        changes = "Ejections, circuit breakers and health checks that changed who may be picked"
        self._changes = meter.create_counter("meshlib_health_changes_total", description=changes)
        lag = "How late an event loop was; from the stall bound on, timeouts count against no endpoint"
        self._lag = meter.create_histogram("meshlib_event_loop_lag_seconds", "s", description=lag)
        report_breakers(meter)
        report_providers(meter)
        self._source = source_labels(client)
        self._ledger = ledger_of(provider, self._instruments) if provider is not None else None
        self._kinds: dict[tuple[Any, ...], tuple[_Adds, Workload]] = {}

    def record(self, call: Call, now: float) -> None:
        """Count a call that is over."""
        asked, answered = call.request_messages, call.response_messages
        sent = call.request_bytes + call.request.header_bytes
        self._kind_of(call).add((now - call.started) * 1000, sent, call.response_bytes, asked, answered)

    def count_change(self, cluster: str, change: str, scope: str) -> None:
        """An endpoint (``scope`` ``endpoint``), or a cluster as a whole, changed for better or worse."""
        self._changes.add(1, {"cluster": cluster, "change": change, "scope": scope})

    def record_lag(self, seconds: float, loop: str) -> None:
        """One beat of an event loop."""
        self._lag.record(seconds, {"loop": loop})

    def _kind_of(self, call: Call) -> _Adds:
        """Where calls like this one are added up; a workload is known by its identity, to hash nothing large."""
        attempt, cluster, grpc = call.last_attempt, call.cluster, ""
        workload = attempt.state.endpoint.workload if attempt is not None else _NOBODY
        if call.request.is_grpc:
            grpc = str(call.rpc_status)
        key = (cluster.name if cluster is not None else call.host.name, id(workload), call.status, call.flags, grpc)
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) >= self.MEMORY:
                self._kinds.clear()
            known = self._kinds[key] = self._adding(self._labels(call, cluster, workload, grpc)), workload
        return known[0]

    def _adding(self, labels: dict[str, str]) -> _Adds:
        return _Recorded(self._instruments, labels) if self._ledger is None else self._ledger.series(labels)

    def _labels(self, call: Call, cluster: Cluster | None, workload: Workload, grpc: str) -> dict[str, str]:
        return {
            **self._source,
            **destination_labels(cluster, call.host.name, workload),
            "request_protocol": "grpc" if call.request.is_grpc else "http",
            "response_code": str(call.status),
            "grpc_response_status": grpc,
            "response_flags": call.flags,
            "connection_security_policy": _UNKNOWN,
        }


class _Recorded:
    """Calls of one kind, recorded by the API's instruments."""

    __slots__ = ("_instruments", "_labels")

    def __init__(self, instruments: tuple[Any, ...], labels: dict[str, str]) -> None:
        self._instruments = instruments
        self._labels = labels

    def add(self, duration: float, sent: int, received: int, asked: int, answered: int) -> None:
        counters, histograms = self._instruments[: len(COUNTERS)], self._instruments[len(COUNTERS) :]
        for counter, number in zip(counters, (1, asked, answered), strict=True):
            if number:
                counter.add(number, self._labels)
        for histogram, value in zip(histograms, (duration, sent, received), strict=True):
            histogram.record(value, self._labels)


def _histogram(meter: Meter, name: str, unit: str) -> Any:
    return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=list(BUCKETS))


def source_labels(client: Client) -> dict[str, str]:
    """Who calls."""
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


def destination_labels(cluster: Cluster | None, host: str, workload: Workload) -> dict[str, str]:
    """Who is called: the service, and the workload behind the endpoint."""
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
