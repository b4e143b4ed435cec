"""From an effective policy to a cluster.

Source: Istio ``core/cluster_builder.go``, ``core/cluster_traffic_policy.go``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshlib.config.compile.client_balancing import with_client_balancing
from meshlib.config.compile.client_policies import Found
from meshlib.config.compile.client_tls import Peer, client_tls
from meshlib.config.compile.load_balancers import load_balancer
from meshlib.config.compile.locality import LocalitySetting, effective_setting
from meshlib.config.compile.pools import circuit_breaker, connection_pool, outlier_detection, tunnel
from meshlib.config.compile.services import DECLARED_HTTP, Port, Resolution, Service
from meshlib.config.compile.traffic_policy import EffectivePolicy
from meshlib.config.resources import destination_rule as api
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.model.cluster import Cluster, Discovery, Protocol, cluster_name
from meshlib.model.policy import BalancerKind
from meshlib.model.snapshot import CertificateFiles

__all__ = ["Towards", "build_cluster", "locality_of", "protocol_of"]

_DISCOVERY = {
    Resolution.ENDPOINTS: Discovery.ENDPOINTS,
    Resolution.DNS: Discovery.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: Discovery.LOGICAL_DNS,
    Resolution.DYNAMIC_DNS: Discovery.ORIGINAL_DST,
    Resolution.NONE: Discovery.ORIGINAL_DST,
    Resolution.ALIAS: Discovery.LOGICAL_DNS,
}


@dataclass(frozen=True, slots=True)
class Towards:
    """One destination and all that is in force towards it.

    Attributes:
        service: The service.
        port: One of its ports.
        subset: Subset name, ``""`` for the whole service.
        policy: The effective policy.
        peer: Who answers there.
        client: The ClientPolicy.
        for_workloads: The DestinationRule names client workloads.
        host: Name of one member of a headless service; ``""`` for the service itself.
        address: IP address of the client, ``""`` when unknown.
    """

    service: Service
    port: Port
    subset: str
    policy: EffectivePolicy
    peer: Peer
    client: Found = Found()
    for_workloads: bool = False
    host: str = ""
    address: str = ""


def build_cluster(towards: Towards, mesh: MeshConfig, files: CertificateFiles | None = None) -> Cluster:
    """The cluster of a destination; ``files`` are the caller's certificate, when it does not come from the mesh."""
    service, port, policy, found = towards.service, towards.port, towards.policy, towards.client
    if service.resolution is Resolution.DYNAMIC_DNS:
        policy = replace(policy, load_balancer=None)
    balancer = load_balancer(policy, locality_of(policy, service, mesh), towards.address)
    if found.load_balancer is not None:
        balancer = with_client_balancing(balancer, found.load_balancer)
    breaker = circuit_breaker(policy)
    protocol = protocol_of(port, policy.connection_pool, mesh)
    return Cluster(
        cluster_name(towards.host or service.host, port.number, towards.subset),
        service.host,
        port.number,
        towards.subset,
        _discovery(service, balancer.kind),
        protocol,
        balancer,
        breaker if found.retry_budget is None else replace(breaker, retry_budget=found.retry_budget),
        outlier_detection(policy.outlier_detection),
        connection_pool(
            policy,
            http=port.protocol.is_http,
            http2=protocol in (Protocol.HTTP2, Protocol.CALLER),
            connect_timeout=mesh.connect_timeout,
            keepalive=mesh.tcp_keepalive,
        ),
        client_tls(
            policy.tls,
            towards.peer,
            automatic=mesh.enable_auto_mtls,
            files=files,
            defaults=mesh.tls_defaults,
            for_workloads=towards.for_workloads,
        ),
        target_port=port.target,
        namespace=service.namespace,
        external=service.external,
        tunnel=tunnel(policy.tunnel),
        dns_refresh=mesh.dns_refresh_rate,
        client_policy=found.policy,
        origins=(*policy.origins, *found.origins),
    )


def _discovery(service: Service, kind: BalancerKind) -> Discovery:
    if kind is BalancerKind.PASSTHROUGH:
        return Discovery.ORIGINAL_DST
    if service.resolution is Resolution.DNS and service.races_addresses:
        return Discovery.LOGICAL_DNS
    return _DISCOVERY[service.resolution]


def locality_of(policy: EffectivePolicy, service: Service, mesh: MeshConfig) -> LocalitySetting:
    """The locality setting towards a service under a policy."""
    balancer = policy.load_balancer or api.LoadBalancerSettings()
    return effective_setting(
        balancer.locality_lb_setting,
        balancer.zone_aware_lb_setting,
        service.traffic_distribution,
        mesh.zone_aware_lb_setting,
        mesh.locality_lb_setting,
    )


def protocol_of(port: Port, pool: api.ConnectionPoolSettings | None, mesh: MeshConfig) -> Protocol:
    """What is spoken: the port's, unless an upgrade to HTTP/2 is asked for, or the caller's is to be kept.

    The mesh's wish to upgrade holds for ports that are declared to be HTTP, a rule's wish for any.
    """
    http = pool.http if pool is not None else None
    if http is not None and http.use_client_protocol:
        return Protocol.CALLER
    if port.protocol.is_http2:
        return Protocol.HTTP2
    upgrade = http.h2_upgrade_policy if http is not None else api.H2UpgradePolicy.DEFAULT
    if upgrade is api.H2UpgradePolicy.UPGRADE:
        return Protocol.HTTP2
    declared = port.protocol in DECLARED_HTTP
    mesh_wide = mesh.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE
    if upgrade is api.H2UpgradePolicy.DEFAULT and mesh_wide and declared:
        return Protocol.HTTP2
    return Protocol.HTTP1 if declared else Protocol.CALLER
