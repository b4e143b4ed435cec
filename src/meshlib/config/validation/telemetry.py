"""Validation of Telemetry. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import telemetry as api
from meshlib.config.validation.cel import syntax_problem
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import policy_target

__all__ = ["telemetry"]


def telemetry(report: Report, spec: api.TelemetrySpec) -> None:
    """Everything about a Telemetry that one object shows."""
    policy_target(report, spec)
    if len(spec.tracing) > 1:
        report.warn("spec.tracing[1]", "only the first entry of tracing is used")
    for number, entry in enumerate(spec.tracing):
        _tracing(report, entry, f"spec.tracing[{number}]")
    for number, metrics in enumerate(spec.metrics):
        for index, override in enumerate(metrics.overrides):
            _override(report, override, f"spec.metrics[{number}].overrides[{index}]")
    for number, logging in enumerate(spec.access_logging):
        if logging.filter is not None:
            path = f"spec.accessLogging[{number}].filter.expression"
            report.refuse(path, syntax_problem(logging.filter.expression))


def _tracing(report: Report, entry: api.Tracing, path: str) -> None:
    if len(entry.providers) > 1:
        report.warn(f"{path}.providers[1]", "only the first provider is used")
    if "" in entry.custom_tags:
        report.error(f"{path}.customTags", "the name of a tag is empty")


def _override(report: Report, override: api.MetricsOverrides, path: str) -> None:
    for name, tag in override.tag_overrides.items():
        where = f"{path}.tagOverrides.{name}"
        if not name:
            report.warn(where, "the name of a tag is empty")
        if tag.operation is api.TagOperation.UPSERT and not tag.value:
            report.error(f"{where}.value", "UPSERT needs a value")
        if tag.operation is api.TagOperation.REMOVE and tag.value:
            report.error(f"{where}.value", "REMOVE takes no value")
