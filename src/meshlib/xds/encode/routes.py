"""Route tables on the wire: ``RouteConfiguration`` with its virtual hosts.

Source: Istio ``core/httproute.go``; a table is named by its port, a virtual host ``host:port``, and ports in the Host
header are ignored when it is chosen. What Envoy has no field for travels in ``metadata``, where Envoy ignores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshlib.model.domains import RouteTable
from meshlib.model.policy import Fault
from meshlib.model.route import Cors, Route, VirtualHost
from meshlib.xds.encode import header_ops
from meshlib.xds.encode.actions import write_action
from meshlib.xds.encode.matches import route_match, string_match
from meshlib.xds.encode.policies import fault_filters
from meshlib.xds.encode.values import extension, struct
from meshlib.xds.messages import cors_pb2, route_components_pb2, route_pb2

__all__ = ["CORS_FILTER", "FAULT_FILTER", "fault_filter_name", "route_configuration", "virtual_host"]

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"
_MAX_DIRECT_BODY = 1 << 20


def fault_filter_name(number: int) -> str:
    """Name of the ``number``-th fault filter, counted from 0."""
    return FAULT_FILTER if number == 0 else f"{FAULT_FILTER}.{number}"


def route_configuration(table: RouteTable) -> Any:
    """``RouteConfiguration``."""
    made = route_pb2.RouteConfiguration(name=table.name, ignore_port_in_host_matching=table.ignore_ports)
    made.validate_clusters.value = False
    made.max_direct_response_body_size_bytes.value = _MAX_DIRECT_BODY
    made.virtual_hosts.extend(virtual_host(host, domains) for host, domains in table.hosts)
    return made


def virtual_host(host: VirtualHost, domains: Sequence[str]) -> Any:
    """``VirtualHost``."""
    made = route_components_pb2.VirtualHost(name=_name(host), domains=domains, include_request_attempt_count=True)
    made.routes.extend(_route(route, host) for route in host.routes)
    if host.service is not None:
        made.metadata.filter_metadata["meshlib"].CopyFrom(struct({"service": host.service}))
    outer = {(route.outer_request_headers, route.outer_response_headers) for route in host.routes}
    if len(outer) == 1:
        header_ops.write_levels([made], *outer.pop())
    elif outer:
        raise ValueError(f"the routes of {host.name} differ in the operations of their virtual host")
    return made


def _name(host: VirtualHost) -> str:
    return f"{host.name}:{host.port}" if host.port else host.name


def _route(route: Route, host: VirtualHost) -> Any:
    made = route_components_pb2.Route(name=route.name, match=route_match(route.match))
    write_action(route.action, made)
    header_ops.write(made, route.request_headers, route.response_headers)
    _write_faults(route.fault, made)
    if route.cors is not None:
        made.typed_per_filter_config[CORS_FILTER].CopyFrom(extension(_cors(route.cors)))
    if host.virtual_service is not None:
        namespace, _, name = host.virtual_service.partition("/")
        path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtual-service/{name}"
        made.metadata.filter_metadata["istio"].CopyFrom(struct({"config": path}))
    if route.origin.rule >= 0:
        place = {"rule": route.origin.rule, "match": route.origin.match, "object": route.origin.object}
        made.metadata.filter_metadata["meshlib"].CopyFrom(struct(place))
    return made


def _write_faults(fault: Fault | None, made: Any) -> None:
    for number, filter_config in enumerate(fault_filters(fault)):
        made.typed_per_filter_config[fault_filter_name(number)].CopyFrom(extension(filter_config))


def _cors(cors: Cors) -> Any:
    made = cors_pb2.CorsPolicy(
        allow_methods=cors.allow_methods, allow_headers=cors.allow_headers, expose_headers=cors.expose_headers
    )
    made.allow_origin_string_match.extend(string_match(origin) for origin in cors.allow_origins)
    if cors.max_age is not None:
        made.max_age = str(cors.max_age)
    made.allow_credentials.value = cors.allow_credentials
    made.forward_not_matching_preflights.value = cors.forward_unmatched
    return made
