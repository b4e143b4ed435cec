"""``meshlib analyze``: reads files, and shows each finding with the line that it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from meshlib.config.analyze import analyze
from meshlib.config.resources.base import Resource
from meshlib.config.resources.load import load_file
from meshlib.errors import ConfigError
from meshlib.model.problem import Level, Problem

__all__ = ["findings", "reaches", "show"]

_OUT = Console(highlight=False, soft_wrap=True)
_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}
_ORDER = (Level.ERROR, Level.WARNING, Level.INFO)
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def findings(paths: Sequence[str], namespace: str, mesh_config: str | None) -> list[Problem]:
    """What is wrong with the objects of all files and folders, taken together.

    Raises:
        ConfigError: A path does not exist, or holds no YAML file, or the mesh configuration is no mapping.
        OSError: A file cannot be read.
    """
    resources: list[Resource[Any]] = []
    loading: list[Problem] = []
    for path in paths:
        for file in _files(Path(path)):
            loaded = load_file(file)
            resources.extend(loaded.resources)
            loading.extend(loaded.problems)
    return analyze(resources, loading=loading, namespace=namespace, mesh=_mesh(mesh_config))


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
        value = yaml.safe_load(Path(path).read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is no mapping")
    return value


def reaches(found: Sequence[Problem], threshold: str) -> bool:
    """Whether any finding is as bad as the threshold, or worse."""
    bound = _ORDER.index(Level(threshold))
    return any(_ORDER.index(problem.level) <= bound for problem in found)


def show(found: Sequence[Problem]) -> None:
    """Findings for people: level, code, place, text, and the line in the file."""
    texts: dict[str, list[str]] = {}
    for problem in found:
        colour = _COLOURS[problem.level]
        _OUT.print(
            f"[{colour}]{problem.level.value} {escape(f'[{problem.code}]')}[/] [bold]{escape(_place(problem))}[/]"
        )
        _OUT.print(f"  {escape(problem.message)}")
        line = _line(problem, texts)
        if line:
            _OUT.print(f"  [dim]{problem.line:>5} |[/] {escape(line)}")
    _OUT.print(_summary(found))


def _place(problem: Problem) -> str:
    where = f"{problem.file}:{problem.line}" if problem.line is not None else problem.file
    return " ".join(part for part in (where, problem.resource, problem.path) if part)


def _line(problem: Problem, texts: dict[str, list[str]]) -> str:
    if problem.line is None:
        return ""
    if problem.file not in texts:
        path = Path(problem.file)
        texts[problem.file] = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    lines = texts[problem.file]
    return lines[problem.line - 1].rstrip() if 0 < problem.line <= len(lines) else ""


def _summary(found: Sequence[Problem]) -> str:
    if not found:
        return "[green]No problem found.[/]"
    counts = {level: sum(problem.level is level for problem in found) for level in _ORDER}
    return ", ".join(f"{count} {level.value}" for level, count in counts.items() if count)
