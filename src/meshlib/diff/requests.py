"""Recorded requests asked of both configurations: which are treated differently, and how."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from meshlib.dataplane.decision import Decision
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.diff.effects import PASSTHROUGH, Effects, effects, failing, moves
from meshlib.diff.result import Alarm, Change, Diff, RequestGroup, Side
from meshlib.diff.traffic import Pairs, Recorded
from meshlib.model.snapshot import Snapshot

__all__ = ["diff_requests"]

_OWN = frozenset({"path", "authority", "location", "endpoints"})
"""Fields whose values belong to a single request and do not keep requests apart."""
_ORIGINS = {"timeout_s": "timeout", "delay": "fault", "cors": "corsPolicy", "path": "rewrite", "authority": "rewrite"}


def diff_requests(old: Snapshot, new: Snapshot, requests: Iterable[tuple[Recorded, int]]) -> Diff:
    """Which of ``requests`` would be treated differently."""
    before, after = _Callers(old), _Callers(new)
    groups: dict[Hashable, RequestGroup] = {}
    unusable: list[tuple[Recorded, str]] = []
    total = distinct = 0
    for recorded, count in requests:
        try:
            pair = before.decide(recorded), after.decide(recorded)
        except ValueError as error:
            unusable.append((recorded, str(error)))
            continue
        total, distinct = total + count, distinct + 1
        group = _compared(recorded, count, *pair)
        if group is not None:
            _join(groups, group)
    ordered = sorted(groups.values(), key=lambda g: (g.alarm is None, -g.count * g.moved_percent, -g.count))
    return Diff(tuple(ordered), total, distinct, tuple(unusable))


class _Callers:
    """One configuration as its different callers see it, without live state."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._prepared: dict[tuple[str | None, Pairs | None], Prepared] = {}

    def decide(self, recorded: Recorded) -> Decision:
        """The decision about a request of its caller."""
        key = (recorded.source_namespace, recorded.source_labels)
        prepared = self._prepared.get(key)
        if prepared is None:
            snapshot = self._snapshot
            if key != (None, None):
                labels = None if recorded.source_labels is None else dict(recorded.source_labels)
                snapshot = snapshot.seen_by(recorded.source_namespace, labels)
            prepared = self._prepared[key] = Prepared(snapshot, State(), 0.0, random.Random(0))  # noqa: S311
        return explain(prepared, request_of(recorded.method, recorded.url, recorded.headers))


def _join(groups: dict[Hashable, RequestGroup], group: RequestGroup) -> None:
    known = groups.setdefault(_key(group), group)
    if known is not group:
        groups[_key(group)] = RequestGroup(
            (*known.requests, *group.requests), known.old, known.new, known.moves, known.changes, known.alarm
        )


def _key(group: RequestGroup) -> Hashable:
    alike = tuple(change.field if change.field.partition(" ")[0] in _OWN else repr(change) for change in group.changes)
    return (group.old.rule, group.new.rule, repr(group.old.shares), repr(group.new.shares), group.alarm, alike)


def _compared(recorded: Recorded, count: int, old: Decision, new: Decision) -> RequestGroup | None:
    before, after = effects(old), effects(new)
    if before == after:
        return None
    return RequestGroup(
        ((recorded, count),),
        _side(old, before),
        _side(new, after),
        tuple(moves(before["shares"], after["shares"])),
        tuple(_changes(before, after, new) if old.action == new.action else ()),
        _alarm(before["shares"], after["shares"]),
    )


def _alarm(old: Mapping[str, float], new: Mapping[str, float]) -> Alarm | None:
    if failing(new) > failing(old) + 1e-6:
        return Alarm.UNROUTED
    return Alarm.LEAVES_MESH if PASSTHROUGH in new and PASSTHROUGH not in old else None


def _side(decision: Decision, found: Effects) -> Side:
    rule = next((verdict.rule for verdict in decision.rules if verdict.matches), "")
    if decision.virtual_service is not None:
        rule = f"VirtualService {decision.virtual_service}" + (f", {rule}" if rule else "")
    why = "; ".join(decision.host_reasons if not decision.rules else map(str, decision.rules))
    return Side(decision.action, rule, found["shares"], why if decision.action in ("none", "passthrough") else "")


