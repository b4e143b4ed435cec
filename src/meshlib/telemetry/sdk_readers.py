"""Hands finished sums and histograms to the readers of OpenTelemetry's SDK.

The SDK aggregates by itself, at tens of microseconds for each value of 25 labels, and its API has neither instruments
bound to labels nor a way to bring finished histograms (its specification calls that a metric producer; the Python SDK
has none yet). So each reader's collection is followed by ours: what the SDK collected comes first, our metrics are
added in the SDK's own public data classes. Where the provider is not the SDK's, has views on these metrics, or does not
look as we know it, there is no ``Handover``, and the caller uses the API's instruments.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

from meshlib.telemetry.ledger import Entry, Ledger
from meshlib.telemetry.series import BUCKETS, Distribution

__all__ = ["COUNTERS", "HISTOGRAMS", "ledger_of"]

COUNTERS: dict[str, tuple[str, str]] = {
    "istio_requests_total": ("count", "Requests that are over"),
    "istio_request_messages_total": ("asked", "Messages of RPCs that are over, to the server"),
    "istio_response_messages_total": ("answered", "Messages of RPCs that are over, from the server"),
}
"""Metric -> which count of a tally it tells, and its description."""
HISTOGRAMS: dict[str, tuple[str, str]] = {
    "istio_request_duration_milliseconds": ("duration", "ms"),
    "istio_request_bytes": ("sent", "By"),
    "istio_response_bytes": ("received", "By"),
}
"""Metric -> which distribution of a tally it tells, and its unit."""

_LOCK = threading.Lock()
_HANDOVERS: WeakKeyDictionary[Any, _Handover] = WeakKeyDictionary()


def ledger_of(provider: Any, instruments: Sequence[Any]) -> Ledger | None:
    """The ledger whose series ``provider``'s readers will tell; None where that is not possible.

    Args:
        provider: A meter provider.
        instruments: The instruments that the ledger takes the place of; a view on any of them rules it out.
    """
    with _LOCK:
        found = _HANDOVERS.get(provider)
        if found is None:
            try:
                if not _is_known(provider, instruments):
                    return None
                found = _HANDOVERS[provider] = _Handover(provider, instruments)
            except (AttributeError, ImportError, KeyError, TypeError):  # an SDK of another make
                return None
        return found.ledger


def _is_known(provider: Any, instruments: Sequence[Any]) -> bool:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.view import DefaultAggregation

    if type(provider) is not MeterProvider or getattr(provider, "_disabled", False):
        return False
    if any(view._match(instrument) for view in provider._sdk_config.views for instrument in instruments):
        return False
    kinds = {kind for reader in _readers(provider) for kind in map(type, reader._instrument_class_aggregation.values())}
    return kinds <= {DefaultAggregation}


def _readers(provider: Any) -> list[Any]:
    return list(provider._measurement_consumer._reader_storages)


class _Handover:
    """Follows every collection of one provider with ours."""

    def __init__(self, provider: Any, instruments: Sequence[Any]) -> None:
        from opentelemetry.sdk.metrics.export import AggregationTemporality

        self.ledger = Ledger()
        self._scope = instruments[0].instrumentation_scope
        self._resource = provider._sdk_config.resource
        self._kinds = (type(instruments[0]), type(instruments[-1]))
        self._delta = AggregationTemporality.DELTA
        consumer = provider._measurement_consumer
        collect = consumer.collect
        consumer.collect = self._following(collect)  # for readers that come later
        for reader in _readers(provider):
            self._temporality(reader)
            reader._set_collect_callback(consumer.collect)
        after_fork = WeakMethod(self.ledger.after_fork)
        os.register_at_fork(after_in_child=lambda: (again := after_fork()) and again())

    def _following(self, collect: Callable[..., Any]) -> Callable[..., Any]:
        def collect_both(reader: Any, timeout_millis: float = 10_000) -> Any:
            return self._joined(collect(reader, timeout_millis=timeout_millis), reader)

        return collect_both

    def _temporality(self, reader: Any) -> tuple[Any, Any]:
        """How the reader wants counters and histograms; one that wants a difference of either gets its book."""
        counters, histograms = (reader._instrument_class_temporality[kind] for kind in self._kinds)
        if self._delta in (counters, histograms):
            self.ledger.follow(reader)
        return counters, histograms

    def _joined(self, data: Any, reader: Any) -> Any:
        """The SDK's collection and ours."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics

        metrics = self._metrics(reader)
        if not metrics:
            return data
        scope = ScopeMetrics(scope=self._scope, metrics=metrics, schema_url=self._scope.schema_url)
        first, rest = (data.resource_metrics[0], data.resource_metrics[1:]) if data is not None else (None, ())
        scopes = [scope] if first is None else [*first.scope_metrics, scope]
        whole = ResourceMetrics(self._resource, scopes, self._resource.schema_url)
        return MetricsData(resource_metrics=[whole, *rest])

    def _metrics(self, reader: Any) -> list[Any]:
        counters, histograms = self._temporality(reader)
        now = time_ns()
        changed = self.ledger.differences(reader) if self._delta in (counters, histograms) else []
        counted = changed if counters is self._delta else self.ledger.totals()
        spread = changed if histograms is self._delta else self.ledger.totals()
        sums = (_sum(name, counted, counters, now) for name in COUNTERS)
        made = [each for each in sums if each.data.data_points]
        return made + [_histogram(name, spread, histograms, now) for name in HISTOGRAMS if spread]


def _sum(name: str, entries: Sequence[Entry], temporality: Any, now: int) -> Any:
    """A counter; where nothing was counted there is no point."""
    from opentelemetry.sdk.metrics.export import Metric, NumberDataPoint, Sum

    of, description = COUNTERS[name]
    counts = [(labels, since, getattr(tally, of)) for labels, since, tally in entries]
    points = [NumberDataPoint(dict(labels), since, now, count) for labels, since, count in counts if count]
    return Metric(name, description, "", Sum(points, temporality, is_monotonic=True))


def _histogram(name: str, entries: Sequence[Entry], temporality: Any, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric

    of, unit = HISTOGRAMS[name]

    def point(labels: Any, since: int, values: Distribution) -> Any:
        return HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=sum(values.counts),
            sum=values.sum,
            bucket_counts=tuple(values.counts),
            explicit_bounds=BUCKETS,
            min=values.low,
            max=values.high,
        )

    points = [point(labels, since, getattr(tally, of)) for labels, since, tally in entries]
    return Metric(name, "", unit, Histogram(points, temporality))
