"""The protobuf messages in use, by short names. Importing this file is what needs the extra ``meshlib[xds]``.

A message has to be imported before an ``Any`` of its type can be read from JSON, so everything that may stand inside
a resource is imported here, whether it is named elsewhere or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # generated classes come into being at run time, where no checker sees them
    address_pb2: Any
    aggregate_pb2: Any
    any_pb2: Any
    base_pb2: Any
    circuit_breaker_pb2: Any
    client_side_weighted_round_robin_pb2: Any
    cluster_pb2: Any
    common_fault_pb2: Any
    config_source_pb2: Any
    cors_pb2: Any
    csds_pb2: Any
    discovery_pb2: Any
    duration_pb2: Any
    endpoint_components_pb2: Any
    endpoint_pb2: Any
    fault_pb2: Any
    http_connection_manager_pb2: Any
    http_protocol_options_pb2: Any
    http_rbac_pb2: Any
    json_format: Any
    least_request_pb2: Any
    listener_components_pb2: Any
    listener_pb2: Any
    load_report_pb2: Any
    lrs_pb2: Any
    maglev_pb2: Any
    message: Any
    network_rbac_pb2: Any
    outlier_detection_pb2: Any
    percent_pb2: Any
    previous_hosts_pb2: Any
    previous_priorities_config_pb2: Any
    protocol_pb2: Any
    random_pb2: Any
    range_pb2: Any
    raw_buffer_pb2: Any
    rbac_pb2: Any
    regex_pb2: Any
    ring_hash_pb2: Any
    round_robin_pb2: Any
    route_components_pb2: Any
    route_pb2: Any
    router_pb2: Any
    secret_pb2: Any
    status_pb2: Any
    string_pb2: Any
    struct_pb2: Any
    tcp_proxy_pb2: Any
    tls_pb2: Any
    typed_struct_pb2: Any
    udpa_typed_struct_pb2: Any
    upstream_proxy_protocol_pb2: Any
    uri_template_match_pb2: Any
    wrappers_pb2: Any
    wrr_locality_pb2: Any
else:
    try:
        from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
        from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2
        from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2, load_report_pb2
        from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
        from envoy.config.rbac.v3 import rbac_pb2
        from envoy.config.route.v3 import route_components_pb2, route_pb2
        from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2
        from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
        from envoy.extensions.filters.http.cors.v3 import cors_pb2
        from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as _http_ext_authz  # noqa: F401
        from envoy.extensions.filters.http.fault.v3 import fault_pb2
        from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
        from envoy.extensions.filters.http.router.v3 import router_pb2
        from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as _network_ext_authz  # noqa: F401
        from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
        from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
        from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
        from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
            client_side_weighted_round_robin_pb2,
        )
        from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
        from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
        from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
        from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
        from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
        from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
        from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
        from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
        from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
        from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
        from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
        from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
        from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
        from envoy.service.discovery.v3 import discovery_pb2
        from envoy.service.load_stats.v3 import lrs_pb2
        from envoy.service.status.v3 import csds_pb2
        from envoy.type.matcher.v3 import regex_pb2, string_pb2
        from envoy.type.v3 import percent_pb2, range_pb2
        from google.protobuf import any_pb2, duration_pb2, json_format, message, struct_pb2, wrappers_pb2
        from google.rpc import status_pb2
        from udpa.type.v1 import typed_struct_pb2 as udpa_typed_struct_pb2
        from xds.type.v3 import typed_struct_pb2
    except ImportError as error:  # pragma: no cover - depends on what is installed
        raise ImportError(f"xDS needs protobuf messages: pip install 'meshlib[xds]' ({error})") from error

__all__ = [
    "address_pb2",
    "aggregate_pb2",
    "any_pb2",
    "base_pb2",
    "circuit_breaker_pb2",
    "client_side_weighted_round_robin_pb2",
    "cluster_pb2",
    "common_fault_pb2",
    "config_source_pb2",
    "cors_pb2",
    "csds_pb2",
    "discovery_pb2",
    "duration_pb2",
    "endpoint_components_pb2",
    "endpoint_pb2",
    "fault_pb2",
    "http_connection_manager_pb2",
    "http_protocol_options_pb2",
    "http_rbac_pb2",
    "json_format",
    "least_request_pb2",
    "listener_components_pb2",
    "listener_pb2",
    "load_report_pb2",
    "lrs_pb2",
    "maglev_pb2",
    "message",
    "network_rbac_pb2",
    "outlier_detection_pb2",
    "percent_pb2",
    "previous_hosts_pb2",
    "previous_priorities_config_pb2",
    "protocol_pb2",
    "random_pb2",
    "range_pb2",
    "raw_buffer_pb2",
    "rbac_pb2",
    "regex_pb2",
    "ring_hash_pb2",
    "round_robin_pb2",
    "route_components_pb2",
    "route_pb2",
    "router_pb2",
    "secret_pb2",
    "status_pb2",
    "string_pb2",
    "struct_pb2",
    "tcp_proxy_pb2",
    "tls_pb2",
    "typed_struct_pb2",
    "udpa_typed_struct_pb2",
    "upstream_proxy_protocol_pb2",
    "uri_template_match_pb2",
    "wrappers_pb2",
    "wrr_locality_pb2",
]
