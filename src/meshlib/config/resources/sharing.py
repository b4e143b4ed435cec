"""Equal small parts of messages are one object, so that ten thousand objects cost what tells them apart.

A pydantic model is an instance, a dict of its fields, a set of those that were given and a dict of unknown ones.
Messages are frozen, so the sets can be shared by all messages with the same fields, the empty dicts by all, and whole
messages without inner parts (a destination, a condition, ``ready: true``) by all that are equal, and labels by all with
the same labels. That saves half of the
memory of a VirtualService, and the garbage collector half of its walk.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar, cast

from pydantic import BaseModel

__all__ = ["share"]

M = TypeVar("M", bound=BaseModel)

_MOST = 8192
"""Sets, and messages, remembered before the memory starts over."""

_NOTHING: dict[str, Any] = {}
_sets: dict[frozenset[str], set[str]] = {}
_whole: dict[tuple[Any, ...], BaseModel] = {}
_texts: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
_ATOMS = frozenset({str, int, float, bool, type(None)})


def share(message: M) -> M:
    """A message that was just made, its parts shared with other messages; equality stays as it is."""
    fields = frozenset(message.__pydantic_fields_set__)
    object.__setattr__(message, "__pydantic_fields_set__", _known(_sets, fields, message.__pydantic_fields_set__))
    plain = not message.__pydantic_extra__
    if plain and message.__pydantic_extra__ is not None:
        object.__setattr__(message, "__pydantic_extra__", _NOTHING)
    values: dict[str, Any] = vars(message)
    for name, value in values.items():
        if type(value) not in _ATOMS and not isinstance(value, Enum):
            plain = False
            values[name] = _shared(value)
    if not plain:
        return message
    key = (type(message), fields, *values.values(), *map(type, values.values()))
    return cast(M, _known(_whole, key, message))


def _shared(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return share(value)
    if isinstance(value, list):
        value[:] = [share(each) if isinstance(each, BaseModel) else each for each in value]
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, BaseModel):
                value[key] = share(each)
        if all(type(each) is str for each in value.values()):
            return _known(_texts, tuple(value.items()), value)
    return value


def _known(table: dict[Any, Any], key: Any, value: Any) -> Any:
    if len(table) >= _MOST:
        table.clear()
    return table.setdefault(key, value)
