"""What is wrong with what control planes sent, as findings like those of any configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from meshlib.model.problem import Level, Problem
from meshlib.xds.ads.cache import Cache, Status
from meshlib.xds.ads.kinds import Kind

__all__ = ["refused", "unhonoured", "unreachable"]

_NUMBERED = re.compile(r"\[[^\]]*\]")


def unreachable(errors: Mapping[str, str]) -> Iterable[Problem]:
    """Servers that there is no stream with."""
    for server, why in errors.items():
        yield Problem("MESH040", "ControlPlaneUnreachable", Level.WARNING, server, why)


def refused(cache: Cache) -> Iterable[Problem]:
    """Resources that cannot be had: bad ones are errors, absent ones warnings."""
    for kind, name in sorted(cache.failing, key=lambda key: (key[0].value, key[1])):
        entry = cache.get(kind, name)
        if entry is not None:
            level = Level.ERROR if entry.status is Status.NACKED else Level.WARNING
            kept = "; the last good one stays in force" if entry.value is not None else ""
            yield Problem("MESH041", "XdsResourceRefused", level, f"{_short(kind)} {name}", f"{entry.error}{kept}")


def unhonoured(cache: Cache) -> Iterable[Problem]:
    """Fields that are set and have no effect, each told once with the number of resources that have it."""
    for kind in Kind:
        counted: Counter[str] = Counter()
        example: dict[str, str] = {}
        for name, entry in cache.entries(kind).items():
            for path in {_NUMBERED.sub("[]", path) for path in entry.not_honoured}:
                counted[path] += 1
                example.setdefault(path, name)
        for path, number in sorted(counted.items()):
            told = f"set in {number} resources and not honoured" if number > 1 else "set and not honoured"
            where = f"{_short(kind)} {example[path]}"
            yield Problem("MESH042", "XdsFieldNotHonoured", Level.INFO, where, told, path=path)


def _short(kind: Kind) -> str:
    return kind.value.rpartition(".")[2]
