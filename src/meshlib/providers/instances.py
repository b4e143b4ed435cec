"""Instances of a registry as ServiceEntries; pure.

Registries know a service by a name, and each instance by one address and one port. HTTP is called on a well-known port
and on the port that all instances share, TLS likewise, raw TCP on whatever ports there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from meshlib.config.validation.primitives import label_pair
from meshlib.config.validation.protocols import is_http, is_tls
from meshlib.model.hosts import is_ip

__all__ = ["Instance", "labels_of", "service_entries"]

_HEAVIEST = 65_535


class Instance(NamedTuple):
    """One instance that may be called.

    Attributes:
        address: IP address or DNS name.
        port: Its own.
        labels: For subsets.
        weight: At least 1.
        locality: ``region/zone/subzone``, or ``""``.
        protocol: What it speaks, in Istio's words; ``""`` says nothing.
    """

    address: str
    port: int
    labels: Mapping[str, str]
    weight: int = 1
    locality: str = ""
    protocol: str = ""


def labels_of(given: Mapping[str, str]) -> dict[str, str]:
    """Those that Kubernetes would take, in order."""
    return {key: value for key, value in sorted(given.items()) if label_pair(key, value) is None}


def service_entries(name: str, hosts: Sequence[str], usable: Sequence[Instance], port: int) -> list[dict[str, Any]]:
    """The objects of a service: one, or where hosts cannot share a port one for each host.

    Args:
        name: Of the objects, in front of the host.
        hosts: Of the service.
        usable: Its instances.
        port: That HTTP is called on, beside the shared one.
    """
    spoken = next((each.protocol for each in usable if each.protocol), "http")
    numbers = _ports(port, usable, spoken)
    names = {number: spoken if not position else f"{spoken}-{number}" for position, number in enumerate(numbers)}
    spec = {
        "ports": [{"number": number, "name": word, "protocol": spoken.upper()} for number, word in names.items()],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC" if all(is_ip(each.address) for each in usable) else "DNS",
        "endpoints": [_endpoint(each, names.values()) for each in usable],
    }
    together = is_http(spoken) or is_tls(spoken)
    return [_object(name, group, spec) for group in ([list(hosts)] if together else [[host] for host in hosts])]


def _object(name: str, hosts: list[str], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": f"{name}-{hosts[0]}"},
        "spec": {"hosts": hosts, **spec},
    }


def _endpoint(each: Instance, names: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"address": each.address, "ports": dict.fromkeys(names, each.port)}
    found |= {"labels": dict(each.labels), "weight": min(each.weight, _HEAVIEST)}
    if each.locality:
        found["locality"] = each.locality
    return found


def _ports(port: int, usable: Sequence[Instance], spoken: str) -> list[int]:
    own = sorted({each.port for each in usable})
    if is_http(spoken):
        known = [port]
    elif is_tls(spoken):
        known = [443]
    else:
        return own or [port]
    return known + [each for each in own if len(own) == 1 and each not in known]
