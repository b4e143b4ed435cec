"""Tells a control plane how much is sent where, as often as it asks (LRS).

A stream is held only while a cluster asks for it (``lrs_server``), with the server that the clusters come from.

Source: gRFCs A27, A64; ``envoy/service/load_stats/v3/lrs.proto``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import Any

from meshlib.errors import ConfigError
from meshlib.model.endpoint import Locality
from meshlib.providers.xds.credentials import call_metadata, tls_context
from meshlib.providers.xds.loads import Load, Loads
from meshlib.providers.xds.streams import pause
from meshlib.providers.xds.wire import Broken, KeepAlive, Stream, address_of
from meshlib.xds.ads.client import Client
from meshlib.xds.ads.warming import World
from meshlib.xds.messages import load_report_pb2, lrs_pb2, message

__all__ = ["LoadReports"]

_LOG = logging.getLogger("meshlib")
_METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
_SENDS_ALL = "envoy.lrs.supports_send_all_clusters"
_SHORTEST = 0.1


class LoadReports:
    """The reports of one client.

    Args:
        client: Whose clusters are counted.
        node: The ``Node`` message.
        loads: The counts.
        keepalive: How silence is found out.
        rng: For the pauses between streams.
    """

    def __init__(self, client: Client, node: Any, loads: Loads, keepalive: KeepAlive, rng: random.Random) -> None:
        self._client = client
        self._node = type(node)()
        self._node.CopyFrom(node)
        self._node.client_features.append(_SENDS_ALL)
        self._loads = loads
        self._keepalive = keepalive
        self._rng = rng
        self._wanted = asyncio.Event()

    def follow(self, world: World) -> None:
        """The clusters may have changed."""
        self._loads.clusters = frozenset(name for name, each in world.clusters.items() if each.reports_load)
        if self._loads.clusters:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def run(self) -> None:
        """Report until cancelled."""
        failures = 0
        while True:
            await self._wanted.wait()
            try:
                await self._stream()
                failures = 0
            except (Broken, ConfigError, message.DecodeError) as error:
                failures += 1
                _LOG.info("load reports are not taken: %s", error)
            await asyncio.sleep(pause(failures, self._rng))

    async def _stream(self) -> None:
        group = self._client.groups[""]
        server = group.members[group.active].server
        tls = await asyncio.to_thread(tls_context, server)
        metadata = await asyncio.to_thread(call_metadata, server)
        stream = await Stream.open(address_of(server.uri), _METHOD, metadata, tls, self._keepalive)
        reading: asyncio.Task[bytes | None] | None = None
        try:
            await stream.write(lrs_pb2.LoadStatsRequest(node=self._node).SerializeToString())
            asked = await self._answer(await stream.read())
            loop = asyncio.get_running_loop()
            self._loads.take()
            since = loop.time()
            while asked is not None and self._wanted.is_set():
                reading = reading or asyncio.create_task(stream.read())
                left = since + _interval(asked) - loop.time()
                done, _ = await asyncio.wait({reading}, timeout=max(left, 0.0))
                if done:
                    asked, reading = await self._answer(reading.result()), None
                    continue
                now = loop.time()
                await stream.write(self._report(asked, now - since).SerializeToString())
                since = now
        finally:  # nothing is waited for here: the loop may be ending
            stream.close()
            if reading is not None:
                reading.cancel()

    @staticmethod
    async def _answer(data: bytes | None) -> Any:
        return None if data is None else lrs_pb2.LoadStatsResponse.FromString(data)

    def _report(self, asked: Any, seconds: float) -> Any:
        """What was counted in so many seconds, for the clusters that the server asks about."""
        made = lrs_pb2.LoadStatsRequest()
        counted = self._loads.take()
        names: Iterable[str] = counted if asked.send_all_clusters else asked.clusters
        for name in names:
            localities, dropped = counted.get(name, ({}, 0))
            decoded = self._client.world.clusters.get(name)
            service = decoded.service_name if decoded is not None else ""
            stats = made.cluster_stats.add(cluster_name=name, total_dropped_requests=dropped)
            stats.cluster_service_name = "" if service == name else service
            stats.load_report_interval.FromNanoseconds(round(seconds * 1e9))
            priorities = self._priorities(service)
            stats.upstream_locality_stats.extend(
                _stats(place, load, priorities.get(place, 0)) for place, load in localities.items()
            )
        return made

    def _priorities(self, service: str) -> dict[Locality, int]:
        assigned = self._client.world.assignments.get(service)
        return {} if assigned is None else {group.locality: group.priority for group in assigned.assignment}


def _interval(asked: Any) -> float:
    return max(_SHORTEST, float(asked.load_reporting_interval.ToNanoseconds()) / 1e9)


def _stats(place: Locality, load: Load, priority: int) -> Any:
    made = load_report_pb2.UpstreamLocalityStats(
        priority=priority,
        total_issued_requests=load.issued,
        total_successful_requests=load.succeeded,
        total_error_requests=load.failed,
        total_requests_in_progress=load.in_progress,
    )
    made.locality.region, made.locality.zone, made.locality.sub_zone = place
    return made
