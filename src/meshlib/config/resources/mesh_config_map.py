"""MeshConfig out of the object that carries it: key ``mesh`` of a ConfigMap ``istio``."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import ValidationError

from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.yaml_lines import read
from meshlib.model.problem import Problem, schema_error, schema_warning

__all__ = ["PATH", "MeshSettings", "carries_mesh_config", "mesh_settings"]

PATH = "data.mesh"


class MeshSettings(NamedTuple):
    """What was read: the settings, None when they cannot be used, and what is wrong with them."""

    config: MeshConfig | None
    problems: list[Problem]


def carries_mesh_config(resource: Resource[Any]) -> bool:
    """Whether it is the object that holds the mesh's settings."""
    return resource.kind == "ConfigMap" and resource.metadata.name == "istio" and isinstance(resource.spec, dict)


def mesh_settings(resource: Resource[Any]) -> MeshSettings:
    """The settings in a ConfigMap; one without the key has Istio's defaults."""
    data = resource.spec.get("data")
    text = data.get("mesh", "") if isinstance(data, dict) else ""
    document = read(str(text), 1)
    if document.error is not None:
        return MeshSettings(None, [_error(resource, PATH, f"line {document.line} of the text: {document.error}")])
    value = document.value or {}
    if not isinstance(value, dict):
        return MeshSettings(None, [_error(resource, PATH, f"expected a mapping, got {value!r}"[:200])])
    try:
        config = MeshConfig.model_validate(value)
    except ValidationError as error:
        return MeshSettings(None, [_error(resource, *_said(each)) for each in error.errors(include_url=False)])
    return MeshSettings(config, [_unknown(resource, name) for name in config.model_extra or ()])


def _said(error: Any) -> tuple[str, str]:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    return f"{PATH}{parts}", str(error["msg"]).removeprefix("Value error, ")


def _error(resource: Resource[Any], path: str, message: str) -> Problem:
    return schema_error(resource.id, message, resource.origin.source, resource.origin.line(path), path)


def _unknown(resource: Resource[Any], name: str) -> Problem:
    path = f"{PATH}.{name}"
    message, origin = f"unknown field {name!r}", resource.origin
    return schema_warning(resource.id, message, origin.source, origin.line(path), path)
