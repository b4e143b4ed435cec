"""Objects given in code, replaceable at run time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meshlib.config.resources import Loaded, Resource, load_dict, load_text
from meshlib.config.resources.base import Origin
from meshlib.model.problem import Problem
from meshlib.providers.base import Facts

__all__ = ["StaticProvider"]


class StaticProvider:
    """Serves resource objects, plain mappings and YAML texts.

    Args:
        objects: What to serve first.
        name: Shown in ``mesh.status()``.
        strict: Refuse objects with unknown fields.
    """

    def __init__(self, *objects: Resource[Any] | Mapping[str, Any] | str, name: str = "static", strict: bool = False):
        self.name = name
        self._strict = strict
        self._facts = self._read(objects)
        self._version = 1
        self._runs: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def replace(self, *objects: Resource[Any] | Mapping[str, Any] | str) -> None:
        """Serve these from now on; callable from any thread."""
        self._facts = self._read(objects)
        self._version += 1
        for loop, changed in list(self._runs):
            loop.call_soon_threadsafe(changed.set)

    async def run(self, publish: Callable[[Facts], None]) -> None:
        """See ``Provider.run``."""
        changed = asyncio.Event()
        entry = (asyncio.get_running_loop(), changed)
        self._runs.append(entry)
        try:
            while True:
                changed.clear()
                publish(Facts(self._facts.resources, self._facts.problems, str(self._version)))
                await changed.wait()
        finally:
            self._runs.remove(entry)

    def _read(self, objects: tuple[Resource[Any] | Mapping[str, Any] | str, ...]) -> Facts:
        resources: list[Resource[Any]] = []
        problems: list[Problem] = []
        for number, given in enumerate(objects):
            source = f"{self.name}[{number}]"
            if isinstance(given, Resource):
                named = given if given.origin.source else replace(given, origin=Origin(source))
                loaded = Loaded([named], [])
            elif isinstance(given, str):
                loaded = load_text(given, source, strict=self._strict)
            else:
                loaded = load_dict(given, source, strict=self._strict)
            resources.extend(loaded.resources)
            problems.extend(loaded.problems)
        return Facts(tuple(resources), tuple(problems))
