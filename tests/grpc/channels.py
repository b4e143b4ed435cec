"""The channels that a test may be run over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from meshlib import Mesh


def plain(mesh: Mesh, aio: bool, port: int) -> Any:
    """grpcio's own, which the tests themselves are tested by."""
    return (grpc.aio if aio else grpc).insecure_channel(f"127.0.0.1:{port}")


CHANNELS: dict[str, Callable[[Mesh, bool, int], Any]] = {"plain": plain}
