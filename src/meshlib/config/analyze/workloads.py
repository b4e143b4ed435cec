"""What selectors can select: pods, or what pods will be made from, and workloads outside Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshlib.config.analyze.world import Item, World, selects

__all__ = ["Workload", "in_ambient", "in_mesh", "pods", "workloads"]

TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something with labels that runs, or will."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def pods(world: World) -> list[Workload]:
    """Pods, and the templates of workloads whose pods are not among the objects."""
    found = [_pod(world, item) for item in world.of("Pod")]
    for kind in TEMPLATES:
        for item in world.of(kind):
            made = _template(item)
            if not any(pod.namespace == made.namespace and selects(made.labels, pod.labels) for pod in found):
                found.append(made)
    return found


def workloads(world: World) -> list[Workload]:
    """Pods, WorkloadEntries, endpoints of ServiceEntries, and EndpointSlices, whose labels are their pods'."""
    return [*pods(world), *_outside(world)]


def _outside(world: World) -> Iterator[Workload]:
    for item in world.of("WorkloadEntry"):
        yield Workload(item.namespace, item.name, item.spec.get("labels") or {}, {})
    for item in world.of("ServiceEntry"):
        for endpoint in item.spec.get("endpoints") or []:
            yield Workload(item.namespace, item.name, endpoint.get("labels") or {}, {})
    for kind in ("EndpointSlice", "Endpoints"):
        for item in world.of(kind):
            yield Workload(item.namespace, item.name, item.labels, {})


def _pod(world: World, item: Item) -> Workload:
    """With the node's topology labels; an empty one says nothing."""
    node_name = item.spec.get("nodeName")
    node: Mapping[str, str] = {}
    if node_name:
        node = next((each.labels for each in world.of("Node") if each.name == node_name), {})
    place = {label: node[label] for label in TOPOLOGY if node.get(label)}
    return Workload(item.namespace, item.name, {**place, **item.labels}, item.annotations)


def _template(item: Item) -> Workload:
    metadata: Any = (item.spec.get("template") or {}).get("metadata") or {}
    return Workload(item.namespace, item.name, metadata.get("labels") or {}, metadata.get("annotations") or {})


def in_mesh(world: World, item: Item) -> bool:
    """Whether the pods of a Deployment get a sidecar: their own word counts before the namespace's."""
    made = _template(item)
    own = made.labels.get("sidecar.istio.io/inject", made.annotations.get("sidecar.istio.io/inject"))
    if own is not None:
        return str(own).lower() == "true"
    labels = world.namespace_labels(item.namespace)
    return labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels


def in_ambient(world: World, namespace: str) -> bool:
    """Whether the pods of a namespace are in ambient mode, and have no sidecar."""
    labels = world.namespace_labels(namespace)
    sidecar = labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels
    return labels.get("istio.io/dataplane-mode") == "ambient" and not sidecar
