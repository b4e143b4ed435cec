"""Makes grpcio's channels past whatever instruments them: the mesh makes spans of its own, one for each attempt.

OpenTelemetry's instrumentation of gRPC puts wrappers in the place of ``grpc.insecure_channel`` and its kin. A channel
made through one would add a second client span below each attempt's.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

__all__ = ["aio_channel", "channel"]


def channel(target: str, credentials: Any, options: Any) -> Any:
    """A ``grpc.Channel``; ``credentials`` None makes a plaintext one."""
    if credentials is None:
        return _bare(grpc.insecure_channel)(target, options)
    return _bare(grpc.secure_channel)(target, credentials, options)


def aio_channel(target: str, credentials: Any, options: Any) -> Any:
    """A ``grpc.aio.Channel`` in the running event loop."""
    if credentials is None:
        return _bare_aio("insecure_channel")(target, options)
    return _bare_aio("secure_channel")(target, credentials, options)


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a wrapper wraps, as far as it says so."""
    found: Callable[..., Any] = inspect.unwrap(function)
    return found


def _bare_aio(name: str) -> Callable[..., Any]:
    """The function itself stays in the module that ``grpc.aio`` has it from; its replacement says nothing of it."""
    home = sys.modules.get("grpc.aio._channel")
    found: Callable[..., Any] = getattr(home, name, None) or getattr(grpc.aio, name)
    return found
