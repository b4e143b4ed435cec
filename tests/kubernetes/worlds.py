"""A server, a provider that follows it, and a mesh of what it publishes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from meshlib import Mesh
from meshlib.providers import KubernetesProvider
from meshlib.providers.kubernetes import Tuning
from tests.kubernetes.api import Server

QUICK = Tuning(idle=0.5, backoff=0.02, longest=0.2, refused=0.2, confirm=0.1, rediscover=0.2)
"""As the defaults, for tests that do not want to wait."""


class World:
    """What is known of one API server."""

    def __init__(self, api: Server, provider: KubernetesProvider, mesh: Mesh) -> None:
        self.api, self.provider, self.mesh = api, provider, mesh

    def endpoints(self, host: str) -> list[str]:
        destinations = self.mesh.explain("GET", f"http://{host}/").destinations
        return sorted(each for destination in destinations for each in destination.endpoints)

    def status(self, host: str) -> int | None:
        return (self.mesh.explain("GET", f"http://{host}/").details.get("direct_response") or {}).get("status")

    def settles(self, host: str, *addresses: str, seconds: float = 20.0) -> None:
        until(lambda: self.endpoints(host) == sorted(addresses), lambda: self.endpoints(host), seconds)

    def problems(self) -> list[str]:
        """What is wrong with objects, and what the provider has trouble with."""
        trouble = self.mesh.status().providers[0]["error"]
        return [*map(str, self.mesh.problems), *([trouble] if trouble else [])]


def until(condition: Any, told: Any = lambda: "", seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"it did not happen in time: {told()}"
        time.sleep(0.005)


@contextmanager
def world(
    api: Server, folder: Any, tuning: Tuning = QUICK, user: dict[str, Any] | None = None, **options: Any
) -> Iterator[World]:
    path = folder / "kubeconfig"
    path.write_text(api.kubeconfig(user))
    provider = KubernetesProvider(path, tuning=tuning, **options)
    with Mesh(provider, telemetry=False) as mesh:
        mesh.ready(timeout=20)
        yield World(api, provider, mesh)
