"""Which providers log a workload's calls, merged from broad to narrow.

The last object that names providers decides which; entries without providers are for those of the entry before.
Source: Istio ``pilot/pkg/model/telemetry.go`` (``mergeLogs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshlib.config.resources.telemetry import AccessLogging, WorkloadMode

__all__ = ["AccessLog", "merged_access_logs"]


@dataclass(frozen=True, slots=True)
class AccessLog:
    """What a provider is told of.

    Attributes:
        disabled: Nothing.
        filter: A CEL expression that a call must fulfil; ``""`` for every call.
    """

    disabled: bool = False
    filter: str = ""


def merged_access_logs(
    groups: Sequence[Sequence[AccessLogging]], defaults: Sequence[str], mode: WorkloadMode
) -> dict[str, AccessLog]:
    """Provider -> what it is told of.

    Args:
        groups: The entries of each object, from broad to narrow.
        defaults: ``MeshConfig.defaultProviders.accessLogging``.
        mode: Which side: CLIENT or SERVER.
    """
    if not groups:
        return {name: AccessLog() for name in defaults}
    filters: dict[str, str] = {}
    wanted = set(defaults)
    for entries in groups:
        named: set[str] = set()
        for entry in entries:
            if _concerns(entry, mode):
                names = [provider.name for provider in entry.providers]
                named.update(names)
                filters.update(dict.fromkeys(names, entry.filter.expression if entry.filter is not None else ""))
        wanted = named or wanted
    return _applied(groups, defaults, mode, wanted, filters)


def _applied(
    groups: Sequence[Sequence[AccessLogging]],
    defaults: Sequence[str],
    mode: WorkloadMode,
    wanted: set[str],
    filters: dict[str, str],
) -> dict[str, AccessLog]:
    found: dict[str, AccessLog] = {}
    before: Sequence[str] = defaults
    for entry in (entry for entries in groups for entry in entries):
        before = [provider.name for provider in entry.providers] or before
        if _concerns(entry, mode):
            for name in before:
                if name in wanted:
                    found[name] = (
                        AccessLog(disabled=True) if entry.disabled else AccessLog(filter=filters.get(name, ""))
                    )
    return found


def _concerns(entry: AccessLogging, mode: WorkloadMode) -> bool:
    return entry.match is None or entry.match.mode in (mode, WorkloadMode.CLIENT_AND_SERVER)
