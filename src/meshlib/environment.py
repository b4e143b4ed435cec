"""The mesh's knobs as environment variables: ``MESHLIB_<NAME>`` for each keyword of ``Mesh``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib.errors import ConfigError

__all__ = ["keywords"]

_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

_SIDECARS = {
    "service_account": "SERVICE_ACCOUNT",
    "network": "ISTIO_META_NETWORK",
    "cluster": "ISTIO_META_CLUSTER_ID",
    "node": "ISTIO_META_NODE_NAME",
    "address": "INSTANCE_IP",
}
"""What a sidecar's environment calls them; used where ours is not set."""


def keywords(environ: Mapping[str, str]) -> dict[str, Any]:
    """Keywords of ``Mesh`` that the environment sets.

    Raises:
        ConfigError: A value cannot be read.
    """
    found: dict[str, Any] = {}
    namespace = environ.get("MESHLIB_NAMESPACE") or environ.get("POD_NAMESPACE")
    if namespace:
        found["namespace"] = namespace
    for name in ("cluster_domain", "locality", *_SIDECARS, "revision", "worker"):
        if value := environ.get(f"MESHLIB_{name.upper()}") or environ.get(_SIDECARS.get(name, "")):
            found[name] = value
    for name in ("strict", "telemetry", "grpc_metrics"):
        if value := environ.get(f"MESHLIB_{name.upper()}"):
            if value.lower() not in _BOOLEANS:
                raise ConfigError(f"MESHLIB_{name.upper()} is {value!r}, neither true nor false")
            found[name] = _BOOLEANS[value.lower()]
    for name in ("ready_timeout", "stall_bound"):
        if value := environ.get(f"MESHLIB_{name.upper()}"):
            found[name] = _number(f"MESHLIB_{name.upper()}", value)
    for name in ("replay_buffer", "replay_memory"):
        if value := environ.get(f"MESHLIB_{name.upper()}"):
            found[name] = _whole_number(f"MESHLIB_{name.upper()}", value)
    for name in ("nameservers", "propagation"):
        if value := environ.get(f"MESHLIB_{name.upper()}"):
            found[name] = tuple(part.strip() for part in value.split(","))
    if value := environ.get("MESHLIB_LABELS"):
        found["labels"] = dict(pair.split("=", 1) for pair in value.split(",") if "=" in pair)
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}, not a number") from None


def _whole_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name} is {text!r}, not a whole number of bytes")
    return int(text)
