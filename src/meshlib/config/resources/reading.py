"""A plain value into a message of Istio's API, with every problem in our words and where it stands."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from meshlib.config.resources.base import Message, Origin, Resource
from meshlib.config.resources.bounds import MAX_PROBLEMS
from meshlib.model.problem import Level, Problem, schema_error, schema_warning

__all__ = ["read_message", "shown", "told", "unknown_field"]

MessageT = TypeVar("MessageT", bound=Message)


def read_message(
    message: type[MessageT],
    value: Any,
    resource: Resource[Any],
    field: str = "",
    *,
    strict: bool = False,
    foreign: bool = False,
    forgiving: bool = False,
) -> tuple[MessageT | None, list[Problem]]:
    """The message, None when it cannot be used, and every problem.

    Args:
        message: What to read.
        value: The plain value.
        resource: The object that problems are of.
        field: Where the value stands in it, ``""`` for the object itself.
        strict: Refuse unknown fields, which are warnings otherwise.
        foreign: The message is of Kubernetes, and has many fields that do not concern us.
        forgiving: A field that is known elsewhere in the message is a warning too.
    """
    try:
        read = message.model_validate(value)
    except ValidationError as error:
        return None, told(error, field, resource.id, resource.origin)
    if foreign:
        return read, []
    problems = _unknown_fields(read, field, resource, strict, None if forgiving else message)
    refused = any(problem.level is Level.ERROR for problem in problems)
    return None if refused else read, problems


def shown(value: Any) -> str:
    """A value, short enough for a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


# pydantic's errors, in our words ------------------------------------------------------------------------------------

_WORDS = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "string_type": "expected a text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "missing": "is required",
}
_BOUNDS = {
    "too_short": "at least {min_length} entries are needed",
    "too_long": "at most {max_length} entries are allowed",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected a text that matches {pattern}",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
}


def told(error: ValidationError, field: str, name: str, origin: Origin) -> list[Problem]:
    """What pydantic found, in our words; ``field`` is where the message stands, ``name`` the object."""
    found: dict[str, Problem] = {}
    for item in error.errors(include_url=False, include_context=True)[:MAX_PROBLEMS]:
        path = _path(field, item["loc"])
        found.setdefault(path, schema_error(name, _words(item), origin.source, origin.line(path), path))
    return [*found.values(), *_more(error.error_count(), list(found.values()))]


def _words(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind in _WORDS:
        words = _WORDS[kind]
    elif kind in _BOUNDS:
        words = _BOUNDS[kind].format(**item.get("ctx", {}))
    else:
        words = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        words = f"expected {words}" if kind in ("enum", "literal_error") else words
    return words if kind in ("missing", "value_error") else f"{words}, got {shown(item['input'])}"


def _more(count: int, first: list[Problem]) -> list[Problem]:
    """What stands for all findings beyond the bound."""
    if count <= MAX_PROBLEMS:
        return []
    return [replace(first[-1], message=f"{count - MAX_PROBLEMS} more problems like this one")]


def _path(field: str, loc: tuple[int | str, ...]) -> str:
    path = field
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("function-", "lax-or-strict", "nullable", "[key]")):
            path = _below(path, part)
    return path


# Unknown fields -----------------------------------------------------------------------------------------------------


def _unknown_fields(
    read: Message, field: str, resource: Resource[Any], strict: bool, kind: type[Message] | None
) -> list[Problem]:
    extras = list(_extras(read, field))
    if len(extras) > MAX_PROBLEMS:  # not one of the first hundred, but one that is misplaced, refuses the object
        homes = _homes_in(kind) if kind is not None else {}
        extras.sort(key=lambda extra: extra[1] not in homes)
    first = [
        unknown_field(name, path, type(owner), resource, strict, kind) for owner, name, path in extras[:MAX_PROBLEMS]
    ]
    return [*first, *_more(len(extras), first)]


def _extras(value: Any, path: str) -> Iterator[tuple[Message, str, str]]:
    """Every field that its message does not know, as (message, field, path)."""
    if isinstance(value, Message):
        for field in value.model_extra or {}:
            yield value, field, _below(path, field)
        fields = type(value).model_fields
        for name in value.model_fields_set:
            below = getattr(value, name)
            if name in fields and isinstance(below, Message | list | dict):
                yield from _extras(below, _below(path, fields[name].alias or name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _extras(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _extras(item, _below(path, name))


def _below(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


@cache
def _homes_in(kind: type[BaseModel]) -> dict[str, str]:
    return _homes(kind)


def _homes(message: type[BaseModel], seen: dict[type[BaseModel], None] | None = None) -> dict[str, str]:
    """Field name -> the message that has it, over everything reachable from ``message``."""
    seen = {} if seen is None else seen
    seen[message] = None
    homes: dict[str, str] = {}
    for name, info in message.model_fields.items():
        homes.setdefault(info.alias or name, message.__name__)
        for below in _messages(info.annotation):
            if below not in seen:
                for field, home in _homes(below, seen).items():
                    homes.setdefault(field, home)
    return homes


def _messages(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _messages(argument)


_LONGEST_NAME = 64
"""Of a field that may be a misspelt one."""


def unknown_field(
    field: str, path: str, owner: type[BaseModel], resource: Resource[Any], strict: bool, kind: type[BaseModel] | None
) -> Problem:
    """A field known elsewhere in the kind is misplaced, and refused: a mis-indented ``match`` would match all."""
    origin = resource.origin
    line = origin.line(path)
    home = _homes_in(kind).get(field) if kind is not None else None
    if home is not None:
        message = f"field {field!r} does not belong here, it is a field of {home}: check the indentation"
        return schema_error(resource.id, message, origin.source, line, path)
    names = [info.alias or name for name, info in owner.model_fields.items()]
    close = difflib.get_close_matches(field, names, 1) if len(field) <= _LONGEST_NAME else []
    message = f"unknown field {field!r}" + (f", did you mean {close[0]!r}?" if close else "")
    make = schema_error if strict else schema_warning
    return make(resource.id, message, origin.source, line, path)
