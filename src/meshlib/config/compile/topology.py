"""Where workloads run: locality, network and cluster, and the labels that stand for them.

Source: Istio ``serviceregistry/kube/controller`` (``getPodLocality``, ``Network``), ``util/label`` (``AugmentLabels``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.model.endpoint import Locality

__all__ = ["CLUSTER", "HOSTNAME", "NETWORK", "TOPOLOGY", "Topology", "labelled_locality"]

CLUSTER = "topology.istio.io/cluster"
HOSTNAME = "kubernetes.io/hostname"
NETWORK = "topology.istio.io/network"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
SUB_ZONE = "topology.istio.io/subzone"
TOPOLOGY = (REGION, ZONE, SUB_ZONE)
"""Labels for the three parts of a locality."""
_OLD_REGION = "failure-domain.beta.kubernetes.io/region"
_OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"


def labelled_locality(labels: Mapping[str, str]) -> Locality | None:
    """The locality that a workload's own label gives it; dots stand for slashes where there are none."""
    given = labels.get("topology.istio.io/locality") or labels.get("istio-locality")
    return Locality.parse(given if "/" in given else given.replace(".", "/")) if given else None


class Topology:
    """What nodes and namespaces say of the workloads in them.

    Args:
        resources: Objects of any kinds.
        root: The root namespace, whose label names the network of the cluster.
        cluster: Id of the Kubernetes cluster that the objects are of, ``""`` when unknown.
    """

    def __init__(self, resources: Iterable[Resource[Any]], root: str, cluster: str = "") -> None:
        self.cluster = cluster
        self._nodes: dict[str, Mapping[str, str]] = {}
        self._network = ""
        for resource in resources:
            if resource.kind == "Node":
                self._nodes[resource.metadata.name] = resource.metadata.labels
            elif resource.kind == "Namespace" and resource.metadata.name == root:
                self._network = resource.metadata.labels.get(NETWORK, "")

    def locality(self, labels: Mapping[str, str], node: str, zone: str = "") -> Locality:
        """Of a pod: its own label, else its node's labels; of an unknown node the pod's, and the slice's ``zone``."""
        own = labelled_locality(labels)
        if own is not None:
            return own
        place = self._nodes.get(node, labels)
        return Locality(
            place.get(REGION) or place.get(_OLD_REGION, ""),
            place.get(ZONE) or place.get(_OLD_ZONE) or zone,
            place.get(SUB_ZONE, ""),
        )

    def network(self, labels: Mapping[str, str], own: str = "") -> str:
        """The field of a WorkloadEntry, else the label of the workload, else that of the root namespace."""
        return own or labels.get(NETWORK) or self._network

    def augmented(self, labels: Mapping[str, str], where: Locality, node: str, network: str) -> Mapping[str, str]:
        """``labels`` with those that stand for the place, which win; only for a network does the own label win."""
        found = dict(labels)
        found.update((name, value) for name, value in zip(TOPOLOGY, where, strict=True) if value)
        if self.cluster and CLUSTER not in found:
            found[CLUSTER] = self.cluster
        if node:
            found[HOSTNAME] = node
        if network:
            found.setdefault(NETWORK, network)
        return MappingProxyType(found)
