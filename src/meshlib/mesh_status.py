"""How a mesh is doing, in plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from meshlib.clock import Clock
from meshlib.dataplane.state import Source
from meshlib.model.problem import Problem
from meshlib.supervise import ProviderState

__all__ = ["STATUS_LIMIT", "MeshStatus", "provider_status", "sources_of"]

STATUS_LIMIT = 100
"""How many findings of a kind ``Mesh.status`` lists and the log tells at once; ``Mesh.problems`` has all."""


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """How a mesh is doing.

    Attributes:
        version: Of the snapshot in force, 0 before the first.
        providers: One entry each: ``name``, ``state``, ``version``, ``age`` (seconds since it published), ``silent``
            (seconds since its last sign of life), ``objects``, ``error``, ``failures``, ``held_empty``; see
            ``supervise.ProviderState``.
        problems: What is wrong with the configuration now, the worst first, at most ``STATUS_LIMIT``.
        not_honoured: What the objects in force ask for and do not get, at most ``STATUS_LIMIT``.
        totals: How many of both there are.
        clusters: Clusters in use, and how their endpoints are; see ``dataplane.status.cluster_status``.
        mirrors: Copies of requests: running, sent, failed, dropped.
        names: DNS names in use: ``name``, ``kind``, ``values``, ``age``, ``due_in``, ``error``, ``held_empty``; see
            ``dns.names``.
        replay_bytes: Bytes kept now of request bodies that can be taken only once.
    """

    version: int
    providers: tuple[dict[str, Any], ...]
    problems: tuple[Problem, ...]
    not_honoured: tuple[Problem, ...]
    totals: dict[str, int]
    clusters: tuple[dict[str, Any], ...]
    mirrors: dict[str, int]
    names: tuple[dict[str, Any], ...]
    replay_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "version": self.version,
            "providers": list(self.providers),
            "problems": [problem.to_dict() for problem in self.problems],
            "not_honoured": [problem.to_dict() for problem in self.not_honoured],
            "totals": dict(self.totals),
            "clusters": list(self.clusters),
            "mirrors": dict(self.mirrors),
            "names": list(self.names),
            "replay_bytes": self.replay_bytes,
        }


def provider_status(state: ProviderState, now: float) -> dict[str, Any]:
    """One entry of ``MeshStatus.providers``."""
    plain = asdict(state)
    for name, moment in (("age", "published_at"), ("silent", "heard_at")):
        since = plain.pop(moment)
        plain[name] = None if since is None else round(now - since, 3)
    return plain


def sources_of(states: Sequence[ProviderState], clock: Clock) -> Callable[[], Iterable[Source]]:
    """The same for metrics, whenever they are collected."""

    def told() -> Iterable[Source]:
        now = clock.now()
        for state in states:
            age = None if state.published_at is None else now - state.published_at
            yield Source(state.name, age, state.failures, state.held_empty)

    return told
