"""Instances as they stand in etcd, each under a key of its own: ``PREFIX/SERVICE/INSTANCE``; pure.

The value is JSON in one of two forms: ours, in the words of a WorkloadEntry with the one port of the instance, or the
one that gRPC's naming packages for etcd write, ``{"Addr": "10.0.0.1:8080", "Metadata": ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meshlib.config.validation.primitives import fqdn
from meshlib.config.validation.protocols import protocol
from meshlib.model.hosts import is_ip
from meshlib.providers.instances import Instance, labels_of

__all__ = ["host_of", "instance_of", "service_of"]


def service_of(key: str) -> str | None:
    """The service of an instance's key, behind the prefix; None where the key is too short."""
    service, slash, instance = key.strip("/").rpartition("/")
    return service if slash and instance else None


def host_of(service: str, domain: str) -> str:
    """``web`` is ``web.DOMAIN``, ``shop/web`` is ``web.shop.DOMAIN``; a name with a dot is a host as it stands."""
    if "." in service or not domain:
        return service.lower()
    return ".".join([*reversed(service.split("/")), domain]).lower()


def instance_of(value: bytes) -> Instance:
    """The instance.

    Raises:
        ValueError: It cannot be read; the message says why.
    """
    try:
        given = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise ValueError("no JSON object")
    given = _of_grpc(given) if "Addr" in given else given
    address = str(given.get("address") or "")
    port, weight = _whole(given, "port"), _whole(given, "weight", 1)
    if not is_ip(address) and fqdn(address):
        raise ValueError(f"address {address!r} is neither an IP address nor a domain name")
    if not 0 < port < 65_536:
        raise ValueError(f"port {port} is not one from 1 to 65535")
    spoken = str(given.get("protocol") or "").lower()
    if wrong := protocol(spoken):
        raise ValueError(wrong)
    return Instance(address, port, _labels(given.get("labels")), weight, str(given.get("locality") or ""), spoken)


def _of_grpc(given: Mapping[str, Any]) -> dict[str, Any]:
    """The form of gRPC's naming packages; metadata of texts are labels."""
    address, _, port = str(given["Addr"]).rpartition(":")
    metadata = given.get("Metadata")
    texts = _texts(metadata.items()) if isinstance(metadata, Mapping) else {}
    number = int(port) if port.isascii() and port.isdigit() else port
    return {"address": address.strip("[]"), "port": number, "labels": texts, "protocol": texts.pop("protocol", "grpc")}


def _texts(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    return {str(key): value for key, value in pairs if isinstance(value, str)}


def _labels(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError("labels are no object")
    return labels_of(_texts(given.items()))


def _whole(given: Mapping[str, Any], field: str, default: int = 0) -> int:
    value = given.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{field} {value!r} is not a whole number")
    return value
