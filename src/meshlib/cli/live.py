"""What the sources say now: every one of them heard, every DNS name answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from meshlib.cli import dump

if TYPE_CHECKING:
    from meshlib.mesh import Mesh

__all__ = ["settled"]

_LOOK = 0.02


def settled(mesh: Mesh, timeout: float) -> dict[str, list[dict[str, Any]]]:
    """Wait until nothing is outstanding any more, at most ``timeout`` seconds.

    Returns:
        How providers and names are doing, those included that did not answer.
    """
    until = time.monotonic() + timeout
    while time.monotonic() < until and any(each["state"] == "starting" for each in mesh.status().providers):
        time.sleep(_LOOK)
    dump.endpoints(mesh.snapshot)  # asks for all names
    while time.monotonic() < until and not _answered(mesh):
        time.sleep(_LOOK)
    status = mesh.status()
    return {"providers": list(status.providers), "names": list(status.names)}


def _answered(mesh: Mesh) -> bool:
    """Whether every name was answered or failed, and the answers are in force."""
    names = mesh.status().names
    if any(each["age"] is None and not each["error"] for each in names):
        return False
    known = {each["name"] for each in names if each["age"] is not None}
    return not known or all(row["endpoint"].rpartition(":")[0] not in known for row in dump.endpoints(mesh.snapshot))
