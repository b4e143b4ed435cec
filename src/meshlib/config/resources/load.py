"""Files, texts and plain objects into resources, with every problem located.

One bad object never hurts the others: a document that is no YAML, a kind's error, an unknown field concern that object
alone. Kinds that meshlib does not model are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from meshlib.config.resources.base import ObjectMeta, Origin, Resource
from meshlib.config.resources.bounds import MAX_BYTES, MAX_PROBLEMS, beyond
from meshlib.config.resources.kinds import Kind, kind_of
from meshlib.config.resources.reading import read_message, shown, told, unknown_field
from meshlib.config.resources.sharing import share
from meshlib.config.resources.yaml_lines import Document, Lines, documents
from meshlib.config.resources.yaml_values import TextError
from meshlib.model.problem import Level, Problem, schema_error, schema_warning

__all__ = [
    "Loaded",
    "add_document",
    "decoded",
    "in_bounds",
    "load_bytes",
    "load_dict",
    "load_file",
    "load_text",
    "refused",
]


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
        strict: Refuse objects with unknown fields, and documents with a key that stands twice, as Kubernetes' strict
            field validation does; both are warnings otherwise.
    """
    if len(text) > MAX_BYTES:
        return refused(TextError(f"the text is longer than {MAX_BYTES} characters"), source)
    loaded = Loaded([], [])
    for document in documents(text.removeprefix("\ufeff")):
        add_document(document, source, strict, loaded)
    return in_bounds(loaded)


def in_bounds(loaded: Loaded) -> Loaded:
    """The same with a bounded number of findings that belong to no object, of a text of very many bad documents."""
    unnamed = [problem for problem in loaded.problems if not problem.resource]
    if len(unnamed) <= MAX_PROBLEMS:
        return loaded
    named = [problem for problem in loaded.problems if problem.resource]
    unnamed.sort(key=lambda problem: problem.level is not Level.ERROR)
    last = unnamed[MAX_PROBLEMS]
    more = replace(last, message=f"{len(unnamed) - MAX_PROBLEMS} more problems of this text, from here on")
    return Loaded(loaded.resources, [*unnamed[:MAX_PROBLEMS], more, *named])


def add_document(document: Document, source: str, strict: bool, into: Loaded) -> None:
    """The objects of one document, or why there are none."""
    if document.error is not None:
        into.problems.append(schema_error("", document.error, source, document.line))
    elif document.value is not None:
        before = len(into.resources)
        if not (strict and document.repeated):
            _add(document.value, source, document.lines, "", strict, into)
        objects = into.resources[before:]
        name = objects[0].id if len(objects) == 1 else ""
        make = schema_error if strict else schema_warning
        into.problems.extend(make(name, message, source, line) for line, message in document.repeated)


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
        into.problems.append(schema_error("", f"expected an object, got {shown(value)}", source, origin.line("")))
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
        metadata = share(ObjectMeta.model_validate(value.get("metadata") or {}))
    except ValidationError as error:
        return None, told(error, "metadata", f"{kind} {_name(value)}", origin)
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
    given = {} if given is None else given
    spec, problems = read_message(kind.spec, given, resource, kind.field, strict=strict, foreign=not kind.istio)
    if kind.istio:
        stray = [key for key in value if key not in _OUTER and key != kind.field]
        problems.extend(unknown_field(key, key, kind.spec, resource, strict, kind.spec) for key in stray)
    if any(problem.level is Level.ERROR for problem in problems):
        return None, problems
    return replace(resource, spec=None if spec is None else share(spec)), problems


def _name(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
