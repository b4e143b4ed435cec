"""KubernetesProvider: what a cluster's API server holds, watched; one reflector for each collection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from meshlib.clock import SYSTEM_CLOCK, Clock
from meshlib.config.resources.kinds import KINDS
from meshlib.config.resources.parts import Parts
from meshlib.errors import ConfigError
from meshlib.model.problem import Problem
from meshlib.providers.base import Facts, Publish
from meshlib.providers.kubernetes.collections import Collection, ResourceType, Scope, Selector
from meshlib.providers.kubernetes.discovery import Discovery
from meshlib.providers.kubernetes.failures import RequestFailed
from meshlib.providers.kubernetes.kubeconfig import find
from meshlib.providers.kubernetes.reflector import Reflector
from meshlib.providers.kubernetes.session import Session
from meshlib.providers.kubernetes.status_reports import Reportable, StatusReports, findings_of
from meshlib.providers.kubernetes.store import Store
from meshlib.providers.kubernetes.tuning import DEFAULT, Tuning
from meshlib.providers.kubernetes.watcher import Watcher
from meshlib.providers.troubles import Troubles

__all__ = ["KubernetesProvider"]

_CLUSTER_WIDE = frozenset({"Node", "Namespace"})
_TOLD_AFTER = 2
"""Failures in a row after which a collection's trouble is told."""
_SHORTEST_REST = 0.002
_LONGEST_REST = 0.5


class _Followed:
    """What belongs to one run: the server, who is told, and the tasks of all collections."""

    def __init__(self, session: Session, publish: Publish, tasks: asyncio.TaskGroup) -> None:
        self.session, self.publish, self.tasks = session, publish, tasks
        self.changed, self.discovered = asyncio.Event(), asyncio.Event()


