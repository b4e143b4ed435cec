"""What an object asks for and does not get: fields that are ignored, approximated or another's concern.

Nothing is listed here: the knowledge stands at the fields (``support``) and kinds (``kinds``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from meshlib.config.resources.base import Resource
from meshlib.config.resources.kinds import kind_of
from meshlib.config.resources.mesh_config_map import PATH, carries_mesh_config, mesh_settings
from meshlib.config.resources.support import Ignored, Mark, fields_of
from meshlib.model.problem import Level, Problem

__all__ = ["FIELD_NOT_HONOURED", "KIND_NOT_HONOURED", "UNKNOWN_FIELD", "fields_not_honoured", "not_honoured"]

FIELD_NOT_HONOURED = ("MESH010", "FieldNotHonoured")
KIND_NOT_HONOURED = ("MESH011", "KindNotHonoured")
_GROUPS = (".istio.io", "gateway.networking.k8s.io", ".gateway.networking.k8s.io", "meshlib.dev")
_UNKNOWN = Ignored("meshlib does not know this field")
UNKNOWN_FIELD = _UNKNOWN.note


def not_honoured(resource: Resource[Any]) -> list[Problem]:
    """What of an object is not honoured, with file, line and field; each of level Info. Pure.

    Kubernetes' own kinds have nothing to report: what Istio does not read in them is no configuration of the mesh.
    """
    if carries_mesh_config(resource):
        config = mesh_settings(resource).config
        return list(fields_not_honoured(config, resource, PATH)) if config is not None else []
    kind = kind_of(resource.api_version, resource.kind) if isinstance(resource.spec, BaseModel) else None
    if kind is None:
        return (
            [_kind(resource, f"{resource.api_version} is not modelled, so this has no effect")]
            if _ours(resource)
            else []
        )
    if kind.support is not None:
        return [_kind(resource, f"{resource.kind} is {kind.support.word}: {kind.support.note}")]
    return list(fields_not_honoured(resource.spec, resource, kind.field)) if kind.istio else []


def _ours(resource: Resource[Any]) -> bool:
    group = resource.api_version.rpartition("/")[0]
    return group.endswith(_GROUPS)


def _kind(resource: Resource[Any], message: str) -> Problem:
    origin = resource.origin
    return Problem(*KIND_NOT_HONOURED, Level.INFO, resource.id, message, origin.source, origin.line("kind"), "kind")


def fields_not_honoured(message: BaseModel, resource: Resource[Any], path: str) -> Iterator[Problem]:
    """The fields of a message at ``path`` of an object."""
    origin = resource.origin
    for field, mark in _marked(message, path):
        text = f"{field.rpartition('.')[2]} is {mark.word}: {mark.note}"
        yield Problem(*FIELD_NOT_HONOURED, Level.INFO, resource.id, text, origin.source, origin.line(field), field)


def _marked(value: Any, path: str) -> Iterator[tuple[str, Mark]]:
    """(path, mark) of every field that was given, says something else than its default, and is marked."""
    if isinstance(value, BaseModel):
        yield from _marked_fields(value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _marked(item, f"{path}[{number}]")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _marked(item, f"{path}.{name}")


def _marked_fields(message: BaseModel, path: str) -> Iterator[tuple[str, Mark]]:
    given = message.model_fields_set
    for field in _worth_a_look(type(message)):
        if field.name in given:
            value, where = getattr(message, field.name), f"{path}.{field.spelled}" if path else field.spelled
            if field.mark is None:
                yield from _marked(value, where)
            elif value != field.info.get_default(call_default_factory=True) and field.mark.covers(value):
                yield where, field.mark
    for name in message.model_extra or ():
        yield f"{path}.{name}" if path else name, _UNKNOWN


@cache
def _worth_a_look(message: type[BaseModel]) -> tuple[Any, ...]:
    """Fields with a mark, or with messages below."""
    return tuple(field for field in fields_of(message) if field.mark is not None or field.below)
