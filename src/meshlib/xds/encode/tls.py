"""TLS of a cluster on the wire.

Source: Istio ``core/cluster_tls.go``: the mesh's own certificates are the secrets ``default`` and ``ROOTCA``; automatic
mutual TLS is a choice by endpoint metadata.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.cluster import Cluster, Protocol, sni_name
from meshlib.model.policy import Tls, TlsMode
from meshlib.xds.encode.values import extension, struct
from meshlib.xds.messages import raw_buffer_pb2, tls_pb2, upstream_proxy_protocol_pb2

__all__ = ["SYSTEM_ROOTS", "mesh_sni", "write_tls"]

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""What stands for the system's own roots, which Envoy cannot find by itself."""

_TLS = "envoy.transport_sockets.tls"


def write_tls(cluster: Cluster, made: Any) -> None:
    """``transport_socket``, or the choice of sockets that automatic mutual TLS needs."""
    mode, version = cluster.tls.mode, cluster.connection_pool.proxy_protocol
    if mode is TlsMode.DISABLE:
        if version:
            _write_plain(made.transport_socket, version)
        return
    context = _mesh_context(cluster) if mode in (TlsMode.ISTIO_MUTUAL, TlsMode.AUTO) else _file_context(cluster)
    if mode is not TlsMode.AUTO:
        _write_socket(made.transport_socket, context, version)
        return
    mutual = made.transport_socket_matches.add(name="tlsMode-istio", match=struct({"tlsMode": "istio"}))
    _write_socket(mutual.transport_socket, context, version)
    plain = made.transport_socket_matches.add(name="tlsMode-disabled", match=struct({}))
    _write_plain(plain.transport_socket, version)


def _write_socket(socket: Any, context: Any, version: int) -> None:
    _write(socket, _TLS, context, version)


def _write_plain(socket: Any, version: int) -> None:
    _write(socket, "envoy.transport_sockets.raw_buffer", raw_buffer_pb2.RawBuffer(), version)


def _write(socket: Any, name: str, config: Any, version: int) -> None:
    """The socket itself, or the PROXY protocol with it inside."""
    if version:
        outer = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
        outer.config.version = version - 1
        outer.transport_socket.name = name
        outer.transport_socket.typed_config.CopyFrom(extension(config))
        name, config = "envoy.transport_sockets.upstream_proxy_protocol", outer
    socket.name = name
    socket.typed_config.CopyFrom(extension(config))


def mesh_sni(cluster: Cluster) -> str:
    """The server name of mutual TLS inside the mesh."""
    return sni_name(cluster.service, cluster.port, cluster.subset)


def _mesh_context(cluster: Cluster) -> Any:
    made = tls_pb2.UpstreamTlsContext(sni=cluster.tls.sni or mesh_sni(cluster))
    common = made.common_tls_context
    _write_parameters(cluster.tls, common)
    common.alpn_protocols.extend(
        ["istio-peer-exchange", "istio", "h2"]
        if cluster.protocol is Protocol.HTTP2
        else ["istio-peer-exchange", "istio"]
    )
    _write_secret(common.tls_certificate_sds_secret_configs.add(), "default")
    validation = common.combined_validation_context
    _write_names(cluster.tls, validation.default_validation_context)
    _write_secret(validation.validation_context_sds_secret_config, "ROOTCA")
    return made


def _file_context(cluster: Cluster) -> Any:
    tls = cluster.tls
    made = tls_pb2.UpstreamTlsContext(sni=tls.sni)
    common = made.common_tls_context
    _write_parameters(tls, common)
    if cluster.protocol is Protocol.HTTP2:
        common.alpn_protocols.append("h2")
    if tls.mode is TlsMode.MUTUAL and tls.credential_name:
        _write_secret(common.tls_certificate_sds_secret_configs.add(), f"kubernetes://{tls.credential_name}")
    elif tls.mode is TlsMode.MUTUAL:
        certificate = common.tls_certificates.add()
        certificate.certificate_chain.filename = tls.client_certificate
        certificate.private_key.filename = tls.private_key
    if tls.credential_name:
        validation = common.combined_validation_context
        _write_secret(validation.validation_context_sds_secret_config, f"kubernetes://{tls.credential_name}-cacert")
        _write_validation(tls, validation.default_validation_context)
    else:
        _write_validation(tls, common.validation_context)
    return made


def _write_parameters(tls: Tls, common: Any) -> None:
    """Envoy's own maximum for upstreams is TLS 1.2."""
    parameters = common.tls_params
    parameters.tls_maximum_protocol_version = "TLSv1_3"
    if tls.min_version:
        parameters.tls_minimum_protocol_version = _VERSIONS[tls.min_version]
    parameters.cipher_suites.extend(tls.cipher_suites)
    parameters.ecdh_curves.extend(tls.ecdh_curves)


_VERSIONS = {"TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}


def _write_validation(tls: Tls, made: Any) -> None:
    made.SetInParent()
    if not tls.verify:
        made.trust_chain_verification = "ACCEPT_UNTRUSTED"
    elif not tls.credential_name:
        made.trusted_ca.filename = tls.ca_certificates or SYSTEM_ROOTS
    if tls.ca_crl:
        made.crl.filename = tls.ca_crl
    _write_names(tls, made)


def _write_names(tls: Tls, made: Any) -> None:
    made.SetInParent()
    for name in tls.subject_alt_names:
        made.match_subject_alt_names.add(exact=name)


def _write_secret(secret: Any, name: str) -> None:
    secret.name = name
    secret.sds_config.ads.SetInParent()
    secret.sds_config.resource_api_version = "V3"
