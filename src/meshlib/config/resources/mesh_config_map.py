"""MeshConfig out of the object that carries it: key ``mesh`` of a ConfigMap ``istio``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from meshlib.config.resources.base import Origin, Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.reading import read_message, shown
from meshlib.config.resources.yaml_lines import Lines, read
from meshlib.model.problem import Problem, schema_error

__all__ = ["PATH", "MeshSettings", "carries_mesh_config", "mesh_settings"]

PATH = "data.mesh"
_BLOCK = re.compile(r":\s*[|>][-+1-9]*\s*(#.*)?$")


class MeshSettings(NamedTuple):
    """What was read.

    Attributes:
        config: The settings, None when they cannot be used.
        problems: What is wrong with them, at paths below ``data.mesh``.
        origin: Where they stand, by paths of MeshConfig itself.
    """

    config: MeshConfig | None
    problems: list[Problem]
    origin: Origin


def carries_mesh_config(resource: Resource[Any]) -> bool:
    """Whether it is the object that holds the mesh's settings."""
    return resource.kind == "ConfigMap" and resource.metadata.name == "istio" and isinstance(resource.spec, dict)


def mesh_settings(resource: Resource[Any]) -> MeshSettings:
    """The settings in a ConfigMap; one without the key has Istio's defaults."""
    data = resource.spec.get("data")
    text = str(data.get("mesh", "")) if isinstance(data, dict) else ""
    origin = _inside(resource.origin, text)
    document = read(text, 1)
    if document.error is not None:
        return _refused(resource, origin, f"line {document.line} of the text: {document.error}")
    value = document.value or {}
    if not isinstance(value, dict):
        return _refused(resource, origin, f"expected a mapping, got {shown(value)}")
    config, problems = read_message(MeshConfig, value, replace(resource, origin=origin), forgiving=True)
    return MeshSettings(config, [replace(each, path=f"{PATH}.{each.path}") for each in problems], origin)


def _refused(resource: Resource[Any], origin: Origin, message: str) -> MeshSettings:
    line = resource.origin.line(PATH)
    return MeshSettings(None, [schema_error(resource.id, message, resource.origin.source, line, PATH)], origin)


def _inside(origin: Origin, text: str) -> Origin:
    """The origin of what a text in an object says: a block begins on the line after its ``|``."""
    line = origin.line(PATH)
    if origin.lines is None or line is None:
        return replace(origin, lines=None)
    shown_in = origin.lines.text.splitlines()
    number = line - origin.lines.first
    block = number < len(shown_in) and _BLOCK.search(shown_in[number]) is not None
    return replace(origin, lines=Lines(text, line + block))
