"""What selectors can select: pods, or what pods will be made from, and workloads outside Kubernetes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.analyze.world import Item, World, selects

__all__ = ["Population", "Workload", "in_ambient", "in_mesh", "pods", "workloads"]

TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something with labels that runs, or will."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Population:
    """Workloads in order, found by their labels: by the rarest of the pairs asked for, so that ten thousand selectors
    over ten thousand workloads are not a hundred million comparisons.
    """

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self._all: list[Workload] = []
        self._places: dict[tuple[str | None, str], list[int]] = {}
        for workload in workloads:
            self.add(workload)

    def add(self, workload: Workload) -> None:
        """One more, after all others."""
        place = len(self._all)
        self._all.append(workload)
        self._places.setdefault((None, workload.namespace), []).append(place)
        for key, value in workload.labels.items():
            self._places.setdefault((key, str(value)), []).append(place)

    def __iter__(self) -> Iterator[Workload]:
        """All of them."""
        return iter(self._all)

    def selected(self, labels: Mapping[str, Any], namespace: str | None = None) -> Iterator[Workload]:
        """Those with all of these labels, and in that namespace when one is given."""
        wanted: list[tuple[str | None, str]] = [(key, str(value)) for key, value in labels.items()]
        if namespace is not None:
            wanted.append((None, namespace))
        everywhere: Sequence[int] = range(len(self._all))
        for place in min((self._places.get(pair, ()) for pair in wanted), key=len, default=everywhere):
            found = self._all[place]
            if (namespace is None or found.namespace == namespace) and selects(labels, found.labels):
                yield found


def pods(world: World) -> Population:
    """Pods, and the templates of workloads whose pods are not among the objects."""
    found = Population(_pod(world, item) for item in world.of("Pod"))
    for kind in TEMPLATES:
        for item in world.of(kind):
            made = _template(item)
            if next(found.selected(made.labels, made.namespace), None) is None:
                found.add(made)
    return found


def workloads(world: World) -> Population:
    """Pods, WorkloadEntries, endpoints of ServiceEntries, and EndpointSlices, whose labels are their pods'."""
    return Population([*pods(world), *_outside(world)])


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
    node = world.labels_of("Node", str(node_name)) if node_name else {}
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
