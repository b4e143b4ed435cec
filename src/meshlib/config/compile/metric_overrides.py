"""Which providers get a workload's metrics and what is changed of them, merged from broad to narrow.

The last entry that names providers decides which; entries without providers are for those of the entry before. Changes
add up per provider, side and metric; switching all metrics off holds until a later change for that side.
Source: Istio ``pilot/pkg/model/telemetry.go`` (``mergeMetrics``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshlib.config.resources.telemetry import (
    IstioMetric,
    Metrics,
    MetricSelector,
    MetricsOverrides,
    TagOverride,
    WorkloadMode,
)

__all__ = ["MetricOverride", "ProviderMetrics", "SideMetrics", "merged_metrics"]

_ALL = tuple(metric.value for metric in IstioMetric if metric is not IstioMetric.ALL_METRICS)


@dataclass(frozen=True, slots=True)
class MetricOverride:
    """What is changed of one metric: left out, or with tags set and removed."""

    disabled: bool = False
    tags: Mapping[str, TagOverride] = field(default_factory=dict)

    def changed_by(self, change: MetricsOverrides) -> MetricOverride:
        """With a narrower change on top."""
        disabled = self.disabled if change.disabled is None else change.disabled
        return MetricOverride(disabled, {**self.tags, **change.tag_overrides})


@dataclass(frozen=True, slots=True)
class SideMetrics:
    """Metrics of one side: none at all, or the standard ones with changes by name."""

    disabled: bool = False
    overrides: Mapping[str, MetricOverride] = field(default_factory=dict)

    def changed_by(self, change: MetricsOverrides) -> SideMetrics:
        """With a narrower change on top."""
        names = _metrics(change.match)
        if change.disabled and names is _ALL:
            return SideMetrics(True, self.overrides)
        changed = {name: self.overrides.get(name, MetricOverride()).changed_by(change) for name in names}
        return SideMetrics(False, {**self.overrides, **changed})


@dataclass(frozen=True, slots=True)
class ProviderMetrics:
    """What a provider gets.

    Attributes:
        client: Of calls that the workload makes.
        server: Of calls that it answers.
        reporting_interval: Seconds between reports about open connections; None is 5.
    """

    client: SideMetrics = SideMetrics()
    server: SideMetrics = SideMetrics()
    reporting_interval: float | None = None

    def changed_by(self, entry: Metrics) -> ProviderMetrics:
        """With a narrower entry on top."""
        client, server = self.client, self.server
        for change in entry.overrides:
            mode = change.match.mode if change.match is not None else WorkloadMode.CLIENT_AND_SERVER
            client = client if mode is WorkloadMode.SERVER else client.changed_by(change)
            server = server if mode is WorkloadMode.CLIENT else server.changed_by(change)
        interval = self.reporting_interval if entry.reporting_interval is None else entry.reporting_interval
        return ProviderMetrics(client, server, interval)


def _metrics(match: MetricSelector | None) -> tuple[str, ...]:
    if match is not None and match.custom_metric is not None:
        return (match.custom_metric,)
    if match is None or match.metric in (None, IstioMetric.ALL_METRICS):
        return _ALL
    return (str(match.metric),)


def merged_metrics(entries: Sequence[Metrics], defaults: Sequence[str]) -> dict[str, ProviderMetrics]:
    """Provider -> what it gets.

    Args:
        entries: From broad to narrow.
        defaults: ``MeshConfig.defaultProviders.metrics``.
    """
    if not entries:
        return {name: ProviderMetrics() for name in defaults}
    naming = [[provider.name for provider in entry.providers] for entry in entries]
    wanted: Sequence[str] = next(filter(None, reversed(naming)), defaults)
    found: dict[str, ProviderMetrics] = {}
    before: Sequence[str] = defaults
    for entry, names in zip(entries, naming, strict=True):
        before = names or before
        for name in before:
            if name in wanted:
                found[name] = found.get(name, ProviderMetrics()).changed_by(entry)
    return found