# What differs -------------------------------------------------------------------------------------------------------


def _changes(old: Effects, new: Effects, decision: Decision) -> Iterator[Change]:
    """Values of two decisions of one kind; where a redirect takes the place of a route, that is all there is to say."""
    origins = decision.origins
    for name in ("timeout_s", "retries", "delay", "cors", "mirrors", "hash_key"):
        if old[name] != new[name]:
            yield Change(name, old[name], new[name], origins.get(_ORIGINS.get(name, name), ""))
    yield from _answers(old, new)
    yield from _heads(old["head"], new["head"], origins)
    if _both(old["response_headers"], new["response_headers"]):
        yield Change("response headers", old["response_headers"], new["response_headers"], origins.get("headers", ""))
    for cluster in _common(old["endpoints"], new["endpoints"]):
        yield from _endpoints(cluster, old["endpoints"][cluster], new["endpoints"][cluster])
    for cluster in _common(old["policy"], new["policy"]):
        yield from _policy(cluster, old["policy"][cluster], new["policy"][cluster], decision)
    if old["twins"] != new["twins"] and old["shares"] == new["shares"]:
        yield Change("destinations of one cluster", old["twins"], new["twins"])


def _answers(old: Effects, new: Effects) -> Iterator[Change]:
    """Local answers that are not only one instead of another: the status is a share already."""
    if old["redirect"] != new["redirect"] and old["redirect"] and new["redirect"]:
        yield Change("location", old["redirect"]["location"], new["redirect"]["location"])
    if old["direct_response"] != new["direct_response"] and old["direct_response"] and new["direct_response"]:
        yield Change("body", old["direct_response"]["body"], new["direct_response"]["body"])


def _heads(old: Mapping[str, Any], new: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[Change]:
    """What is sent: cluster by cluster, or as a whole where no cluster is left."""
    pairs = [(old[cluster], new[cluster]) for cluster in _common(old, new)]
    if not pairs and old and new:
        pairs = [(next(iter(old.values())), next(iter(new.values())))]
    seen: set[str] = set()
    for before, after in pairs:
        for change in _head(before, after, origins):
            if repr(change) not in seen:
                seen.add(repr(change))
                yield change


def _head(old: Mapping[str, Any], new: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[Change]:
    for name in ("authority", "path"):
        if old[name] != new[name]:
            yield Change(name, old[name], new[name], origins.get("rewrite", ""))
    for name in dict.fromkeys([*old["changed"], *new["changed"]]):
        before, after = old["changed"].get(name, _KEPT), new["changed"].get(name, _KEPT)
        if before != after:
            yield Change(f"header {name}", before, after, origins.get("headers", ""))


_KEPT = "as the caller sent it"


def _endpoints(cluster: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if old["endpoints"] != new["endpoints"]:
        yield Change(f"endpoints of {cluster}", old["endpoints"], new["endpoints"])
    elif old["split"] != new["split"]:
        yield Change(f"endpoints of {cluster}", old["split"], new["split"])


def _policy(cluster: str, old: Mapping[str, Any], new: Mapping[str, Any], decision: Decision) -> Iterator[Change]:
    destination = next((each for each in decision.destinations if each.cluster == cluster), None)
    origins = {value.field: value.origin for value in destination.policy} if destination is not None else {}
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield Change(f"{name} of {cluster}", old.get(name), new.get(name), origins.get(name, ""))


def _common(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in old if name in new]


def _both(old: Any, new: Any) -> bool:
    """Whether two values by cluster differ in more than the clusters."""
    if isinstance(old, dict) and isinstance(new, dict):
        common = _common(old, new)
        if common:
            return any(old[name] != new[name] for name in common)
        return {repr(value) for value in old.values()} != {repr(value) for value in new.values()}
    return bool(old != new)
