"""Mutation: a good object with a wrong type, a missing field, an extra one, two values swapped, something doubled."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.strategies.words import json_values

__all__ = ["damage"]


@st.composite
def damage(draw: st.DrawFn, given: st.SearchStrategy[dict[str, Any]], most: int = 3) -> dict[str, Any]:
    """The same mapping with one to ``most`` things wrong somewhere inside."""
    value = copy.deepcopy(draw(given))
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(value))
        if places:
            holder, key = draw(st.sampled_from(places))
            draw(st.sampled_from([_retype, _drop, _extra, _swap, _wrap, _double]))(draw, holder, key, places)
    return value


def _places(value: Any) -> Any:
    """Every (container, key or index) inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(items):
        yield value, key
        if isinstance(below, dict | list):
            yield from _places(below)


def _retype(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    holder[key] = draw(json_values())


def _drop(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    del holder[key]


def _extra(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    known = sorted({str(name) for place, name in places if isinstance(place, dict)})
    name = draw(st.sampled_from([*known, "unknown", "metadata", ""]))
    if isinstance(holder, dict):
        holder[name] = draw(json_values())
    else:
        holder.append({name: draw(json_values())})


def _swap(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    other, there = draw(st.sampled_from(places))
    holder[key] = copy.deepcopy(other[there])


def _wrap(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    holder[key] = draw(st.sampled_from([lambda part: [part], lambda part: {"value": part}]))(holder[key])


def _double(draw: st.DrawFn, holder: Any, key: Any, places: Any) -> None:
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
