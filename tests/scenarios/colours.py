"""One scenario, every colour: threads, asyncio, uvloop and trio, httpx and httpx2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
import trio

import meshlib.httpx
import meshlib.httpx2
from meshlib import Mesh
from meshlib.testing import ScriptedTransport

Send = Callable[..., Any]
LIBRARIES = {"httpx": (httpx, meshlib.httpx), "httpx2": (httpx2, meshlib.httpx2)}


class Colour:
    """Sends requests in one colour through one library."""

    def __init__(self, run: str, library: str) -> None:
        self.run = run
        self.library, self.faces = LIBRARIES[library]

    def send(self, mesh: Mesh, method: str, url: str, wire: ScriptedTransport | None = None, **options: Any) -> Any:
        """One request; the response is read."""
        if self.run == "threads":
            face = self.faces.MeshTransport(mesh, transport=wire)
            with self.library.Client(transport=face) as client:
                return client.request(method, url, **options)

        async def main() -> Any:
            face = self.faces.AsyncMeshTransport(mesh, transport=wire.cooperative() if wire else None)
            async with self.library.AsyncClient(transport=face) as client:
                return await client.request(method, url, **options)

        return self.main(main)

    def main(self, function: Callable[[], Any]) -> Any:
        """Run a coroutine function to its end."""
        if self.run == "uvloop":
            return pytest.importorskip("uvloop").run(function())
        return asyncio.run(function()) if self.run == "asyncio" else trio.run(function)


COLOURS = [
    pytest.param(Colour(run, library), id=f"{run}-{library}")
    for run in ("threads", "asyncio", "uvloop", "trio")
    for library in LIBRARIES
]
