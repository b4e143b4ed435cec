"""Validation of WorkloadEntry, and of ServiceEntry endpoints, which are the same message.

Source: Istio ``pkg/config/validation/validation.go``.
"""

from __future__ import annotations

from collections.abc import Container

from meshlib.config.resources.service_entry import WorkloadEntrySpec
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels
from meshlib.model.hosts import is_ip

__all__ = ["address", "ports", "workload_entry"]

_UNIX = "unix://"


def workload_entry(report: Report, spec: WorkloadEntrySpec) -> None:
    """Everything about a WorkloadEntry that one object shows."""
    address(report, spec, "spec", names=True)
    ports(report, spec, "spec")
    labels(report, spec.labels, "spec.labels")


def address(report: Report, endpoint: WorkloadEntrySpec, path: str, *, names: bool) -> None:
    """An IP address, a unix socket, or with ``names`` a domain name."""
    given = endpoint.address
    if not given:
        if not endpoint.network:
            report.error(f"{path}.address", "address is required")
        else:
            report.warn(f"{path}.address", "without an address the workload is reached through its network's gateway")
    elif given.startswith(_UNIX):
        report.refuse(f"{path}.address", check.unix_path(given.removeprefix(_UNIX)))
        if endpoint.ports:
            report.error(f"{path}.ports", "a unix socket has no ports")
    elif not is_ip(given) and (not names or check.fqdn(given)):
        wanted = "an IP address or a domain name" if names else "an IP address"
        report.error(f"{path}.address", f"{given!r} is not {wanted}")


def ports(report: Report, endpoint: WorkloadEntrySpec, path: str, known: Container[str] | None = None) -> None:
    """Port names with their numbers; ``known`` are those of the service, where there is one."""
    for name, number in endpoint.ports.items():
        where = f"{path}.ports.{name}"
        if known is not None and name not in known:
            report.error(where, f"the service has no port named {name!r}")
        report.refuse(where, check.dns_label(name) or check.port(number))
