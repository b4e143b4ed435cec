"""What an API server stores: objects with resource versions, a history that is compacted, pages, watches.

Written after the documentation of the API (resource versions, 410 ``Expired``, continuation, selectors that objects
enter and leave), and not after its client.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Type(NamedTuple):
    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    namespaced: bool = True


ISTIO = "networking.istio.io"
CORE_TYPES = (
    Type("", ("v1",), "namespaces", "Namespace", False),
    Type("", ("v1",), "nodes", "Node", False),
    Type("", ("v1",), "services", "Service"),
    Type("", ("v1",), "pods", "Pod"),
    Type("", ("v1",), "configmaps", "ConfigMap"),
    Type("", ("v1",), "endpoints", "Endpoints"),
    Type("discovery.k8s.io", ("v1",), "endpointslices", "EndpointSlice"),
    Type("apps", ("v1",), "deployments", "Deployment"),
)
ISTIO_TYPES = (
    Type(ISTIO, ("v1", "v1beta1", "v1alpha3"), "virtualservices", "VirtualService"),
    Type(ISTIO, ("v1", "v1beta1", "v1alpha3"), "destinationrules", "DestinationRule"),
    Type(ISTIO, ("v1", "v1beta1", "v1alpha3"), "serviceentries", "ServiceEntry"),
    Type(ISTIO, ("v1", "v1beta1", "v1alpha3"), "workloadentries", "WorkloadEntry"),
    Type(ISTIO, ("v1", "v1beta1", "v1alpha3"), "sidecars", "Sidecar"),
    Type("meshlib.dev", ("v1alpha1",), "clientpolicies", "ClientPolicy"),
)


class Refused(Exception):
    """A request that is answered by a Status."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details

    def status(self) -> dict[str, Any]:
        metadata = {"continue": self.details.pop("continue_")} if "continue_" in self.details else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


def expired(message: str, **details: Any) -> Refused:
    return Refused(410, "Expired", message, **details)


