"""``meshlib analyze``: reads files and standard input, and hands every object to the analyzers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshlib.config.analyze import ANALYZERS, analyze
from meshlib.config.resources.base import Resource
from meshlib.config.resources.bounds import MAX_BYTES
from meshlib.config.resources.load import decoded, load_bytes
from meshlib.config.resources.yaml_lines import read
from meshlib.config.resources.yaml_values import TextError
from meshlib.errors import ConfigError
from meshlib.model.problem import LEVELS, Level, Problem

__all__ = ["STDIN", "Analysis", "findings", "reaches"]

STDIN = "<stdin>"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(slots=True)
class Analysis:
    """What was read and what was found.

    Attributes:
        found: Findings in the order of files and lines.
        texts: File -> its text; standard input is ``<stdin>``.
        objects: How many objects were read.
    """

    found: list[Problem] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    objects: int = 0


def findings(
    paths: Sequence[str],
    namespace: str,
    mesh_config: str | None,
    *,
    strict: bool = False,
    suppress: Sequence[str] = (),
    not_honoured: bool = True,
    everything: bool = False,
) -> Analysis:
    """What is wrong with the objects of all files and folders, taken together.

    Args:
        paths: Files, folders, and ``-`` for standard input.
        namespace: Where objects without a namespace are.
        mesh_config: File with the MeshConfig; None reads a ConfigMap ``istio``.
        strict: Unknown fields are errors.
        suppress: ``CODE=Kind name.namespace``, each silences a code for the objects that it names.
        not_honoured: Whether fields that meshlib does not act upon are found too.
        everything: Run the analyzers that are left out by default, too.

    Raises:
        ConfigError: A path does not exist, or holds no YAML file, or the mesh configuration is no mapping, or a
            suppression is not of its form.
        OSError: A file cannot be read.
    """
    analysis, resources, loading = Analysis(), list[Resource[Any]](), list[Problem]()
    for name, raw in _read(paths):
        if name in analysis.texts:
            continue
        loaded = load_bytes(raw, name, strict=strict)
        analysis.texts[name] = raw.decode("utf-8", "replace").removeprefix("\ufeff")
        resources.extend(loaded.resources)
        loading.extend(loaded.problems)
    analysis.objects = len(resources)
    analysis.found = analyze(
        resources,
        loading=loading,
        namespace=namespace,
        mesh=_mesh(mesh_config),
        suppress=suppress,
        not_honoured=not_honoured,
        only=ANALYZERS if everything else None,
    )
    return analysis


def _read(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each source with its name, and no more of it than loading takes."""
    for path in paths:
        if path == "-":
            yield STDIN, sys.stdin.buffer.read(MAX_BYTES + 1)
            continue
        for file in _files(Path(path)):
            with file.open("rb") as content:
                yield str(file), content.read(MAX_BYTES + 1)


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise ConfigError(f"no such file or folder: {path}")
    if not path.is_dir():
        yield path
        return
    found = [file for file in sorted(path.rglob("*")) if file.suffix in _SUFFIXES and file.is_file()]
    visible = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not visible:
        raise ConfigError(f"no YAML or JSON file in {path}")
    yield from visible


def _mesh(path: str | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        document = read(decoded(Path(path).read_bytes()), 1)
    except TextError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if document.error is not None:
        raise ConfigError(f"{path}:{document.line} is not YAML: {document.error}")
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path} is no mapping")
    return document.value


def reaches(found: Sequence[Problem], threshold: str) -> bool:
    """Whether any finding is as bad as the threshold, or worse."""
    bound = LEVELS.index(Level(threshold))
    return any(LEVELS.index(problem.level) <= bound for problem in found)
