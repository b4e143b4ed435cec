"""Which collections of the API server are wanted: a type of resource, a namespace, a selection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshlib.config.resources.kinds import KINDS

__all__ = ["CORE", "GROUPS", "Collection", "ResourceType", "Scope", "Selector"]


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of resource, as discovery names it.

    Attributes:
        group: API group, ``""`` for Kubernetes' core.
        version: The version that is asked for.
        plural: Its name in paths, for example ``virtualservices``.
        kind: For example ``VirtualService``.
        namespaced: Whether its objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects name it: ``networking.istio.io/v1``, ``v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """As RBAC and kubectl name it: ``virtualservices.networking.istio.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CORE = (
    ResourceType("", "v1", "namespaces", "Namespace", namespaced=False),
    ResourceType("", "v1", "nodes", "Node", namespaced=False),
    ResourceType("", "v1", "services", "Service"),
    ResourceType("", "v1", "pods", "Pod"),
)
"""What every server has. Endpoints are left out: Kubernetes mirrors them into slices."""

CONFIG_MAP = ResourceType("", "v1", "configmaps", "ConfigMap")

GROUPS: Mapping[str, Mapping[str, frozenset[str]]] = {
    group: {kind: known.versions for (of, kind), known in KINDS.items() if of == group}
    for group in sorted({group for group, _ in KINDS if group})
}
"""Group -> kind -> the versions of it that are read; all that is looked for on a server besides ``CORE``."""

_PLAIN = "application/json"
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1,application/json"
_ENDED_PODS = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class Collection:
    """What one list and one watch are about.

    Attributes:
        type: The type of resource.
        namespace: The only namespace, ``""`` for all of them or for what lives in none.
        labels: Label selector, ``""`` for all objects.
        fields: Field selector.
    """

    type: ResourceType
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        """Where it is served."""
        root = f"/apis/{self.type.group}/{self.type.version}" if self.type.group else f"/api/{self.type.version}"
        space = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}{space}/{self.type.plural}"

    @property
    def selection(self) -> dict[str, str]:
        """Query parameters that narrow it."""
        given = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in given.items() if value}

    def accept(self, watch: bool) -> str:
        """The media type to ask for: of nodes and namespaces nothing but the metadata is read."""
        if self.type.kind not in ("Node", "Namespace"):
            return _PLAIN
        return _METADATA.format("PartialObjectMetadata" if watch else "PartialObjectMetadataList")

    def __str__(self) -> str:
        """``services in shop``."""
        return self.type.name + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a cluster is watched.

    Attributes:
        namespaces: The only ones, None for all.
        labels: Kind -> label selector, for example ``{"Pod": "tier=web"}``.
        kinds: The only kinds, None for all that are known.
        without: Kinds that are left out.
        config_map: Namespace and name of the ConfigMap that holds MeshConfig, None for none.
        services: Name and namespace (``""`` for any) of the only Services, None for all: of these alone there are
            slices and Pods.
    """

    namespaces: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    config_map: tuple[str, str] | None = ("istio-system", "istio")
    services: tuple[tuple[str, str], ...] | None = None

    def wants(self, kind: str) -> bool:
        """Whether objects of that kind are watched."""
        return kind not in self.without and (self.kinds is None or kind in self.kinds)

    def collections(self, types: Sequence[ResourceType], selectors: Iterable[Selector] = ()) -> Iterator[Collection]:
        """What to watch of these types; one collection for each namespace where there are only some.

        Args:
            types: What the server has.
            selectors: Of the Services that are known, for their Pods; of use where only some are wanted.
        """
        for each in types:
            if self.wants(each.kind):
                yield from self._of(each, selectors)
        if self.config_map is not None and self.wants("ConfigMap"):
            namespace, name = self.config_map
            yield Collection(CONFIG_MAP, namespace, fields=f"metadata.name={name}")

    def _of(self, type: ResourceType, selectors: Iterable[Selector]) -> Iterator[Collection]:
        labels, spaces = self.labels.get(type.kind, ""), self.namespaces or ("",) if type.namespaced else ("",)
        if self.services is not None and type.kind == "Pod":
            for namespace, selector in selectors:
                own = (f"{key}={value}" for key, value in sorted(selector.items()))
                yield Collection(type, namespace, _both(labels, *own), _ENDED_PODS)
        elif self.services is not None and type.kind == "Service":
            for name, namespace in self.services:
                for space in (namespace,) if namespace and self.namespaces is None else spaces:
                    if not namespace or space == namespace:
                        yield Collection(type, space, labels, f"metadata.name={name}")
        else:
            if self.services is not None and type.kind == "EndpointSlice":
                names = ",".join(sorted({name for name, _ in self.services}))
                labels = _both(labels, f"kubernetes.io/service-name in ({names})")
            for space in spaces:
                yield Collection(type, space, labels, _ENDED_PODS if type.kind == "Pod" else "")


Selector = tuple[str, Mapping[str, str]]
"""Namespace of a Service, and the labels of its Pods."""


def _both(*selectors: str) -> str:
    return ",".join(each for each in selectors if each)
