"""MeshConfig that is given in code, rather than in a ConfigMap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib.config.resources.base import ObjectMeta, Origin, Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.reading import read_message
from meshlib.config.validation.mesh_config import mesh_config
from meshlib.config.validation.report import Report
from meshlib.errors import ConfigError
from meshlib.model.problem import Level, Problem

__all__ = ["mesh_config_given"]


def mesh_config_given(given: MeshConfig | Mapping[str, Any], *, strict: bool = False) -> MeshConfig:
    """The settings, read and checked as those of a ConfigMap are.

    Args:
        given: A message, or a mapping with Istio's field names.
        strict: Refuse unknown fields.

    Raises:
        ConfigError: They cannot be used; it has every problem.
    """
    carrier: Resource[Any] = Resource("", "MeshConfig", ObjectMeta(), None, origin=Origin("mesh_config"))
    read, problems = _read(given, carrier, strict)
    if read is not None:
        report = Report(carrier)
        mesh_config(report, read)
        problems = [*problems, *report.problems]
    errors = [problem for problem in problems if problem.level is Level.ERROR]
    if errors or read is None:
        raise ConfigError("mesh_config cannot be used:", errors)
    return read


def _read(
    given: MeshConfig | Mapping[str, Any], carrier: Resource[Any], strict: bool
) -> tuple[MeshConfig | None, list[Problem]]:
    if isinstance(given, MeshConfig):
        return given, []
    return read_message(MeshConfig, dict(given), carrier, strict=strict, forgiving=True)
