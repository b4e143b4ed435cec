"""Conditions in an object's status that say it is not in force.

Source: Istio ``analyzers/conditions/conditions.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = ["conditions"]


def conditions(world: World) -> Iterator[Problem]:
    """Conditions of Istio and of the Gateway API that are false, or true in part."""
    for item in world.items:
        for path, condition in _found(item):
            if _is_ours(str(condition.get("type"))) and _is_negative(condition):
                said = f"{condition.get('type')} ({condition.get('reason')}): {condition.get('message')}"
                yield item.report("IST0171", path, said)


def _found(item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    status = item.resource.status or {}
    for number, condition in enumerate(status.get("conditions") or []):
        yield f"status.conditions[{number}]", condition
    for number, parent in enumerate(status.get("parents") or []):
        for index, condition in enumerate((parent or {}).get("conditions") or []):
            yield f"status.parents[{number}].conditions[{index}]", condition


_KUBERNETES = frozenset({"Available", "Progressing", "ReplicaFailure", "Ready", "PodScheduled", "Initialized"})


def _is_ours(name: str) -> bool:
    """Types without a domain are the kind's own; those of other domains belong to other tools."""
    domain, slash, _ = name.rpartition("/")
    return (not slash and name not in _KUBERNETES) or domain == "istio.io" or domain.endswith(".istio.io")


def _is_negative(condition: dict[str, Any]) -> bool:
    status = str(condition.get("status"))
    return status == "False" or (status == "True" and condition.get("reason") == "PartiallyInvalid")
