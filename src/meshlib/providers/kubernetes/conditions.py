"""What an object's status says of it on our behalf; pure.

Istio's kinds and ours have a list of conditions, in which one is of our type. A route of the Gateway API has an entry
for each parent and controller; ours carry our name. Many clients say the same, so that the first speaks for all: what
stands there for this generation of the object stays, and it goes only when a later generation is in order.

Source: Istio ``IstioStatus``; Gateway API ``RouteParentStatus``; Kubernetes ``meta/v1`` ``Condition``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["CONTROLLER", "TYPE", "is_stale", "revised"]

TYPE = "meshlib.dev/Accepted"
CONTROLLER = "meshlib.dev/client"
_GATEWAY_API = "gateway.networking.k8s.io"
_PARENTS = 32
"""Entries that the Gateway API allows."""
_LONGEST = 1024
"""Characters of a message; Kubernetes allows 32,768."""

Object = Mapping[str, Any]


def is_stale(value: Object) -> bool:
    """Whether the status carries a word of ours about an earlier generation of the object."""
    status = _status(value)
    ours = [each for each in _rows(status, "conditions") if each.get("type") == TYPE]
    for parent in _rows(status, "parents"):
        if parent.get("controllerName") == CONTROLLER:
            ours.extend(_rows(parent, "conditions"))
    generation = _generation(value)
    return any(_number(each.get("observedGeneration")) < generation for each in ours)


def revised(value: Object, finding: str, now: str) -> dict[str, Any] | None:
    """The part of the status that is to be written, None when nothing is.

    Args:
        value: The object as the server has it.
        finding: Why it is refused, ``""`` when it is not.
        now: RFC 3339.
    """
    if str(value.get("apiVersion", "")).startswith(_GATEWAY_API):
        return _of_route(value, finding, now)
    known = _rows(_status(value), "conditions")
    ours = [each for each in known if each.get("type") == TYPE]
    if not _is_due(value, ours, finding):
        return None
    others = [each for each in known if each.get("type") != TYPE]
    return {"conditions": [*others, *([_condition(value, TYPE, "Invalid", finding, now)] if finding else [])]}


def _of_route(value: Object, finding: str, now: str) -> dict[str, Any] | None:
    known = _rows(_status(value), "parents")
    ours = [each for each in known if each.get("controllerName") == CONTROLLER]
    conditions = [condition for each in ours for condition in _rows(each, "conditions")]
    if not _is_due(value, conditions, finding):
        return None
    others = [each for each in known if each.get("controllerName") != CONTROLLER]
    spec = value.get("spec")
    parents = _rows(spec, "parentRefs") if finding and isinstance(spec, Mapping) else []
    condition = _condition(value, "Accepted", "UnsupportedValue", finding, now)
    made = [{"parentRef": dict(each), "controllerName": CONTROLLER, "conditions": [condition]} for each in parents]
    if not made and not ours:
        return None
    return {"parents": [*others, *made[: max(0, _PARENTS - len(others))]]}


def _is_due(value: Object, ours: Sequence[Object], finding: str) -> bool:
    """Said once of a generation; taken back for a later one only, for an older client may refuse what we do not."""
    generation = _generation(value)
    said = max((_number(each.get("observedGeneration")) for each in ours), default=None)
    if finding:
        return said is None or said < generation
    return said is not None and said < generation


def _condition(value: Object, kind: str, reason: str, finding: str, now: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "False",
        "observedGeneration": _generation(value),
        "lastTransitionTime": now,
        "reason": reason,
        "message": finding[:_LONGEST],
    }


def _generation(value: Object) -> int:
    metadata = value.get("metadata")
    return _number(metadata.get("generation")) if isinstance(metadata, Mapping) else 0


def _number(value: Any) -> int:
    """Istio's status has it as a text, as protobuf's JSON writes 64 bits."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _status(value: Object) -> Object:
    status = value.get("status")
    return status if isinstance(status, Mapping) else {}


def _rows(value: Object, name: str) -> list[Object]:
    rows = value.get(name)
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []
