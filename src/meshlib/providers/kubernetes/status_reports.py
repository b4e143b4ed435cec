"""Writes into the status of objects that this client refuses them; only where that was asked for.

One object at a time, slowly, and after a wait drawn at random: of many clients that find the same the first writes it,
and the others see it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from meshlib.clock import wall
from meshlib.model.problem import Level, Problem
from meshlib.providers.kubernetes.collections import CORE, ResourceType
from meshlib.providers.kubernetes.conditions import revised
from meshlib.providers.kubernetes.failures import RequestFailed
from meshlib.providers.kubernetes.session import Session
from meshlib.providers.kubernetes.store import Key
from meshlib.providers.kubernetes.tuning import Tuning

__all__ = ["Reportable", "StatusReports", "findings_of", "reports_on"]

_CONFLICT = 409


class Reportable(NamedTuple):
    """One object.

    Attributes:
        type: What it is.
        key: Namespace and name.
    """

    type: ResourceType
    key: Key

    @property
    def path(self) -> str:
        """Where it is served."""
        namespace, name = self.key
        space = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{self.type.group}/{self.type.version}{space}/{self.type.plural}/{name}"


def reports_on(type: ResourceType) -> bool:
    """Whether a type's objects are configuration, rather than Kubernetes' own."""
    return type not in CORE and type.group not in ("", "discovery.k8s.io")


def findings_of(problems: Iterable[Problem], source: str, types: Iterable[ResourceType]) -> dict[Reportable, str]:
    """What is wrong with each object of a source that is refused.

    Args:
        problems: All of the mesh.
        source: Name of the provider; problems of its objects stand in ``source:type``.
        types: Those that are watched.
    """
    known = {(f"{source}:{each.name}", each.kind): each for each in types if reports_on(each)}
    found: dict[Reportable, list[str]] = {}
    for problem in problems:
        kind, _, name = problem.resource.partition(" ")
        type = known.get((problem.file, kind))
        if problem.level is Level.ERROR and type is not None and name:
            namespace, _, own = name.rpartition("/")
            words = f"{problem.path}: {problem.message}" if problem.path else problem.message
            found.setdefault(Reportable(type, (namespace, own)), []).append(words)
    return {each: "; ".join(sorted(words)) for each, words in found.items()}


class StatusReports:
    """What is to be said, and the task that says it.

    Args:
        session: The server.
        tuning: Its ``report`` is the wait before each write.
        rng: Draws waits.
        told: Called when it was refused, with the words, and with ``""`` when it works again.
    """

    def __init__(self, session: Session, tuning: Tuning, rng: Random, told: Callable[[str], None]) -> None:
        self._session, self._tuning, self._rng, self._told = session, tuning, rng, told
        self._wanted: dict[Reportable, str] = {}
        self._due: dict[Reportable, None] = {}
        self._news = asyncio.Event()

    def judge(self, findings: Mapping[Reportable, str], stale: Iterable[Reportable]) -> None:
        """What is refused now, and which objects changed since something was said of them; all news is looked at."""
        before = self._wanted
        self._wanted = dict(findings)
        changed = [each for each, words in findings.items() if before.get(each) != words]
        for each in (*changed, *(each for each in before if each not in findings), *stale):
            self._due[each] = None
        if self._due:
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._tuning.report * self._rng.uniform(0.5, 1.0))
            if not self._due:
                self._news.clear()
                continue
            each = next(iter(self._due))
            del self._due[each]
            try:
                await self._say(each)
            except RequestFailed as error:
                await self._failed(each, error)
            else:
                self._told("")

    async def _failed(self, each: Reportable, error: RequestFailed) -> None:
        if error.failure.status == _CONFLICT:
            self._due[each] = None  # somebody else wrote; look again
        elif error.failure.status not in (404, 422):
            self._due[each] = None
            self._told(f"status of {each.type.name}: {error}")
            await asyncio.sleep(max(error.failure.retry_after, self._tuning.refused * self._rng.uniform(0.5, 1.0)))

    async def _say(self, each: Reportable) -> None:
        """Read the object as it is; write only what it does not say yet, and only if nobody else wrote meanwhile."""
        value: Any = await self._session.get(each.path)
        now = datetime.fromtimestamp(wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = revised(value, self._wanted.get(each, ""), now) if isinstance(value, Mapping) else None
        if status is not None:
            version = value["metadata"]["resourceVersion"]
            await self._session.merge(
                f"{each.path}/status", {"metadata": {"resourceVersion": version}, "status": status}
            )
