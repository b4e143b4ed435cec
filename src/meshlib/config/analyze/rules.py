"""Rules that can never be reached, and fields on their way out.

A match that a shorter prefix covers is ineffective (validation says so), but only equal matches make the whole rule
unreachable. Source: Istio ``validation.go`` (``analyzeUnreachableTLSRules``,
``analyzeUnreachableTCPRules``), ``analyzers/deprecation/deprecation.go``, ``telemetry/lightstep.go``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = ["deprecated", "lightstep", "unreachable_rules"]


def unreachable_rules(world: World) -> Iterator[Problem]:
    """Rules behind a rule that takes everything, and rules whose matches all stand before."""
    for item in world.of("VirtualService"):
        for part in ("http", "tls", "tcp"):
            yield from _part(item, f"spec.{part}", item.spec.get(part) or [])


def _part(item: Item, part: str, rules: list[Any]) -> Iterator[Problem]:
    open_ended: int | None = None
    seen: dict[str, str] = {}
    for number, rule in enumerate(rules):
        path = f"{part}[{number}]"
        if open_ended is not None:
            message = f"rule {open_ended} has no match and takes everything before it comes here"
            yield item.report("IST0130", path, message)
        matches = rule.get("match") or []
        if not matches:
            open_ended = number if open_ended is None else open_ended
            continue
        repeated = 0
        for index, match in enumerate(matches):
            where = f"{path}.match[{index}]"
            first = seen.setdefault(_key(match), where)
            repeated += first != where
        if repeated == len(matches):
            yield item.report("IST0130", path, "every match of this rule stands in a rule before it")


def _key(match: dict[str, Any]) -> str:
    return json.dumps({field: value for field, value in match.items() if field != "name"}, sort_keys=True, default=str)


def deprecated(world: World) -> Iterator[Problem]:
    """Fields that still work and will not for ever."""
    for item in world.of("VirtualService"):
        for number, rule in enumerate(item.spec.get("http") or []):
            if ((rule.get("fault") or {}).get("delay") or {}).get("percent"):
                path = f"spec.http[{number}].fault.delay.percent"
                yield item.report("IST0002", path, "percent is deprecated: write percentage, {value: 10}")
    for item in world.of("Sidecar"):
        if (item.spec.get("outboundTrafficPolicy") or {}).get("egressProxy"):
            path = "spec.outboundTrafficPolicy.egressProxy"
            yield item.report("IST0002", path, "egressProxy is deprecated")


def lightstep(world: World) -> Iterator[Problem]:
    """Tracing through Lightstep's own provider."""
    providers = world.mesh.get("extensionProviders") or []
    names = {provider.get("name") for provider in providers if provider.get("lightstep")}
    for item in world.of("Telemetry"):
        for number, section in enumerate(item.spec.get("tracing") or []):
            for index, provider in enumerate(section.get("providers") or []):
                if provider.get("name") in names:
                    path = f"spec.tracing[{number}].providers[{index}].name"
                    yield item.report("IST0002", path, "Lightstep is deprecated: use the OpenTelemetry provider")
