"""All objects of an analysis, as plain mappings with Istio's field names, whether their kind is modelled or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from meshlib.config.analyze.codes import CODES
from meshlib.config.compile.universe import Universe
from meshlib.config.resources.base import Message, Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.validation import validate
from meshlib.model.problem import Level, Problem

__all__ = ["Item", "World", "selects"]

ISTIO = "networking.istio.io"


@dataclass(frozen=True, slots=True)
class Item:
    """One object.

    Attributes:
        resource: As loaded.
        spec: Its spec in plain words; fields that were not given are absent.
        namespace: Its own, or the one that objects without are taken to be in.
    """

    resource: Resource[Any]
    spec: Mapping[str, Any]
    namespace: str

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.resource.metadata.name

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def labels(self) -> Mapping[str, str]:
        """``metadata.labels``."""
        return self.resource.metadata.labels

    @property
    def annotations(self) -> Mapping[str, str]:
        """``metadata.annotations``."""
        return self.resource.metadata.annotations

    def report(self, code: str, path: str, message: str) -> Problem:
        """A finding about the field at ``path``."""
        name, level = CODES[code]
        origin = self.resource.origin
        return Problem(code, name, level, self.resource.id, message, origin.source, origin.line(path), path)

    def missing(self, what: str, value: str, path: str) -> Problem:
        """IST0101: what the field refers to does not exist."""
        return self.report("IST0101", path, f"{what} {value!r} does not exist")


CLUSTER = "topology.istio.io/cluster"


class World:
    """Every object by kind; pure, and never changed.

    Args:
        resources: The objects, one of each name.
        namespace: See below.
        mesh: See below.
        domain: See below.
        now: See below.
        everywhere: The objects of all clusters, several of a name: Services with the label of their cluster.

    Attributes:
        clusters: Namespace and name of a Service that stands in several clusters -> cluster -> the object.
        namespace: Where objects without a namespace are.
        domain: The cluster domain.
        mesh: MeshConfig as a plain mapping.
        root: The root namespace.
        now: What certificates are judged by.
    """

    def __init__(
        self,
        resources: Iterable[Resource[Any]],
        namespace: str,
        mesh: Mapping[str, Any],
        domain: str = "cluster.local",
        everywhere: Iterable[Resource[Any]] = (),
        now: datetime | None = None,
    ) -> None:
        self.namespace, self.domain, self.mesh = namespace, domain, mesh
        self.now = now if now is not None else datetime.now(UTC)
        self.root = str(mesh.get("rootNamespace") or "istio-system")
        self.items = [Item(each, _spec(each), each.metadata.namespace or namespace) for each in resources]
        self._kinds: dict[str, list[Item]] = {}
        self._labels: dict[str, dict[str, Mapping[str, str]]] = {}
        self._by_namespace: dict[str, dict[str, list[Item]]] = {}
        for item in self.items:
            self._kinds.setdefault(item.resource.kind, []).append(item)
        self.namespaces = self._known_namespaces()
        self.clusters = self._clusters(everywhere)

    def of(self, kind: str, group: str | None = None) -> Sequence[Item]:
        """The objects of a kind, and of an API group where kinds of several groups share the name."""
        found = self._kinds.get(kind, [])
        if group is None:
            return found
        return [item for item in found if item.resource.api_version.startswith(f"{group}/")]

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """Labels of a Namespace object; empty when there is none."""
        return self.labels_of("Namespace", name)

    def labels_of(self, kind: str, name: str) -> Mapping[str, str]:
        """Labels of the first object of that name, of a kind without namespaces; empty when there is none."""
        if kind not in self._labels:
            self._labels[kind] = {item.name: item.labels for item in reversed(self.of(kind))}
        return self._labels[kind].get(name, {})

    def in_namespace(self, kind: str, namespace: str) -> Sequence[Item]:
        """The objects of a kind in one namespace."""
        if kind not in self._by_namespace:
            found = self._by_namespace[kind] = {}
            for item in self.of(kind):
                found.setdefault(item.namespace, []).append(item)
        return self._by_namespace[kind].get(namespace, ())

    @cached_property
    def problems(self) -> Mapping[int, Sequence[Problem]]:
        """What validation says of each object, by the identity of its ``Resource``."""
        return {id(item.resource): validate(item.resource) for item in self.items}

    @cached_property
    def universe(self) -> Universe:
        """The valid objects, compiled: what is in force is asked there, not told anew."""
        valid = [item.resource for item in self.items if not self._is_bad(item.resource)]
        return Universe(valid, self.namespace, self.domain, _settings(self.mesh))

    def _is_bad(self, resource: Resource[Any]) -> bool:
        return any(problem.level is Level.ERROR for problem in self.problems[id(resource)])

    def _clusters(self, resources: Iterable[Resource[Any]]) -> Mapping[tuple[str, str], Mapping[str, Item]]:
        found: dict[tuple[str, str], dict[str, Item]] = {}
        for each in resources:
            cluster = each.metadata.labels.get(CLUSTER)
            if each.kind == "Service" and cluster:
                item = Item(each, _spec(each), each.metadata.namespace or self.namespace)
                found.setdefault((item.namespace, item.name), {}).setdefault(cluster, item)
        return {key: copies for key, copies in found.items() if len(copies) > 1}

    def _known_namespaces(self) -> frozenset[str]:
        """Declared ones, and those that something runs in."""
        declared = {item.name for item in self.of("Namespace")}
        running = {item.namespace for kind in ("Pod", "Service", "Deployment") for item in self.of(kind)}
        return frozenset(declared | running)


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether every pair of the selector stands among the labels; an empty selector selects everything."""
    return all(key in labels and labels[key] == value for key, value in selector.items())


def _settings(mesh: Mapping[str, Any]) -> MeshConfig:
    """The mesh's settings as far as they can be read; what is wrong with them is said elsewhere."""
    try:
        return MeshConfig.model_validate(dict(mesh))
    except ValidationError:
        return MeshConfig()


def _spec(resource: Resource[Any]) -> Mapping[str, Any]:
    spec = resource.spec
    if isinstance(spec, Message):
        return spec.model_dump(by_alias=True, exclude_unset=True)
    given = spec.get("spec") if isinstance(spec, dict) else None
    return _without_nulls(given) if isinstance(given, dict) else {}


def _without_nulls(value: Any) -> Any:
    """A field or element that is null says as little as one that is absent."""
    if isinstance(value, dict):
        return {str(key): _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value if part is not None]
    return value