class Selection(NamedTuple):
    """A namespace and selectors."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def has(self, thing: dict[str, Any] | None) -> bool:
        if thing is None or (self.namespace and thing["metadata"].get("namespace") != self.namespace):
            return False
        labels = thing["metadata"].get("labels") or {}
        return all(_holds(labels.get, each) for each in _terms(self.labels)) and all(
            _holds(lambda path: _field(thing, path), each) for each in _terms(self.fields)
        )


def _terms(selector: str) -> list[str]:
    return [each for each in re.split(r",(?![^(]*\))", selector) if each]


def _holds(get: Callable[[str], Any], term: str) -> bool:
    if found := re.fullmatch(r"(\S+) in \(([^)]*)\)", term):
        return get(found[1]) in [each.strip() for each in found[2].split(",")]
    if "!=" in term:
        name, _, value = term.partition("!=")
        return get(name) != value
    name, sign, value = term.partition("==") if "==" in term else term.partition("=")
    return get(name) == value if sign else get(name) is not None


def _field(thing: Any, path: str) -> Any:
    for part in path.split("."):
        thing = thing.get(part) if isinstance(thing, dict) else None
    return thing


class Change(NamedTuple):
    version: int
    type: Type
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def seen_by(self, selection: Selection) -> dict[str, Any] | None:
        """The event for a watch: an object that leaves a selection is deleted for it."""
        had, has = selection.has(self.before), selection.has(self.after)
        if has:
            return {"type": "MODIFIED" if had else "ADDED", "object": self.after}
        if had:
            left = copy.deepcopy(self.after if self.after is not None else self.before)
            left["metadata"]["resourceVersion"] = str(self.version)
            return {"type": "DELETED", "object": left}
        return None


class Cluster:
    """The storage; a resource version counts all changes."""

    def __init__(self, version: int = 1000) -> None:
        self.types: list[Type] = [*CORE_TYPES, *ISTIO_TYPES]
        self.version = version
        self.compacted = 0
        self.objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self.history: list[Change] = []
        self.snapshots: dict[tuple[int, str, Selection], list[dict[str, Any]]] = {}
        self.listeners: list[Callable[[Change], None]] = []
        self._names = itertools.count()

    def find(self, group: str, plural: str) -> Type:
        for each in self.types:
            if (each.group, each.plural) == (group, plural):
                return each
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def of_kind(self, kind: str) -> Type:
        return next(each for each in self.types if each.kind == kind)

    # Writing --------------------------------------------------------------------------------------------------------

    def put(self, thing: dict[str, Any]) -> str:
        """Create or replace."""
        of, thing = self.of_kind(thing["kind"]), copy.deepcopy(thing)
        metadata = thing["metadata"]
        if of.namespaced:
            metadata.setdefault("namespace", "default")
        key = (metadata.get("namespace", "") if of.namespaced else "", metadata["name"])
        before = self.objects.setdefault(of.plural, {}).get(key)
        self.version += 1
        metadata["uid"] = before["metadata"]["uid"] if before else str(uuid.UUID(int=next(self._names)))
        metadata["generation"] = 1 if before is None else before["metadata"]["generation"]
        if before is not None and before.get("spec") != thing.get("spec"):
            metadata["generation"] += 1
        if before is not None and of in ISTIO_TYPES and before.get("status"):
            thing["status"] = copy.deepcopy(before["status"])  # a subresource of its own
        metadata.setdefault("creationTimestamp", "2026-11-01T00:00:00Z")
        metadata["resourceVersion"] = str(self.version)
        metadata["managedFields"] = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
        self.objects[of.plural][key] = thing
        self._record(Change(self.version, of, before, thing))
        return str(self.version)

    def patch_status(self, of: Type, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """A merge patch of the status; of the metadata the resource version counts, as what must not have changed."""
        before = self.get(of, namespace, name)
        wanted = patch.get("metadata", {}).get("resourceVersion", before["metadata"]["resourceVersion"])
        if wanted != before["metadata"]["resourceVersion"]:
            raise Refused(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        self.version += 1
        thing = copy.deepcopy(before)
        thing["status"] = {**(before.get("status") or {}), **patch.get("status", {})}
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.objects[of.plural][namespace if of.namespaced else "", name] = thing
        self._record(Change(self.version, of, before, thing))
        return thing

    def delete(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        of = self.of_kind(kind)
        key = (namespace if of.namespaced else "", name)
        before = self.objects.get(of.plural, {}).pop(key, None)
        if before is None:
            raise Refused(404, "NotFound", f'{of.plural} "{name}" not found')
        self.version += 1
        self._record(Change(self.version, of, before, None))
        return before

    def get(self, of: Type, namespace: str, name: str) -> dict[str, Any]:
        found = self.objects.get(of.plural, {}).get((namespace, name))
        if found is None:
            raise Refused(404, "NotFound", f'{of.plural} "{name}" not found', name=name, kind=of.plural)
        return found

    def _record(self, change: Change) -> None:
        self.history.append(change)
        for listener in list(self.listeners):
            listener(change)

    def compact(self) -> None:
        """Forget the past: older versions cannot be listed or watched from any more."""
        self.compacted = self.version
        self.history.clear()
        self.snapshots.clear()

    # Reading --------------------------------------------------------------------------------------------------------

    def _number(self, text: str) -> int:
        if not text.isdecimal():
            raise Refused(400, "BadRequest", f"invalid resource version: {text!r}")
        if int(text) > self.version:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            message = f"Too large resource version: {text}, current: {self.version}"
            raise Refused(504, "Timeout", message, causes=[cause], retryAfterSeconds=1)
        return int(text)

    def page(self, of: Type, selection: Selection, limit: int, token: str, version: str) -> dict[str, Any]:
        """A list, or a page of it."""
        if version:
            self._number(version)
        at, start = self.version, 0
        if token:
            at, start = json.loads(base64.urlsafe_b64decode(token))
            if (at, of.plural, selection) not in self.snapshots:
                message = "The provided continue parameter is too old to display a consistent list result."
                raise expired(message, continue_=self._token(self.version, start))
        everything = self.snapshots[at, of.plural, selection] if token else self._now(of, selection)
        if limit and not token and len(everything) > limit:
            self.snapshots[at, of.plural, selection] = everything
        items = everything[start : start + limit] if limit else everything[start:]
        metadata: dict[str, Any] = {"resourceVersion": str(at)}
        left = len(everything) - start - len(items)
        if left:
            metadata |= {"continue": self._token(at, start + len(items)), "remainingItemCount": left}
        return {"items": items, "metadata": metadata}

    def _token(self, version: int, start: int) -> str:
        return base64.urlsafe_b64encode(json.dumps([version, start]).encode()).decode()

    def _now(self, of: Type, selection: Selection) -> list[dict[str, Any]]:
        return [thing for _, thing in sorted(self.objects.get(of.plural, {}).items()) if selection.has(thing)]

    def initial(self, of: Type, selection: Selection, version: str, send: bool) -> Iterator[dict[str, Any]]:
        """What a watch begins with: all objects as additions, or what happened since a version."""
        if send or version in ("", "0"):
            yield from ({"type": "ADDED", "object": thing} for thing in self._now(of, selection))
            return
        since = self._number(version)
        if since < self.compacted:
            raise expired(f"too old resource version: {since} ({self.compacted})")
        for change in self.history:
            if change.type == of and change.version > since and (event := change.seen_by(selection)):
                yield event
