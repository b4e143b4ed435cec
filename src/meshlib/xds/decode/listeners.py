"""Listeners off the wire: gRPC's ``api_listener``, or a socket with HTTP or raw connections behind it.

Source: Envoy ``Listener``, ``HttpConnectionManager``; gRFCs A27, A36, A39.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshlib.model.domains import RouteTable
from meshlib.model.snapshot import PathNormalization
from meshlib.model.tcp import TcpRoute
from meshlib.xds.decode.connections import PROXY, ways_of
from meshlib.xds.decode.filters import HttpFilters, http_filters
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.routes import table
from meshlib.xds.decode.values import optional_duration, read, unpack
from meshlib.xds.messages import http_connection_manager_pb2, listener_pb2

__all__ = ["DecodedListener", "Manager", "listener"]

_INBOUND = 1
"""Envoy ``TrafficDirection``."""

_MANAGER = http_connection_manager_pb2.HttpConnectionManager
_LISTENER = {"name", "api_listener", "address", "filter_chains", "default_filter_chain", "metadata", "stat_prefix"}
_LISTENER |= {"traffic_direction"}
_SOCKET = {
    "access_log",
    "bind_to_port",
    "continue_on_listener_filters_timeout",
    "enable_reuse_port",
    "listener_filters",
    "listener_filters_timeout",
    "use_original_dst",
}
"""What concerns a proxy's own socket."""
_KNOWN = {"route_config", "rds", "http_filters", "common_http_protocol_options"}
_PATHS = {"normalize_path", "merge_slashes", "path_with_escaped_slashes_action"}
_PROXY = {
    "stat_prefix",
    "codec_type",
    "use_remote_address",
    "generate_request_id",
    "preserve_external_request_id",
    "stream_idle_timeout",
    "access_log",
    "server_name",
    "upgrade_configs",
    "tracing",
    "internal_address_config",
    "http_protocol_options",
    "request_id_extension",
    "proxy_status_config",
}
"""What concerns a proxy's own sockets, logs and ids."""


@dataclass(frozen=True, slots=True)
class Manager:
    """An ``HttpConnectionManager``.

    Attributes:
        table: Routes that came inside, or None.
        table_name: Routes to ask for, ``""`` when they came inside.
        filters: The chain, without the router.
        max_stream_duration: Seconds, for routes that say nothing of it; None is none.
        paths: How paths are made normal.
    """

    table: RouteTable | None
    table_name: str
    filters: HttpFilters
    max_stream_duration: float | None
    paths: PathNormalization


@dataclass(frozen=True, slots=True)
class DecodedListener:
    """A ``Listener``.

    Attributes:
        name: Of the resource.
        manager: What it does with HTTP; None when that is nothing.
        address: Where a server listens, ``""`` for a client's listener.
        port: Its port.
        ways: What it does with raw connections, but for those that only the outbound policy is for.
        inbound: It is for what comes to the workload, not for what it sends.
    """

    name: str
    manager: Manager | None
    address: str = ""
    port: int = 0
    inbound: bool = False
    ways: tuple[TcpRoute, ...] = ()


def listener(resource: Any, profile: Profile = Profile.HTTP) -> Decoded[DecodedListener]:
    """A listener of a message or of protobuf JSON.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    message, findings = read(resource, listener_pb2.Listener), Findings(profile)
    return findings.close("Listener", message.name, _read(message, Place(findings)))


def _read(message: Any, at: Place) -> DecodedListener:
    at.only(message, _LISTENER | _SOCKET)
    if not message.name:
        at.field("name").error("is empty")
    if message.HasField("api_listener"):
        place = at.field("api_listener").field("api_listener")
        found = _manager_in(message.api_listener.api_listener, place)
        if found is None:
            place.error("must be an HttpConnectionManager")
        return DecodedListener(message.name, found)
    socket = message.address.socket_address
    if message.traffic_direction == _INBOUND:
        return DecodedListener(message.name, None, socket.address, socket.port_value, inbound=True)
    chains = [(chain, at.field("filter_chains", number)) for number, chain in enumerate(message.filter_chains)]
    chains.append((message.default_filter_chain, at.field("default_filter_chain")))
    managers = (
        _manager_in(filter_.typed_config, place.field("filters", number))
        for chain, place in chains
        for number, filter_ in enumerate(chain.filters)
        if not filter_.typed_config.Is(PROXY.DESCRIPTOR)
    )
    manager = next((each for each in managers if each is not None), None)
    return DecodedListener(
        message.name,
        manager,
        socket.address,
        socket.port_value,
        ways=tuple(ways_of(chains, socket.port_value)),
    )


def _manager_in(packed: Any, at: Place) -> Manager | None:
    message = unpack(packed, {_MANAGER.DESCRIPTOR.full_name: _MANAGER}, at)
    if message is None:
        at.has_no_effect()
        return None
    return _manager(message, at)


def _manager(message: Any, at: Place) -> Manager:
    at.only(message, _KNOWN | _PATHS | _PROXY)
    if at.is_grpc and (message.xff_num_trusted_hops or message.original_ip_detection_extensions):
        at.field("xff_num_trusted_hops").error("gRPC does not look at forwarding headers")
    filters = http_filters(message.http_filters, at.field("http_filters"))
    routes, name = None, ""
    kind = message.WhichOneof("route_specifier")
    if kind == "route_config":
        routes = table(message.route_config, filters, at.field(kind))
    elif kind == "rds":
        name = _table_name(message.rds, at.field(kind))
    else:
        at.error("neither rds nor route_config")
    common = message.common_http_protocol_options
    longest = optional_duration(common, "max_stream_duration", at.field("common_http_protocol_options"))
    return Manager(routes, name, filters, longest or None, _paths(message))


def _table_name(rds: Any, at: Place) -> str:
    if not rds.route_config_name:
        at.field("route_config_name").error("is empty")
    if at.is_grpc and rds.config_source.WhichOneof("config_source_specifier") not in ("ads", "self"):
        at.field("config_source").error("must be ads or self")
    return str(rds.route_config_name)


def _paths(message: Any) -> PathNormalization:
    unescapes = http_connection_manager_pb2.HttpConnectionManager.UNESCAPE_AND_FORWARD
    if not message.normalize_path.value:
        return PathNormalization.NONE
    if message.path_with_escaped_slashes_action == unescapes:
        return PathNormalization.DECODE_AND_MERGE_SLASHES
    return PathNormalization.MERGE_SLASHES if message.merge_slashes else PathNormalization.BASE
