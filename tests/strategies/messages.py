"""A strategy for every message, made from its pydantic model: what pydantic reads there, in Istio's spelling."""

from __future__ import annotations

import types
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from meshlib.config.resources.base import duration
from tests.strategies import words

__all__ = ["messages"]


@cache
def messages(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Plain mappings for a message; a few of its fields are set, so that objects stay small."""
    fields = {_spelled(name, info): st.deferred(_field(name, info)) for name, info in model.model_fields.items()}
    if not fields:
        return st.just({})
    required = {_spelled(name, info): None for name, info in model.model_fields.items() if info.is_required()}
    needed = {**required, **NEEDED.get(model.__name__, {})}
    pinned = {name: given if given is not None else fields[name] for name, given in needed.items()}
    free = sorted(fields.keys() - pinned.keys() - _ODD_FIELDS)
    most = 1 if model.__name__ in _ONE_OF else 4
    some = st.lists(st.sampled_from(free), max_size=most, unique=True) if free else st.just([])
    good = some.flatmap(lambda chosen: st.fixed_dictionaries({**{name: fields[name] for name in chosen}, **pinned}))
    bare = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
    return words.mostly(
        good, bare.flatmap(lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen}))
    )


def _some(field: str) -> st.SearchStrategy[Any]:
    return st.lists(words.texts(field), min_size=1, max_size=2, unique=True)


NEEDED: dict[str, dict[str, st.SearchStrategy[Any] | None]] = {
    "VirtualServiceSpec": {"hosts": _some("hosts"), "http": None},
    "HTTPRoute": {"route": None},
    "HTTPRouteDestination": {"destination": None},
    "RouteDestination": {"destination": None},
    "HTTPMirrorPolicy": {"destination": None},
    "Destination": {"host": None},
    "PortSelector": {"number": None},
    "DestinationRuleSpec": {"host": None},
    "Subset": {"name": None},
    "ServiceEntrySpec": {"hosts": _some("hosts"), "ports": None},
    "ServicePort": {"number": None, "name": None, "protocol": None},
    "WorkloadEntrySpec": {"address": None},
    "SidecarSpec": {"egress": None},
    "IstioEgressListener": {"hosts": _some("egressHosts")},
    "KubernetesServicePort": {"port": None, "name": None},
    "EndpointSliceSpec": {"endpoints": None, "ports": None},
    "SliceEndpoint": {"addresses": _some("addresses")},
}
"""Fields without which an object of that message is always refused; they are set most of the time."""

_ONE_OF = frozenset({"StringMatch", "ConsistentHashLB", "HTTPBody", "FaultAbort"})
"""Messages that allow one field at a time."""

_ODD_FIELDS = frozenset(
    {
        "redirect",
        "directResponse",
        "targetRef",
        "zoneAwareLbSetting",
        "delegate",
        "exponentialDelay",
        "http2Error",
        "mirrorPercent",
        "tls",
        "tcp",
    }
)
"""Fields that seldom leave an object valid; drawn now and then, without the needed ones."""


def _spelled(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _field(name: str, info: FieldInfo) -> Any:
    """A call that makes the strategy, so that messages may hold themselves."""
    annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return lambda: _of(annotation, _spelled(name, info))


def _of(annotation: Any, field: str) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if any(isinstance(each, BeforeValidator) and each.func is duration for each in arguments[1:]):
            return words.durations()
        return _of(arguments[0], field)
    if origin in (Union, types.UnionType):
        given = [_of(each, field) for each in arguments if each is not type(None)]
        return words.mostly(st.one_of(*given), st.none()) if type(None) in arguments else st.one_of(*given)
    if origin is list:
        return words.mostly(st.lists(_of(arguments[0], field), min_size=1, max_size=2), st.just([]))
    if origin is dict:
        return st.dictionaries(_key(arguments[0], field), _of(arguments[1], field), min_size=1, max_size=2)
    if origin is Literal:
        return st.sampled_from(arguments)
    return _plain(annotation, field)


def _key(annotation: Any, field: str) -> st.SearchStrategy[Any]:
    return words.integers("port").map(str) if annotation is int else words.texts(field)


def _plain(annotation: Any, field: str) -> st.SearchStrategy[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return messages(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from([each.value for each in annotation]) | st.integers(0, len(annotation) - 1)
    made = {
        str: lambda: words.texts(field),
        bool: st.booleans,
        int: lambda: words.integers(field),
        float: words.numbers,
        datetime: lambda: st.sampled_from(["2024-01-01T00:00:00Z", "2025-06-01T12:00:00+02:00", "yesterday"]),
        Any: words.json_values,
    }.get(annotation)
    if made is None:
        raise TypeError(f"field {field}: no strategy for {annotation!r}, teach tests/strategies/messages.py")
    return made()
