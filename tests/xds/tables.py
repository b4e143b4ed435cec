"""A data plane over decoded resources: every cluster that a route names exists and has one endpoint."""

from __future__ import annotations

import random
from collections.abc import Iterable

from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import State
from meshlib.model.cluster import Cluster
from meshlib.model.domains import RouteTable
from meshlib.model.endpoint import Assignment, Endpoint, LocalityEndpoints
from meshlib.model.route import VirtualHost
from meshlib.model.snapshot import OutboundPolicy, PathNormalization, Snapshot
from meshlib.model.tcp import TcpHost


class TableSource:
    """A ``Source`` of one route table."""

    outbound_policy = OutboundPolicy.REGISTRY_ONLY
    path_normalization = PathNormalization.NONE

    def __init__(self, table: RouteTable) -> None:
        self.table = table

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        return self.table.find(host)

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        return None

    def cluster(self, name: str) -> Cluster | None:
        return Cluster(name, name, 0)

    def assignment(self, name: str) -> Assignment:
        return (LocalityEndpoints((Endpoint("127.0.0.1", 1),)),)

    def listing(self) -> Iterable[tuple[str, int]]:
        return []


def prepared(table: RouteTable) -> Prepared:
    """The table, ready for requests."""
    return Prepared(Snapshot(TableSource(table), 1), State(), 0.0, random.Random(1))
