"""The support matrix, as Markdown: every kind and field, and what becomes of it.

``python -m meshlib.config.resources.matrix > docs/support.md`` writes the page; a test keeps it equal to the code.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from pydantic import BaseModel

from meshlib.config.resources.kinds import KINDS, Kind
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.support import Field, fields_of

__all__ = ["markdown", "rows"]

_HEAD = """# What is supported

Made from the code by `python -m meshlib.config.resources.matrix`; do not edit. A field is

- **honoured**: it does what Istio's documentation says, on the client's side;
- **approximated**: it is read, and the note says what differs;
- **ignored**: it is validated, and nothing acts on it;
- **server-side**: not for clients; somebody else acts on it.

`meshlib analyze` tells of each such field that an object sets (MESH010), and of kinds that are not modelled (MESH011);
`mesh.status().not_honoured` does the same while the mesh runs. Fields that stand in several places are listed at the
first. Unknown fields are ignored, with a warning, or refused with `strict=True`.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_HEAD, _counts()]
    for (group, name), kind in KINDS.items():
        versions = ", ".join(sorted(kind.versions))
        parts.append(f"\n## {name}\n\n`{group or 'core'}` {versions}\n")
        if kind.support is not None:
            parts.append(f"\nThe whole kind is **{kind.support.word}**: {kind.support.note}.\n")
        else:
            parts.append(_table(rows(kind.spec)))
    parts.append("\n## MeshConfig\n\nKey `mesh` of a ConfigMap `istio`, or `Mesh(mesh_config=...)`.\n")
    parts.append(_table(rows(MeshConfig)))
    return "".join(parts)


def _counts() -> str:
    """Fields by kind and by what becomes of them."""
    lines = ["", "| kind | honoured | approximated | ignored | server-side |", "| --- | ---: | ---: | ---: | ---: |"]
    for (_, name), kind in (*KINDS.items(), (("", "MeshConfig"), Kind(frozenset(), MeshConfig))):
        if kind.support is not None:
            lines.append(f"| {name} | the kind is {kind.support.word} | | | |")
            continue
        found = Counter(status for _, status, _ in rows(kind.spec))
        words = ("honoured", "approximated", "ignored", "server-side")
        lines.append(f"| {name} | " + " | ".join(str(found[word]) for word in words) + " |")
    return "\n".join(lines) + "\n"


def _table(found: Iterator[tuple[str, str, str]]) -> str:
    lines = ["", "| field | | note |", "| --- | --- | --- |"]
    lines += [f"| `{path}` | {status} | {note} |" for path, status, note in found]
    return "\n".join(lines) + "\n"


def rows(message: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """(path, status, note) of every field; messages that stand in several places are opened once."""
    yield from _rows(message, "", set())


def _rows(message: type[BaseModel], path: str, seen: set[type[BaseModel]]) -> Iterator[tuple[str, str, str]]:
    seen.add(message)
    for field in fields_of(message):
        where = f"{path}{field.spelled}{_brackets(field)}"
        yield _row(field, where)
        if field.mark is None or field.mark.values:
            for below in field.below:
                if below not in seen:
                    yield from _rows(below, f"{where}.", seen)


def _row(field: Field, where: str) -> tuple[str, str, str]:
    mark = field.mark
    if mark is None:
        return where, "honoured", ""
    values = ", ".join(f"`{getattr(value, 'value', value)}`" for value in mark.values)
    return where, mark.word, f"{values}: {mark.note}" if values else mark.note


def _brackets(field: Field) -> str:
    shape = str(field.info.annotation)
    return "[]" if "list[" in shape else ".*" if "dict[" in shape and field.below else ""


if __name__ == "__main__":
    sys.stdout.write(markdown())
