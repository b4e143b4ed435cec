"""ServiceEntry and WorkloadEntry (``networking.istio.io``): services and workloads outside Kubernetes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Message, UInt32, numbered
from meshlib.config.resources.selectors import LabelsSelector
from meshlib.config.resources.support import Approximated

__all__ = ["Location", "Resolution", "ServiceEntrySpec", "ServicePort", "WorkloadEntrySpec"]


class Location(StrEnum):
    """Inside or outside the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    """How addresses are found."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class ServicePort(Message):
    """A port of a ServiceEntry."""

    number: UInt32 = 0
    protocol: Annotated[str, Field(max_length=256)] = ""
    name: Annotated[str, Field(max_length=256)] = ""
    target_port: UInt32 = 0


class WorkloadEntrySpec(Message):
    """One workload: also the element of ``ServiceEntry.endpoints``."""

    address: Annotated[str, Field(max_length=256)] = ""
    ports: Annotated[dict[str, UInt32], Field(max_length=128)] = Field(default_factory=dict)
    labels: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)
    network: Annotated[
        str, Field(max_length=2048), Approximated("it orders endpoints by place; no gateway between networks is used")
    ] = ""
    locality: Annotated[str, Field(max_length=2048)] = ""
    weight: UInt32 = 0
    service_account: Annotated[str, Field(max_length=253)] = ""


class ServiceEntrySpec(Message):
    """Hosts that are not Kubernetes services."""

    hosts: Annotated[list[str], Field(max_length=256)] = Field(default_factory=list)
    addresses: Annotated[list[str], Field(max_length=256)] = Field(default_factory=list)
    ports: Annotated[list[ServicePort], Field(max_length=256)] = Field(default_factory=list)
    location: Annotated[Location, numbered(*Location)] = Location.MESH_EXTERNAL
    resolution: Annotated[Resolution, numbered(*Resolution)] = Resolution.NONE
    endpoints: Annotated[list[WorkloadEntrySpec], Field(max_length=4096)] = Field(default_factory=list)
    workload_selector: LabelsSelector | None = None
    export_to: list[str] = Field(default_factory=list)
    subject_alt_names: list[str] = Field(default_factory=list)
