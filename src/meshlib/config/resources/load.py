"""Files, texts and plain objects into resources, with every problem located.

One bad object never hurts the others: a document that is no YAML, a kind's error, an unknown field concern that object
alone. Kinds that meshlib does not model are kept as they are.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from meshlib.config.resources.base import Message, ObjectMeta, Origin, Resource
from meshlib.config.resources.bounds import MAX_BYTES, MAX_PROBLEMS, beyond
from meshlib.config.resources.kinds import Kind, kind_of
from meshlib.config.resources.yaml_lines import Document, Lines, documents
from meshlib.config.resources.yaml_values import TextError
from meshlib.model.problem import Problem, schema_error, schema_warning

__all__ = ["Loaded", "add_document", "decoded", "load_bytes", "load_dict", "load_file", "load_text", "refused"]


class Loaded(NamedTuple):
    """What a source held."""

    resources: list[Resource[Any]]
    problems: list[Problem]


def load_file(path: Path | str, *, strict: bool = False) -> Loaded:
    """The objects of one YAML or JSON file.

    Raises:
        OSError: The file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    return load_bytes(raw, str(path), strict=strict)


def load_bytes(raw: bytes, source: str, *, strict: bool = False) -> Loaded:
    """The objects of a file's content."""
    try:
        text = decoded(raw)
    except TextError as error:
        return refused(error, source)
    return load_text(text, source, strict=strict)


def decoded(raw: bytes) -> str:
    """The text of a file.

    Raises:
        TextError: It is too large, or not UTF-8.
    """
    if len(raw) > MAX_BYTES:
        raise TextError(f"the file is larger than {MAX_BYTES} bytes")
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start)
        raise TextError(f"the file is not UTF-8: {error.reason} ({raw[error.start]:#04x})", line) from None


def refused(error: TextError, source: str) -> Loaded:
    """Nothing of the source could be read."""
    line = None if error.line is None else error.line + 1
    return Loaded([], [schema_error("", str(error), source, line)])


def load_text(text: str, source: str = "<text>", *, strict: bool = False) -> Loaded:
    """The objects of a YAML text of any number of documents, or of a JSON text.

    Args:
        text: The text.
        source: Its name in problems.
        strict: Refuse objects with unknown fields, as Kubernetes' strict field validation does.
    """
    if len(text) > MAX_BYTES:
        return refused(TextError(f"the text is longer than {MAX_BYTES} characters"), source)
    loaded = Loaded([], [])
    for document in documents(text.removeprefix("\ufeff")):
        add_document(document, source, strict, loaded)
    return loaded


def add_document(document: Document, source: str, strict: bool, into: Loaded) -> None:
    """The objects of one document, or why there are none."""
    if document.error is not None:
        into.problems.append(schema_error("", document.error, source, document.line))
    elif document.value is not None:
        _add(document.value, source, document.lines, "", strict, into)


def load_dict(value: Mapping[str, Any], source: str = "<object>", *, strict: bool = False) -> Loaded:
    """The object, or the objects of the list, given as a plain mapping."""
    problem = beyond(value)
    if problem is not None:
        return refused(TextError(problem), source)
    loaded = Loaded([], [])
    _add(value, source, None, "", strict, loaded)
    return loaded


def _add(value: Any, source: str, lines: Lines | None, root: str, strict: bool, into: Loaded) -> None:
    origin = Origin(source, lines.below(root) if lines is not None and root else lines)
    if not isinstance(value, Mapping):
        into.problems.append(schema_error("", f"expected an object, got {_shown(value)}", source, origin.line("")))
        return
    if str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for number, item in enumerate(value["items"]):
            _add(item, source, lines, f"{root}.items[{number}]".lstrip("."), strict, into)
        return
    resource, problems = _read(dict(value), origin, strict)
    into.problems.extend(problems)
    if resource is not None:
        into.resources.append(resource)


def _read(value: dict[str, Any], origin: Origin, strict: bool) -> tuple[Resource[Any] | None, list[Problem]]:
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        missing = "kind" if isinstance(api_version, str) else "apiVersion"
        return None, [schema_error("", f"{missing} is missing", origin.source, origin.line(""))]
    try:
        metadata = ObjectMeta.model_validate(value.get("metadata") or {})
    except ValidationError as error:
        return None, _errors(error, "metadata", f"{kind} {_name(value)}", origin)
    if not metadata.name:
        metadata = metadata.model_copy(update={"name": metadata.generate_name or ""})
    status = value.get("status") if isinstance(value.get("status"), dict) else None
    known = kind_of(api_version, kind)
    if known is None:
        spec: Any = {name: part for name, part in value.items() if name not in _OUTER}
        return Resource(api_version, kind, metadata, spec, status, origin), []
    resource: Resource[Any] = Resource(api_version, kind, metadata, None, status, origin)
    return _with_spec(resource, known, value, strict)


