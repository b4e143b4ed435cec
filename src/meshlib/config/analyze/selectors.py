"""Selectors of Sidecar, Telemetry and AuthorizationPolicy, and the namespaces that policies name.

Source: Istio ``analyzers/sidecar/selector.go``, ``telemetry/*.go``, ``authz/authorizationpolicies.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from meshlib.config.analyze.workloads import Population, Workload, in_ambient, pods
from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = [
    "authorization",
    "default_telemetries",
    "selectors_of_gateways",
    "sidecars",
    "telemetries",
    "telemetry_providers",
]


class _Kind(NamedTuple):
    """How a kind selects, and the codes for its conflicts."""

    kind: str
    field: str
    labels: str
    same_pod: str
    no_selector: str


_SIDECAR = _Kind("Sidecar", "workloadSelector", "labels", "IST0110", "IST0111")
_TELEMETRY = _Kind("Telemetry", "selector", "matchLabels", "IST0159", "IST0160")


def _labels(item: Item, kind: _Kind) -> Mapping[str, str]:
    given: Any = item.spec.get(kind.field) or {}
    return given.get(kind.labels) or {}


def sidecars(world: World) -> Iterator[Problem]:
    """Sidecars without pods, two for one pod, several without selector; and those of pods without a sidecar."""
    everyone = pods(world)
    yield from _conflicts(world, _SIDECAR, everyone)
    yield from _without_selector(world, _SIDECAR)
    for item in world.of("Sidecar"):
        if _for_ambient(world, item, everyone):
            yield item.report("IST0167", "", "pods in ambient mode have no sidecar: this has no effect on them")


def _for_ambient(world: World, item: Item, everyone: Population) -> bool:
    labels = _labels(item, _SIDECAR)
    if not labels:
        return in_ambient(world, item.namespace)
    chosen = everyone.selected(labels, item.namespace)
    return any(pod.annotations.get("ambient.istio.io/redirection") == "enabled" for pod in chosen)


def telemetries(world: World) -> Iterator[Problem]:
    """Telemetries without pods, and two for one pod."""
    yield from _conflicts(world, _TELEMETRY, pods(world))


def default_telemetries(world: World) -> Iterator[Problem]:
    """Several Telemetries without selector in a namespace."""
    yield from _without_selector(world, _TELEMETRY)


def _by_namespace(world: World, kind: _Kind) -> dict[str, list[Item]]:
    """Those that select by labels, or everything; ``targetRefs`` are another way."""
    found: dict[str, list[Item]] = {}
    for item in world.of(kind.kind):
        if not item.spec.get("targetRef") and not item.spec.get("targetRefs"):
            found.setdefault(item.namespace, []).append(item)
    return found


def _conflicts(world: World, kind: _Kind, everyone: Population) -> Iterator[Problem]:
    for namespace, items in _by_namespace(world, kind).items():
        own = Population(everyone.selected({}, namespace))
        yield from _nobody(kind, items, own)
        yield from _shared_pods(kind, items, own)


def _without_selector(world: World, kind: _Kind) -> Iterator[Problem]:
    for items in _by_namespace(world, kind).values():
        without = [item for item in items if not _labels(item, kind)]
        yield from _together(kind.no_selector, without, "", lambda names: f"{names} have no selector either")


def _nobody(kind: _Kind, items: list[Item], own: Population) -> Iterator[Problem]:
    for item in items:
        labels = _labels(item, kind)
        if labels and next(own.selected(labels), None) is None:
            yield item.missing("workload with the labels", _pairs(labels), f"spec.{kind.field}.{kind.labels}")


def _shared_pods(kind: _Kind, items: list[Item], own: Population) -> Iterator[Problem]:
    selecting: dict[int, list[Item]] = {}
    for item in items:
        labels = _labels(item, kind)
        for pod in own.selected(labels) if labels else ():
            selecting.setdefault(id(pod), []).append(item)
    for pod in own:
        yield from _together(kind.same_pod, selecting.get(id(pod), []), f"spec.{kind.field}", _selecting(pod))


def _selecting(pod: Workload) -> Callable[[str], str]:
    return lambda names: f"{names} select pod {pod.name} too"


def _together(code: str, items: list[Item], path: str, say: Callable[[str], str]) -> Iterator[Problem]:
    if len(items) > 1:
        for item in items:
            others = ", ".join(other.full_name for other in items if other is not item)
            yield item.report(code, path, f"{say(others)}: which one applies is undefined")


def telemetry_providers(world: World) -> Iterator[Problem]:
    """Access logging that names no provider, in a mesh without default providers for it."""
    if (world.mesh.get("defaultProviders") or {}).get("accessLogging"):
        return
    for item in world.of("Telemetry"):
        for number, section in enumerate(item.spec.get("accessLogging") or []):
            if not section.get("providers") and not section.get("disabled"):
                message = "no provider is named and the mesh has no default: this is ignored"
                yield item.report("IST0157", f"spec.accessLogging[{number}]", message)
                break


GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


def selectors_of_gateways(world: World) -> Iterator[Problem]:
    """Policies that select the pods of a Kubernetes Gateway, where only ``targetRefs`` have an effect.

    Source: Istio ``analyzers/k8sgateway/workloadselector.go``.
    """
    gateways = Population(pod for pod in pods(world) if GATEWAY_NAME in pod.labels)
    for kind in ("AuthorizationPolicy", "RequestAuthentication", "Telemetry", "WasmPlugin"):
        for item in world.of(kind):
            labels = (item.spec.get("selector") or {}).get("matchLabels")
            if not labels or item.spec.get("targetRef") or item.spec.get("targetRefs"):
                continue
            for pod in gateways.selected(labels, item.namespace):
                message = f"no effect on Kubernetes Gateway {pod.labels[GATEWAY_NAME]!r}: use targetRefs"
                yield item.report("IST0166", "spec.selector", message)


# AuthorizationPolicy -------------------------------------------------------------------------------------------------


def authorization(world: World) -> Iterator[Problem]:
    """Policies that apply to no workload, and source namespaces that do not exist."""
    everyone = pods(world)
    for item in world.of("AuthorizationPolicy"):
        if not item.spec.get("targetRef") and not item.spec.get("targetRefs"):
            yield from _applies(world, item, everyone)
        yield from _source_namespaces(world, item)


def _applies(world: World, item: Item, everyone: Population) -> Iterator[Problem]:
    labels = (item.spec.get("selector") or {}).get("matchLabels") or {}
    whole_mesh = item.namespace == world.root
    if whole_mesh and not labels:
        return
    if next(everyone.selected(labels, None if whole_mesh else item.namespace), None) is None:
        what = f"with the labels {_pairs(labels)}" if labels else f"in namespace {item.namespace!r}"
        yield item.report("IST0127", "spec.selector" if labels else "", f"there is no workload {what}")


def _source_namespaces(world: World, item: Item) -> Iterator[Problem]:
    for number, rule in enumerate(item.spec.get("rules") or []):
        for index, source in enumerate((rule or {}).get("from") or []):
            for field in ("namespaces", "notNamespaces"):
                for place, pattern in enumerate((source.get("source") or {}).get(field) or []):
                    if not any(_fits(str(pattern), name) for name in world.namespaces):
                        path = f"spec.rules[{number}].from[{index}].source.{field}[{place}]"
                        yield item.missing("namespace", str(pattern), path)


def _fits(pattern: str, name: str) -> bool:
    """Istio's string match: a star at the start or at the end."""
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def _pairs(labels: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
