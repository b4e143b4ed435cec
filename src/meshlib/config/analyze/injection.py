"""Who gets a sidecar: of interest where a mesh has sidecars beside this library, and so run on demand only.

Source: Istio ``analyzers/injection/injection.go``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.services import SYSTEM
from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = ["injection"]

_LABEL, _REVISION, _INJECT = "istio-injection", "istio.io/rev", "sidecar.istio.io/inject"


def injection(world: World) -> Iterator[Problem]:
    """Namespaces without injection, or with two labels for it; pods of injected namespaces without a proxy."""
    injected: set[str] = set()
    for item in world.of("Namespace"):
        if item.name == world.root or item.name in SYSTEM:
            continue
        told, revised = item.labels.get(_LABEL, ""), _REVISION in item.labels
        if not told and not revised:
            yield _without_label(world, item)
        elif told and revised:
            message = f"both {_LABEL} and {_REVISION} are set: only one of them may be"
            yield item.report("IST0123", "metadata.labels", message)
        elif revised or told == "enabled":
            injected.add(item.name)
    for item in world.of("Pod"):
        if item.namespace in injected and _wants_proxy(item) and not _has_proxy(item):
            yield item.report("IST0103", "spec.containers", f"pod {item.full_name} has no proxy")


def _without_label(world: World, item: Item) -> Problem:
    if any(_injects_by_default(each) for each in world.of("ConfigMap")):
        return item.report("IST0148", "metadata.name", "injected, as every namespace without a label is")
    return item.report("IST0102", "metadata.name", f"no sidecar is injected: label it {_LABEL}=enabled or =disabled")


def _injects_by_default(item: Item) -> bool:
    """Whether it is an injector's configuration with ``enableNamespacesByDefault``."""
    values = (item.resource.spec.get("data") or {}).get("values") if item.name.startswith("istio-sidecar-inj") else None
    try:
        settings: Any = json.loads(values or "{}")
    except (ValueError, RecursionError):
        return False
    webhook = settings.get("sidecarInjectorWebhook") if isinstance(settings, Mapping) else None
    return isinstance(webhook, Mapping) and webhook.get("enableNamespacesByDefault") is True


def _wants_proxy(item: Item) -> bool:
    said = item.labels.get(_INJECT, item.annotations.get(_INJECT, ""))
    return said.lower() != "false" and not item.spec.get("hostNetwork")


def _has_proxy(item: Item) -> bool:
    containers = [*(item.spec.get("containers") or []), *(item.spec.get("initContainers") or [])]
    return any(each.get("name") == "istio-proxy" and each.get("image") for each in containers)
