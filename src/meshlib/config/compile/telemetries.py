"""Which Telemetry objects are for a workload, and what they ask of its spans, metrics and access logs.

From broad to narrow: the oldest general object of the root namespace, the oldest general one of the workload's own,
then all whose selector matches, the older first. What is narrower wins. Source: Istio ``pilot/pkg/model/telemetry.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from meshlib.config.compile.access_logs import AccessLog, merged_access_logs
from meshlib.config.compile.attachment import Workload, attaches, is_general
from meshlib.config.compile.metric_overrides import ProviderMetrics, merged_metrics
from meshlib.config.compile.registry import age
from meshlib.config.resources.base import Resource
from meshlib.config.resources.extension_providers import ExtensionProvider
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.telemetry import CustomTag, TelemetrySpec, Tracing, WorkloadMode

__all__ = ["DEFAULT_SAMPLING", "Telemetries", "TracingSettings", "TracingSide", "sampling_percentage"]

DEFAULT_SAMPLING = 1.0
"""Percent of new traces that are recorded where nobody says otherwise (istiod's ``PILOT_TRACE_SAMPLING``)."""


@dataclass(frozen=True, slots=True)
class TracingSide:
    """Tracing of one side of a call.

    Attributes:
        provider: Where spans go; None where none is named or none of that name exists.
        disabled: Nothing is reported; the context is passed on all the same.
        random_sampling_percentage: 0 to 100; None when no Telemetry says, see ``sampling_percentage``.
        custom_tags: By name.
        use_request_id: The sampling decision is written into, and read from, ``x-request-id``.
        enable_istio_tags: Spans carry ``istio.canonical_service`` and kin.
        disable_context_propagation: Trace headers are not written.
    """

    provider: ExtensionProvider | None = None
    disabled: bool = False
    random_sampling_percentage: float | None = None
    custom_tags: Mapping[str, CustomTag] = field(default_factory=dict)
    use_request_id: bool = True
    enable_istio_tags: bool = True
    disable_context_propagation: bool = False

    def changed_by(self, entry: Tracing, mesh: MeshConfig) -> TracingSide:
        """What is left when a narrower entry has said its part: each field that it sets."""
        changes: dict[str, Any] = {
            ours: value
            for ours, value in (
                ("disabled", entry.disable_span_reporting),
                ("random_sampling_percentage", entry.random_sampling_percentage),
                ("use_request_id", entry.use_request_id_for_trace_sampling),
                ("enable_istio_tags", entry.enable_istio_tags),
                ("disable_context_propagation", entry.disable_context_propagation),
                ("custom_tags", entry.custom_tags or None),
            )
            if value is not None
        }
        if entry.providers:
            changes["provider"] = mesh.provider(entry.providers[0].name)
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Tracing of a workload, as the one who calls and as the one who is called."""

    client: TracingSide
    server: TracingSide


def sampling_percentage(side: TracingSide, mesh: MeshConfig, default: float = DEFAULT_SAMPLING) -> float:
    """Percent of new traces to record: the provider's own sampler (which sees all), Telemetry, MeshConfig, ``default``.

    In MeshConfig 0 counts as unset and more than 100 as 1, as istiod reads it.
    """
    tracer = side.provider.opentelemetry if side.provider is not None else None
    if tracer is not None and tracer.dynatrace_sampler is not None:
        return 100.0
    if side.random_sampling_percentage is not None:
        return side.random_sampling_percentage
    given = mesh.default_config.tracing.sampling if mesh.default_config.tracing is not None else 0.0
    return (1.0 if given > 100 else given) or default


class Telemetries:
    """All Telemetry objects, by namespace.

    Args:
        resources: Objects of any kinds.
        namespace: For objects that name none.
        mesh: Mesh-wide settings: the root namespace, providers and those that are the default.
    """

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, mesh: MeshConfig) -> None:
        self._mesh = mesh
        self._found: dict[str, list[Resource[TelemetrySpec]]] = {}
        for resource in sorted((each for each in resources if each.kind == "Telemetry"), key=age):
            self._found.setdefault(resource.metadata.namespace or namespace, []).append(resource)

    def of(self, workload: Workload) -> list[TelemetrySpec]:
        """What is for a workload, from broad to narrow."""
        return [resource.spec for resource in self._of(workload)]

    def _of(self, workload: Workload) -> Iterator[Resource[TelemetrySpec]]:
        root, own = self._mesh.root_namespace, workload.namespace
        for namespace in dict.fromkeys((root, own)):
            general = (each for each in self._found.get(namespace, ()) if is_general(each.spec))
            yield from list(general)[:1]
        for each in self._found.get(own, ()):
            if not is_general(each.spec) and attaches(each.spec, own, workload, root):
                yield each

    def tracing(self, workload: Workload) -> TracingSettings | None:
        """Spans of a workload; None where neither a Telemetry nor a default provider speaks of them, so that
        ``MeshConfig.defaultConfig.tracing`` decides.
        """
        entries = [entry for spec in self.of(workload) for entry in spec.tracing]
        defaults = self._mesh.default_providers.tracing
        if not entries and not defaults:
            return None
        provider = self._mesh.provider(defaults[0]) if defaults else None
        sides = {mode: TracingSide(provider) for mode in (WorkloadMode.CLIENT, WorkloadMode.SERVER)}
        for entry in entries:
            asked = entry.match.mode if entry.match is not None else WorkloadMode.CLIENT_AND_SERVER
            for mode, side in sides.items():
                if asked in (mode, WorkloadMode.CLIENT_AND_SERVER):
                    sides[mode] = side.changed_by(entry, self._mesh)
        client, server = (replace(side, disabled=side.disabled or not side.provider) for side in sides.values())
        return TracingSettings(client, server)

    def metrics(self, workload: Workload) -> dict[str, ProviderMetrics]:
        """Metrics of a workload, by the name of the provider that they go to; providers that do not exist are left
        out.
        """
        entries = [entry for spec in self.of(workload) for entry in spec.metrics]
        merged = merged_metrics(entries, self._mesh.default_providers.metrics)
        return {name: found for name, found in merged.items() if self._mesh.provider(name) is not None}

    def access_logs(self, workload: Workload, mode: WorkloadMode) -> dict[str, AccessLog] | None:
        """Access logs of one side of a workload's calls, by the name of the provider; None where neither a Telemetry
        nor a default provider speaks of them, so that ``MeshConfig.accessLogFile`` decides.
        """
        groups = [spec.access_logging for spec in self.of(workload) if spec.access_logging]
        defaults = self._mesh.default_providers.access_logging
        if not groups and not defaults:
            return None
        merged = merged_access_logs(groups, defaults, mode)
        return {name: merged[name] for name in sorted(merged) if self._mesh.provider(name) is not None}
