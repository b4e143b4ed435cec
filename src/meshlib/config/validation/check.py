"""From a kind to its checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.config.validation.destination_rule import destination_rule
from meshlib.config.validation.report import Report
from meshlib.config.validation.service_entry import service_entry, sidecar, workload_entry
from meshlib.config.validation.virtual_service import virtual_service
from meshlib.model.problem import Problem

__all__ = ["validate"]

_CHECKS: dict[str, Callable[[Report, Any], None]] = {
    "VirtualService": virtual_service,
    "DestinationRule": destination_rule,
    "ServiceEntry": service_entry,
    "WorkloadEntry": workload_entry,
    "Sidecar": sidecar,
}


def validate(resource: Resource[Any]) -> list[Problem]:
    """What is wrong with an object, by itself; pure.

    An object with a problem of level ``ERROR`` must not be used. Kinds without checks have no problems.
    """
    check = _CHECKS.get(resource.kind)
    if check is None or isinstance(resource.spec, dict):
        return []
    report = Report(resource)
    check(report, resource.spec)
    return report.problems
