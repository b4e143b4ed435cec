"""Objects that are valid and do something else than they seem to: checks of our own.

Source of the rules: Istio ``retry.go`` (no attempts means no retries), ``route.go`` (a fault without percentage never
happens; ``*`` is presence in ``withoutHeaders`` only), ``cluster_tls.go`` (a credential needs a workload selector),
``sidecar.go`` (an empty ``outboundTrafficPolicy`` is REGISTRY_ONLY).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = ["credentials", "faults", "outbound_policies", "retries", "stars", "traffic_policies"]


def _rules(world: World) -> Iterator[tuple[Item, str, Mapping[str, Any]]]:
    for item in world.of("VirtualService"):
        for number, rule in enumerate(item.spec.get("http") or []):
            yield item, f"spec.http[{number}]", rule


def stars(world: World) -> Iterator[Problem]:
    """The regular expression ``*``: absence in ``withoutHeaders``, no expression at all elsewhere."""
    for item, path, rule in _rules(world):
        for number, match in enumerate(rule.get("match") or []):
            for field in ("headers", "withoutHeaders", "queryParams"):
                for name, value in (match.get(field) or {}).items():
                    if isinstance(value, Mapping) and value.get("regex") == "*":
                        where = f"{path}.match[{number}].{field}.{name}"
                        yield item.report("MESH004", where, _star(field, name))


def _star(field: str, name: str) -> str:
    if field == "withoutHeaders":
        return f"'*' means here that {name!r} must be absent, whatever its value; {{}} says the same more plainly"
    return f"'*' is no regular expression of RE2: write {{}} to ask that {name!r} is present"


def retries(world: World) -> Iterator[Problem]:
    """``retries`` without ``attempts``: it switches retries off, the built-in ones included."""
    for item, path, rule in _rules(world):
        given = rule.get("retries")
        refused = any(each.path.startswith(f"{path}.retries") for each in world.problems[id(item.resource)])
        if isinstance(given, Mapping) and "attempts" not in given and not refused:
            message = "without attempts nothing is tried again, not even what Istio retries by itself"
            yield item.report("MESH005", f"{path}.retries", message)


def faults(world: World) -> Iterator[Problem]:
    """Faults without ``percentage``: they never happen."""
    for item, path, rule in _rules(world):
        for name in ("delay", "abort"):
            fault = (rule.get("fault") or {}).get(name)
            if isinstance(fault, Mapping) and "percentage" not in fault and not fault.get("percent"):
                message = f"without a percentage the {name} never happens: write percentage, {{value: 100}}"
                yield item.report("MESH006", f"{path}.fault.{name}", message)


def traffic_policies(item: Item) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, str]]]:
    """(path, policy, subset labels) of every policy of a DestinationRule: the host's, its ports', its subsets'."""
    yield from _with_ports("spec.trafficPolicy", item.spec.get("trafficPolicy"), {})
    for number, subset in enumerate(item.spec.get("subsets") or []):
        path = f"spec.subsets[{number}].trafficPolicy"
        yield from _with_ports(path, subset.get("trafficPolicy"), subset.get("labels") or {})


def _with_ports(
    path: str, policy: Any, labels: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, str]]]:
    if isinstance(policy, Mapping):
        yield path, policy, labels
        for number, port in enumerate(policy.get("portLevelSettings") or []):
            yield f"{path}.portLevelSettings[{number}]", port, labels


def credentials(world: World) -> Iterator[Problem]:
    """A ``credentialName`` in a rule for all workloads: a sidecar would send in plaintext, and we refuse to send."""
    for item in world.of("DestinationRule"):
        if (item.spec.get("workloadSelector") or {}).get("matchLabels"):
            continue
        for path, policy, _ in traffic_policies(item):
            name = str((policy.get("tls") or {}).get("credentialName") or "")
            if name and not name.startswith("configmap://"):
                message = f"credential {name!r} needs a workloadSelector: a sidecar drops TLS, calls here are refused"
                yield item.report("MESH012", f"{path}.tls.credentialName", message)


def outbound_policies(world: World) -> Iterator[Problem]:
    """An ``outboundTrafficPolicy`` without ``mode``: unknown hosts are refused."""
    for item in world.of("Sidecar"):
        given = item.spec.get("outboundTrafficPolicy")
        if isinstance(given, Mapping) and "mode" not in given:
            message = "without a mode this is REGISTRY_ONLY: requests to unknown hosts are refused"
            yield item.report("MESH013", "spec.outboundTrafficPolicy", message)