_OUTER = frozenset({"apiVersion", "kind", "metadata", "status"})


def _with_spec(
    resource: Resource[Any], kind: Kind, value: dict[str, Any], strict: bool
) -> tuple[Resource[Any] | None, list[Problem]]:
    given = value.get(kind.field) if kind.field else {k: v for k, v in value.items() if k not in _OUTER}
    origin, name = resource.origin, resource.id
    try:
        spec = kind.spec.model_validate({} if given is None else given)
    except ValidationError as error:
        return None, _errors(error, kind.field, name, origin)
    problems = _unknown_fields(spec, kind, resource, strict) if kind.istio else []
    if kind.istio:
        stray = [key for key in value if key not in _OUTER and key != kind.field]
        problems.extend(_unknown(key, key, kind.spec, resource, strict, kind.spec) for key in stray)
    if any(problem.level.value == "Error" for problem in problems):
        return None, problems
    return Resource(resource.api_version, resource.kind, resource.metadata, spec, resource.status, origin), problems


def _name(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _shown(value: Any) -> str:
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


def _errors(error: ValidationError, field: str, name: str, origin: Origin) -> list[Problem]:
    found: dict[str, Problem] = {}
    for item in error.errors(include_url=False, include_context=True)[:MAX_PROBLEMS]:
        path = _path(field, item["loc"])
        words = _WORDS.get(item["type"])
        if words is None:
            words = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
            words = f"expected {words}" if item["type"] == "enum" else words
        if item["type"] not in ("missing", "value_error"):
            words += f", got {_shown(item['input'])}"
        found.setdefault(path, schema_error(name, words, origin.source, origin.line(path), path))
    return [*found.values(), *_more(error.error_count(), list(found.values()))]


def _more(count: int, told: list[Problem]) -> list[Problem]:
    """What stands for all findings beyond the bound."""
    if count <= MAX_PROBLEMS:
        return []
    return [replace(told[-1], message=f"{count - MAX_PROBLEMS} more problems like this one")]


def _path(field: str, loc: tuple[int | str, ...]) -> str:
    path = field
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("function-", "lax-or-strict", "nullable", "[key]")):
            path = f"{path}.{part}" if path else part
    return path


# Unknown fields -----------------------------------------------------------------------------------------------------


def _unknown_fields(spec: Message, kind: Kind, resource: Resource[Any], strict: bool) -> list[Problem]:
    extras = list(_extras(spec, kind.field))
    if len(extras) > MAX_PROBLEMS:  # not one of the first hundred, but one that is misplaced, refuses the object
        homes = _homes_in(kind.spec)
        extras.sort(key=lambda extra: extra[1] not in homes)
    told = [
        _unknown(field, path, type(owner), resource, strict, kind.spec) for owner, field, path in extras[:MAX_PROBLEMS]
    ]
    return [*told, *_more(len(extras), told)]


def _extras(value: Any, path: str) -> Iterator[tuple[Message, str, str]]:
    """Every field that its message does not know, as (message, field, path)."""
    if isinstance(value, Message):
        for field in value.model_extra or {}:
            yield value, field, f"{path}.{field}"
        fields = type(value).model_fields
        for name in value.model_fields_set:
            below = getattr(value, name)
            if name in fields and isinstance(below, Message | list | dict):
                yield from _extras(below, f"{path}.{fields[name].alias or name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _extras(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _extras(item, f"{path}.{name}")


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


def _unknown(
    field: str, path: str, owner: type[BaseModel], resource: Resource[Any], strict: bool, kind: type[BaseModel]
) -> Problem:
    """A field known elsewhere in the kind is misplaced, and refused: a mis-indented ``match`` would match all."""
    origin = resource.origin
    line = origin.line(path)
    home = _homes_in(kind).get(field)
    if home is not None:
        message = f"field {field!r} does not belong here, it is a field of {home}: check the indentation"
        return schema_error(resource.id, message, origin.source, line, path)
    names = [info.alias or name for name, info in owner.model_fields.items()]
    close = difflib.get_close_matches(field, names, 1) if len(field) <= _LONGEST_NAME else []
    message = f"unknown field {field!r}" + (f", did you mean {close[0]!r}?" if close else "")
    make = schema_error if strict else schema_warning
    return make(resource.id, message, origin.source, line, path)
