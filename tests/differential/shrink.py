"""The smallest pair that still disagrees: parts of the configuration and of the request are left out in turn.

All candidates of a round stand in one proxy as worlds of their own, so a round costs one start of Envoy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.differential.batch import Disagreement, Pair, compare
from tests.differential.configurations import World
from tests.differential.proxy import Rejected

__all__ = ["shrunk", "story"]

ROUNDS = 40
NEEDED = ("Service", "EndpointSlice")


def shrunk(found: Disagreement, port_of_original: int) -> Disagreement:
    """The same disagreement with as little around it as possible."""
    for _ in range(ROUNDS):
        candidates = [_renumbered(pair, number) for number, pair in enumerate(_smaller(found.pair), start=1000)]
        try:
            smaller = compare(candidates, port_of_original)
        except Rejected:
            break
        if not smaller:
            break
        found = min(smaller, key=lambda each: _size(each.pair))
    return found


def _size(pair: Pair) -> int:
    return len(json.dumps([pair.world.objects, pair.asked.lines, pair.asked.target]))


def _renumbered(pair: Pair, number: int) -> Pair:
    token = re.compile(rf"(?i)(?<=-w){pair.world.number}\b")
    world = pair.world
    objects = json.loads(token.sub(str(number), json.dumps(world.objects)))
    renamed = World(number, token.sub(str(number), world.namespace), objects, world.registry_only)
    headers = [(name, token.sub(str(number), value)) for name, value in pair.asked.headers]
    return Pair(renamed, replace(pair.asked, authority=token.sub(str(number), pair.asked.authority), headers=headers))


def _smaller(pair: Pair) -> Iterator[Pair]:
    """Each with one thing less."""
    objects = pair.world.objects
    for index, value in enumerate(objects):
        if value["kind"] not in NEEDED:
            yield _with_objects(pair, [*objects[:index], *objects[index + 1 :]])
            for spec in _without_one(value["spec"]):
                yield _with_objects(pair, [*objects[:index], {**value, "spec": spec}, *objects[index + 1 :]])
    for index in range(len(pair.asked.headers)):
        headers = [*pair.asked.headers[:index], *pair.asked.headers[index + 1 :]]
        yield Pair(pair.world, replace(pair.asked, headers=headers))
    path, mark, _ = pair.asked.target.partition("?")
    if mark:
        yield Pair(pair.world, replace(pair.asked, target=path))
    if pair.asked.method != "GET":
        yield Pair(pair.world, replace(pair.asked, method="GET"))


def _with_objects(pair: Pair, objects: list[dict[str, Any]]) -> Pair:
    return Pair(replace(pair.world, objects=objects), pair.asked)


def _without_one(value: Any) -> Iterator[Any]:
    """``value`` with one key or item left out, at any depth."""
    if isinstance(value, dict):
        for key in value:
            yield {name: each for name, each in value.items() if name != key}
            for inner in _without_one(value[key]):
                yield {**value, key: inner}
    elif isinstance(value, list):
        for index in range(len(value)):
            yield [*value[:index], *value[index + 1 :]]
            for inner in _without_one(value[index]):
                yield [*value[:index], inner, *value[index + 1 :]]


def story(found: Disagreement) -> str:
    """The pair and both decisions, for a human."""
    rules = [value for value in found.pair.world.objects if value["kind"] not in NEEDED]
    return "\n".join(
        [
            *found.words[:8],
            f"request: {found.pair.asked}",
            f"client: {found.pair.world.namespace}, registry only: {found.pair.world.registry_only}",
            *(json.dumps(value) for value in rules),
            f"meshlib: {found.ours}",
            f"Envoy: {found.envoy}",
        ]
    )