class KubernetesProvider:
    """Serves what a Kubernetes API server holds: Services, EndpointSlices, Pods, Nodes, Namespaces, every kind of
    Istio, of the Gateway API and of our own that the server has, and MeshConfig from its ConfigMap.

    All is listed once and then watched. Nothing is published before every collection has been listed, and what was
    published stays in force while the server is away. CRDs that are missing are looked for again; what may not be
    listed (RBAC) is told in ``mesh.status()`` and left out. ``docs/kubernetes.md`` has the roles that are needed.

    Args:
        kubeconfig: A kubeconfig file. By default those of ``KUBECONFIG`` where it is set, else the pod's service
            account, else ``~/.kube/config``.
        context: Of the kubeconfig; its current one by default.
        service_account: Folder of a service account's token, for pods that have it elsewhere than usual.
        namespaces: Watch these only, so that Roles suffice; Nodes and Namespaces, which live in none, are then left
            out unless ``kinds`` names them. By default all namespaces.
        services: Watch these Services only, ``name`` or ``name.namespace``, each by its name, their EndpointSlices, and
            the Pods that they select. By default all.
        labels: Label selectors by kind, for example ``{"Pod": "tier=web"}``.
        kinds: Watch these kinds only. Without ``Pod`` endpoints have no labels of their own, so no subsets by them;
            without ``Node`` no region.
        report_status: Write into the status of Istio's, the Gateway API's and our objects that this client refuses them
            and why; needs leave to ``patch`` their ``status``. Off by default: nothing is ever written.
        mesh_config: Namespace and name of the ConfigMap with the mesh's settings, ``namespace/name``; ``""`` for none.
        strict: Refuse objects with unknown fields.
        tuning: Page size, patience, waits.
        name: Shown in ``mesh.status()``.
        clock: For tests.
        rng: For tests.

    Raises:
        ConfigError: There is no cluster to be found, or an argument is of no use.
    """

    def __init__(
        self,
        kubeconfig: str | Path | None = None,
        *,
        context: str | None = None,
        service_account: str | Path | None = None,
        namespaces: Sequence[str] | None = None,
        services: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        kinds: Iterable[str] | None = None,
        report_status: bool = False,
        mesh_config: str = "istio-system/istio",
        strict: bool = False,
        tuning: Tuning = DEFAULT,
        name: str = "kubernetes",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self._find = partial(find, kubeconfig, context, service_account)
        self._find()
        if isinstance(namespaces, str) or (namespaces is not None and not namespaces):
            raise ConfigError(f"namespaces is {namespaces!r}: give a list of names, or None for all")
        self.name = name
        self._scope = _scope(namespaces, services, labels or {}, kinds, mesh_config)
        self._strict, self._tuning, self._clock = strict, tuning, clock
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - not for secrets
        self._watched: dict[Collection, tuple[Watcher, asyncio.Task[None]]] = {}
        self._types: Sequence[ResourceType] = ()
        self._report_status, self._unsaid = report_status, ""
        self._reports: StatusReports | None = None

    @property
    def silent_for(self) -> float | None:
        """Seconds since the collection that has been quiet longest was heard of; None before the first answer."""
        heard = [watcher.heard_at for watcher, _ in self._watched.values()]
        return self._clock.now() - min(heard) if heard else None

    def judged(self, problems: Sequence[Problem]) -> None:
        """What is wrong with the objects of the mesh now; see ``Provider``."""
        if self._reports is not None:
            stores = [watcher.reflector.store for watcher, _ in self._watched.values()]
            stale = [Reportable(each.type, key) for each in stores for key in each.stale]
            self._reports.judge(findings_of(problems, self.name, (each.type for each in stores)), stale)

    async def run(self, publish: Publish) -> None:
        """See ``Provider.run``."""
        session = Session(self._find, self._tuning.idle)
        self._watched = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                followed = _Followed(session, publish, tasks)
                tasks.create_task(self._discover(followed))
                await followed.discovered.wait()
                tasks.create_task(self._tell(followed))
                if self._report_status:
                    said = partial(self._said, followed)
                    self._reports = StatusReports(session, self._tuning, self._rng, said)
                    tasks.create_task(self._reports.run())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self._watched, self._reports, self._unsaid = {}, None, ""
            await session.aclose()

    def _said(self, followed: _Followed, trouble: str) -> None:
        """How writing a status went."""
        if trouble != self._unsaid:
            self._unsaid = trouble
            followed.changed.set()

    # Collections ----------------------------------------------------------------------------------------------------

    async def _discover(self, followed: _Followed) -> None:
        """Follow what there is; the first look must succeed, later ones may fail."""
        discovery = Discovery(followed.session.get)
        while True:
            try:
                types = await discovery.look()
            except RequestFailed:
                if not followed.discovered.is_set():
                    raise
            else:
                self._types = types
                self._follow(followed)
                followed.discovered.set()
            await asyncio.sleep(self._tuning.rediscover * self._rng.uniform(0.5, 1.0))

    def _follow(self, followed: _Followed) -> None:
        """Watch what is wanted now, and nothing else."""
        wanted = dict.fromkeys(self._scope.collections(self._types, self._selectors()))
        for gone in self._watched.keys() - wanted.keys():
            _, task = self._watched.pop(gone)
            task.cancel()
            followed.changed.set()
        changed, alive = followed.changed.set, followed.publish.alive
        for collection in wanted:
            if collection not in self._watched:
                reflector = self._reflector(collection)
                watcher = Watcher(reflector, followed.session, changed, alive, self._clock, self._tuning)
                self._watched[collection] = (watcher, followed.tasks.create_task(watcher.run()))

    def _selectors(self) -> list[Selector]:
        """Of the Services that are known, where only some are wanted."""
        if self._scope.services is None:
            return []
        stores = [
            watcher.reflector.store for each, (watcher, _) in self._watched.items() if each.type.kind == "Service"
        ]
        known = (resource for store in stores for resource in store.facts().resources)
        return [(each.metadata.namespace or "", each.spec.selector) for each in known if each.spec.selector]

    def _reflector(self, collection: Collection) -> Reflector:
        rename = "istio" if collection.type.kind == "ConfigMap" else ""
        store = Store(collection.type, f"{self.name}:{collection.type.name}", self._strict, rename)
        return Reflector(collection, store, self._rng, self._tuning)

    # Publishing -----------------------------------------------------------------------------------------------------

    async def _tell(self, followed: _Followed) -> None:
        """Publish each change at once, and of many in a row what they come to: a third of this thread at most."""
        told: tuple[object, ...] = ()
        words = ""
        while True:
            await followed.changed.wait()
            followed.changed.clear()
            started = time.monotonic()
            if self._scope.services is not None:
                self._follow(followed)
            reflectors = [watcher.reflector for watcher, _ in self._watched.values()]
            now = tuple((each.store, each.store.changes) for each in reflectors)
            before, words = words, "; ".join(each for each in (_troubles(reflectors), self._unsaid) if each)
            if (now != told or (before and not words)) and (told or _may_tell(reflectors)):
                told = now
                followed.publish(self._facts(reflectors))
            if words:
                followed.publish.troubled(words)
            rest = min(max(_SHORTEST_REST, 2 * (time.monotonic() - started)), _LONGEST_REST)
            await asyncio.sleep(rest)

    def _facts(self, reflectors: Sequence[Reflector]) -> Facts:
        facts = [each.store.facts() for each in reflectors]
        chunks = tuple(chunk for each in facts if isinstance(each.resources, Parts) for chunk in each.resources.chunks)
        problems = tuple(problem for each in facts for problem in each.problems)
        version = next((each.version for each in reflectors if each.collection.type.kind == "EndpointSlice"), "")
        return Facts(Parts(chunks), problems, version)


def _scope(
    namespaces: Sequence[str] | None,
    services: Iterable[str] | None,
    labels: Mapping[str, str],
    kinds: Iterable[str] | None,
    mesh_config: str,
) -> Scope:
    known = {kind for _, kind in KINDS} | {"ConfigMap"}
    unknown = sorted((set(kinds or ()) | set(labels)) - known)
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no kind that a mesh is made of")
    config_map = tuple(mesh_config.split("/")) if mesh_config else None
    if config_map is not None and len(config_map) != 2:
        raise ConfigError(f"mesh_config is {mesh_config!r}, not namespace/name")
    names = None
    if services is not None:
        split = (each.partition(".") for each in sorted(set(services)))
        names = tuple((name, namespace.partition(".")[0]) for name, _, namespace in split)
        if isinstance(services, str) or not all(name for name, _ in names) or not names:
            raise ConfigError(f"services is {services!r}: give a list of names, or None for all")
    without = _CLUSTER_WIDE if namespaces is not None and kinds is None else frozenset[str]()
    chosen = None if kinds is None else frozenset(kinds) | {"ConfigMap"}
    pair = None if config_map is None else (config_map[0], config_map[1])
    return Scope(namespaces, dict(labels), chosen, without, pair, names)


def _may_tell(reflectors: Sequence[Reflector]) -> bool:
    """Whether all has been listed once; nothing waits for a kind that clients do not decide by and that fails."""
    return all(each.is_synced or (each.failures > 0 and not _matters(each.collection)) for each in reflectors)


def _matters(collection: Collection) -> bool:
    known = KINDS.get((collection.type.group, collection.type.kind))
    return known is None or known.support is None


def _troubles(reflectors: Iterable[Reflector]) -> str:
    """What cannot be listed or watched now; what was known of it stays in force."""
    troubles = Troubles()
    for each in reflectors:
        if each.is_holding:
            words = "an empty list came where objects were known; they stay until another list says the same"
        elif each.failures >= _TOLD_AFTER or not each.version or not each.failures:
            words = each.trouble
        else:
            words = ""
        troubles.tell(str(each.collection), words)
    return str(troubles)
