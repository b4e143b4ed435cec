"""Endpoints: where a cluster's requests can go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from meshlib.model.hosts import join_host_port

__all__ = ["Assignment", "Endpoint", "Health", "Locality", "LocalityEndpoints", "Workload", "no_labels"]

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


def no_labels() -> Mapping[str, str]:
    """The one empty set of labels, shared by all that have none."""
    return _NO_LABELS


class Health(Enum):
    """What discovery says of an endpoint (Envoy ``health_status``); ejection is kept apart, in live state."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"


class Locality(NamedTuple):
    """Where something runs; empty strings where unknown. Istio writes it ``region/zone/subzone``."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""

    @classmethod
    def parse(cls, text: str) -> Locality:
        """``"us-east/z1/a"`` -> region, zone, sub-zone; missing parts are empty, further parts ignored."""
        parts = [*text.split("/"), "", "", ""]
        return cls(parts[0], parts[1], parts[2])

    def __str__(self) -> str:
        """``region/zone/subzone`` without trailing empty parts."""
        return "/".join(self).rstrip("/")


class Workload(NamedTuple):
    """Who runs behind an endpoint, for metric labels and identity checks; ``unknown`` is written as ``""``."""

    name: str = ""
    namespace: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""
    cluster: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a service.

    Attributes:
        address: IP address, DNS name (to be resolved when dialled) or ``unix:///path``.
        port: Port to dial; 0 for a unix socket.
        labels: What subsets select on.
        weight: Load-balancing weight, at least 1.
        locality: Where it runs.
        health: What discovery says.
        accepts_mtls: Whether it speaks Istio mutual TLS (label ``security.istio.io/tlsMode: istio``).
        network: Istio network id, ``""`` for the default.
        workload: Names for telemetry and identity.
        hostname: First label of its own DNS name below a headless service, ``""`` when it has none.
    """

    address: str
    port: int
    labels: Mapping[str, str] = field(default_factory=no_labels)
    weight: int = 1
    locality: Locality = Locality()
    health: Health = Health.HEALTHY
    accepts_mtls: bool = False
    network: str = ""
    workload: Workload = Workload()
    hostname: str = ""

    @property
    def key(self) -> str:
        """``address:port``, the identity under which live state is kept; IPv6 in brackets."""
        if self.address.startswith("unix:"):
            return self.address
        return join_host_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class LocalityEndpoints:
    """Endpoints of one locality at one priority (Envoy ``LocalityLbEndpoints``).

    Attributes:
        endpoints: The members, the unhealthy included.
        locality: Where they run.
        priority: 0 is used first.
        weight: Share among the localities of a priority; None when localities are not weighted.
        near: The caller runs there.
        callers: Healthy workloads of the caller's kind that run there; None where that is not known.
    """

    endpoints: tuple[Endpoint, ...]
    locality: Locality = Locality()
    priority: int = 0
    weight: int | None = None
    near: bool = False
    callers: int | None = None


Assignment = tuple[LocalityEndpoints, ...]
"""All endpoints of a cluster (Envoy ``ClusterLoadAssignment``)."""
