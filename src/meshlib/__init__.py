"""meshlib: what a sidecar proxy does for a service, inside the process, with no proxy in the path.

The story of one request, and where each part of it is written:

1. ``client``, ``httpx``, ``httpx2``: a request is made on an ordinary client. ``exchange`` reads it and, in the end,
   makes the response; nothing else knows of httpx.
2. ``dataplane.router``: the host is looked up, the first matching rule is found, faults are drawn, one of the weighted
   destinations is chosen. The result is a ``dataplane.call.Call``.
3. ``dataplane.drivers``: a small loop asks the call for an attempt, sends it, tells the call how it went, and waits
   where waiting is due. It is written twice, for threads and for tasks; it is the only part that waits.
4. ``dataplane.cluster``, ``dataplane.balancing``, ``dataplane.policies``: an endpoint is picked, permits are taken,
   outcomes are judged, endpoints ejected, retries granted.
5. ``transport``: bytes go to the picked endpoint, over a pool of its own.
6. ``telemetry``: spans and metrics are made from what the call says of itself.

How the world got into memory:

1. ``providers`` publish Istio's objects, ``config.resources`` reads them, ``config.validation`` checks them.
2. ``config.feed`` merges the sources and keeps the last good of every object.
3. ``config.compile`` turns them into the immutable ``model``, host by host at first use.
4. ``mesh`` swaps the new snapshot in by one assignment; live counters outlive it.

Start with ``MeshClient("folder/of/yaml")``, or hang ``meshlib.httpx.MeshTransport`` into a client of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib import errors
    from meshlib.client import AsyncMeshClient, MeshClient
    from meshlib.dataplane.decision import Decision
    from meshlib.mesh import Mesh

__all__ = ["AsyncMeshClient", "Decision", "Mesh", "MeshClient", "errors"]
__version__ = "0.1.0"

_HOMES = {
    "AsyncMeshClient": "meshlib.client",
    "Decision": "meshlib.dataplane.decision",
    "Mesh": "meshlib.mesh",
    "MeshClient": "meshlib.client",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use, so that ``import meshlib`` stays light."""
    from importlib import import_module

    if name == "errors":
        return import_module("meshlib.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
