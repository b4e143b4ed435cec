"""Certificates in the forms in which control planes and agents send them."""

from __future__ import annotations

from typing import Any

from meshlib.xds.messages import secret_pb2, tls_pb2
from tests.xds.resources import cluster, packed

AGENT = "sds-grpc"
"""What Istio calls its agent."""


def certificate(name: str, leaf: Any) -> Any:
    """A secret with a certificate and its key; ``leaf`` is trustme's."""
    made = secret_pb2.Secret(name=name)
    made.tls_certificate.certificate_chain.inline_bytes = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    made.tls_certificate.private_key.inline_bytes = leaf.private_key_pem.bytes()
    return made


def roots(name: str, ca: Any, *names: str) -> Any:
    """A secret that says whom to trust, and under which names."""
    made = secret_pb2.Secret(name=name)
    made.validation_context.trusted_ca.inline_bytes = ca.cert_pem.bytes()
    for each in names:
        made.validation_context.match_subject_alt_names.add(exact=each)
    return made


def context(shown: str, trusted: str, *names: str, agent: bool = False) -> Any:
    """TLS of a cluster whose certificates are secrets, as Istio writes it."""
    made = tls_pb2.UpstreamTlsContext(sni="outbound_.80_._.db")
    common = made.common_tls_context
    combined = common.combined_validation_context
    configs = [combined.validation_context_sds_secret_config]
    configs[0].name = trusted
    if shown:
        configs.append(common.tls_certificate_sds_secret_configs.add(name=shown))
    for config in configs:
        if agent:
            source = config.sds_config.api_config_source
            source.api_type, source.transport_api_version = "GRPC", "V3"
            source.grpc_services.add().envoy_grpc.cluster_name = AGENT
        else:
            config.sds_config.ads.SetInParent()
        config.sds_config.resource_api_version = "V3"
    for each in names:
        combined.default_validation_context.match_subject_alt_names.add(exact=each)
    return made


def secured(name: str, tls: Any, *, automatic: bool = False) -> Any:
    """A cluster with that TLS; ``automatic`` for those of its endpoints only that say they accept it."""
    made = cluster(name)
    socket = made.transport_socket
    if automatic:
        match = made.transport_socket_matches.add(name="tlsMode-istio")
        match.match["tlsMode"] = "istio"
        socket = match.transport_socket
        made.transport_socket_matches.add(name="tlsMode-disabled").match.SetInParent()
    socket.name = "envoy.transport_sockets.tls"
    socket.typed_config.CopyFrom(packed(tls))
    return made
