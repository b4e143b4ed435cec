"""Resources and answers as control planes write them, in few words."""

from __future__ import annotations

from typing import Any

from meshlib.xds.ads.kinds import Kind
from meshlib.xds.messages import (
    any_pb2,
    cluster_pb2,
    discovery_pb2,
    endpoint_pb2,
    http_connection_manager_pb2,
    listener_pb2,
    route_pb2,
    router_pb2,
    tcp_proxy_pb2,
)

ROUTER = "envoy.filters.http.router"


def packed(message: Any) -> Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


def manager(table: str) -> Any:
    made = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="test")
    made.rds.route_config_name = table
    made.rds.config_source.ads.SetInParent()
    made.rds.config_source.resource_api_version = "V3"
    made.http_filters.add(name=ROUTER).typed_config.Pack(router_pb2.Router())
    return made


def api_listener(name: str, table: str) -> Any:
    """As istiod's proxyless generator and other control planes of gRPC write it."""
    made = listener_pb2.Listener(name=name)
    made.api_listener.api_listener.Pack(manager(table))
    return made


def socket_listener(name: str, port: int, table: str, address: str = "0.0.0.0") -> Any:
    """As a sidecar gets it."""
    made = listener_pb2.Listener(name=name, traffic_direction="OUTBOUND")
    made.address.socket_address.address = address
    made.address.socket_address.port_value = port
    chain = made.filter_chains.add()
    chain.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.Pack(manager(table))
    return made


def routes(name: str, **hosts: str) -> Any:
    """A table: host (``_`` for ``*``, ``__`` for a dot) -> cluster."""
    return table(name, {host.replace("__", ".") if host != "_" else "*": to for host, to in hosts.items()})


def table(name: str, hosts: dict[str, str], *, ignore_ports: bool = False) -> Any:
    made = route_pb2.RouteConfiguration(name=name, ignore_port_in_host_matching=ignore_ports)
    for host, cluster in hosts.items():
        virtual = made.virtual_hosts.add(name=host, domains=[host])
        route = virtual.routes.add(name="default")
        route.match.prefix = "/"
        route.route.cluster = cluster
    return made


def cluster(name: str, service: str = "", *, timeout: float = 1.0, **fields: Any) -> Any:
    made = cluster_pb2.Cluster(name=name, type="EDS", **fields)
    made.connect_timeout.FromMilliseconds(round(timeout * 1000))
    made.eds_cluster_config.eds_config.ads.SetInParent()
    made.eds_cluster_config.eds_config.resource_api_version = "V3"
    made.eds_cluster_config.service_name = service
    return made


def endpoints(name: str, *ports: int, address: str = "127.0.0.1") -> Any:
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    if ports:
        group = made.endpoints.add(priority=0)
        group.locality.region = "r"
        group.load_balancing_weight.value = 1
        for port in ports:
            socket = group.lb_endpoints.add().endpoint.address.socket_address
            socket.address, socket.port_value = address, port
    return made


def answer(kind: Kind, version: str, *messages: Any, nonce: str = "") -> Any:
    """A state-of-the-world answer."""
    return discovery_pb2.DiscoveryResponse(
        type_url=kind.url, version_info=version, nonce=nonce or f"n{version}", resources=map(packed, messages)
    )


def change(kind: Kind, nonce: str, *messages: Any, version: str = "1", removed: tuple[str, ...] = ()) -> Any:
    """An incremental answer."""
    made = discovery_pb2.DeltaDiscoveryResponse(type_url=kind.url, nonce=nonce, removed_resources=removed)
    for message in messages:
        name = message.cluster_name if kind is Kind.ENDPOINT else message.name
        made.resources.add(name=name, version=version, resource=packed(message))
    return made


def tcp_listener(name: str, address: str, port: int, *ways: tuple[str, str], otherwise: str = "") -> Any:
    """As a sidecar gets it for raw connections: (server name or ``""``, cluster), and where all others go."""
    made = listener_pb2.Listener(name=name, traffic_direction="OUTBOUND")
    made.address.socket_address.address, made.address.socket_address.port_value = address, port
    for server_name, to in ways:
        chain = made.filter_chains.add()
        if server_name:
            chain.filter_chain_match.server_names.append(server_name)
        _proxy(chain, to)
    if otherwise:
        _proxy(made.default_filter_chain, otherwise)
    return made


def _proxy(chain: Any, to: str) -> None:
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=to, cluster=to)
    chain.filters.add(name="envoy.filters.network.tcp_proxy").typed_config.Pack(proxy)
