"""All objects of an analysis, as plain mappings with Istio's field names, whether their kind is modelled or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.analyze.codes import CODES
from meshlib.config.resources.base import Message, Resource
from meshlib.model.problem import Problem

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


class World:
    """Every object by kind; pure, and never changed.

    Attributes:
        namespace: Where objects without a namespace are.
        domain: The cluster domain.
        mesh: MeshConfig as a plain mapping.
        root: The root namespace.
    """

    def __init__(
        self, resources: Iterable[Resource[Any]], namespace: str, mesh: Mapping[str, Any], domain: str = "cluster.local"
    ) -> None:
        self.namespace, self.domain, self.mesh = namespace, domain, mesh
        self.root = str(mesh.get("rootNamespace") or "istio-system")
        self.items = [Item(each, _spec(each), each.metadata.namespace or namespace) for each in resources]
        self._kinds: dict[str, list[Item]] = {}
        for item in self.items:
            self._kinds.setdefault(item.resource.kind, []).append(item)
        self.namespaces = self._known_namespaces()

    def of(self, kind: str, group: str | None = None) -> Sequence[Item]:
        """The objects of a kind, and of an API group where kinds of several groups share the name."""
        found = self._kinds.get(kind, [])
        if group is None:
            return found
        return [item for item in found if item.resource.api_version.startswith(f"{group}/")]

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """Labels of a Namespace object; empty when there is none."""
        return next((item.labels for item in self.of("Namespace") if item.name == name), {})

    def _known_namespaces(self) -> frozenset[str]:
        """Declared ones, and those that something runs in."""
        declared = {item.name for item in self.of("Namespace")}
        running = {item.namespace for kind in ("Pod", "Service", "Deployment") for item in self.of(kind)}
        return frozenset(declared | running)


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether every pair of the selector stands among the labels; an empty selector selects everything."""
    return all(key in labels and labels[key] == value for key, value in selector.items())


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
