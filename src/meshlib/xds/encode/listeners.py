"""Listeners on the wire: a socket, or gRPC's ``api_listener``, with an HttpConnectionManager behind it.

Source: Istio ``listener_builder.go``, ``grpcgen/lds.go``. A sidecar's outbound side: no idle timeout of streams, paths
normalized, the caller's request id kept, faults before the router.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.snapshot import PathNormalization
from meshlib.xds.encode.endpoints import address
from meshlib.xds.encode.routes import CORS_FILTER, fault_filter_name
from meshlib.xds.encode.values import extension
from meshlib.xds.messages import cors_pb2, fault_pb2, http_connection_manager_pb2, listener_pb2, router_pb2

__all__ = ["api_listener", "listener"]


def listener(
    name: str,
    host: str,
    port: int,
    routes: Any = None,
    *,
    table: str = "",
    fault_filters: int = 1,
    paths: PathNormalization = PathNormalization.BASE,
) -> Any:
    """``Listener`` on a socket.

    Args:
        name: Of the listener.
        host: IP address to bind.
        port: Port to bind.
        routes: ``RouteConfiguration`` to carry inline; None asks ADS for ``table``.
        table: Name of the route table, when it is not inline.
        fault_filters: How many faults a route may have in a row.
        paths: How paths are made normal.
    """
    made = listener_pb2.Listener(name=name, address=address(host, port))
    manager = _manager(name, routes, table, fault_filters, paths)
    made.filter_chains.add().filters.add(
        name="envoy.filters.network.http_connection_manager", typed_config=extension(manager)
    )
    return made


def api_listener(name: str, table: str, *, fault_filters: int = 1) -> Any:
    """``Listener`` as gRPC clients ask for it; the routes come from ADS as ``table``."""
    made = listener_pb2.Listener(name=name)
    made.api_listener.api_listener.CopyFrom(
        extension(_manager(name, None, table, fault_filters, PathNormalization.NONE))
    )
    return made


def _manager(name: str, routes: Any, table: str, fault_filters: int, paths: PathNormalization) -> Any:
    made = http_connection_manager_pb2.HttpConnectionManager(stat_prefix=name)
    if routes is not None:
        made.route_config.CopyFrom(routes)
    else:
        made.rds.route_config_name = table
        made.rds.config_source.ads.SetInParent()
        made.rds.config_source.resource_api_version = "V3"
    _write_normalization(paths, made)
    made.use_remote_address.value = False
    made.preserve_external_request_id = True
    made.stream_idle_timeout.SetInParent()
    for number in range(fault_filters):
        _add_filter(made, fault_filter_name(number), fault_pb2.HTTPFault())
    _add_filter(made, CORS_FILTER, cors_pb2.Cors())
    _add_filter(made, "envoy.filters.http.router", router_pb2.Router())
    return made


def _write_normalization(paths: PathNormalization, manager: Any) -> None:
    """Source: Istio ``listener_builder.go``, MeshConfig ``pathNormalization``."""
    manager.normalize_path.value = paths is not PathNormalization.NONE
    manager.merge_slashes = paths in (PathNormalization.MERGE_SLASHES, PathNormalization.DECODE_AND_MERGE_SLASHES)
    if paths is PathNormalization.DECODE_AND_MERGE_SLASHES:
        manager.path_with_escaped_slashes_action = "UNESCAPE_AND_FORWARD"
    else:
        manager.path_with_escaped_slashes_action = "KEEP_UNCHANGED"


def _add_filter(manager: Any, name: str, config: Any) -> None:
    manager.http_filters.add(name=name).typed_config.CopyFrom(extension(config))
