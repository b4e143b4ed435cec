"""TLS of a cluster off the wire.

Certificates named by secret (``default``, ``ROOTCA``) or by a provider of the bootstrap are the mesh's own; a choice by
endpoint metadata is automatic mutual TLS. Key material inside the message is not taken: this model names files.

Source: Envoy ``UpstreamTlsContext``; gRFC A29; Istio ``core/cluster_tls.go``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshlib.model.policy import Tls, TlsMode
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.values import unpack
from meshlib.xds.messages import json_format, raw_buffer_pb2, tls_pb2, upstream_proxy_protocol_pb2

__all__ = ["Socket", "sockets"]

Socket = tuple[Tls, int]
"""TLS, and the version of the PROXY protocol."""

PLAIN: Socket = (Tls(), 0)
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"

_KINDS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        tls_pb2.UpstreamTlsContext,
        raw_buffer_pb2.RawBuffer,
        upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport,
    )
}
_CONTEXT = {"common_tls_context", "sni"}
_COMMON = {
    "tls_params",
    "tls_certificates",
    "tls_certificate_sds_secret_configs",
    "tls_certificate_provider_instance",
    "tls_certificate_certificate_provider_instance",
    "validation_context",
    "combined_validation_context",
    "validation_context_sds_secret_config",
    "validation_context_certificate_provider_instance",
    "alpn_protocols",
}
_VALIDATION = {
    "trusted_ca",
    "system_root_certs",
    "ca_certificate_provider_instance",
    "match_subject_alt_names",
    "match_typed_subject_alt_names",
    "trust_chain_verification",
    "crl",
}


def sockets(cluster: Any, mesh_name: str, at: Place) -> Socket:
    """What a ``Cluster`` wraps around its connections; ``mesh_name`` is the server name that says nothing."""
    if cluster.transport_socket_matches and not at.is_grpc:
        place = at.field("transport_socket_matches")
        for number, each in enumerate(cluster.transport_socket_matches):
            if json_format.MessageToDict(each.match) == {"tlsMode": "istio"}:
                tls, version = _socket(each.transport_socket, mesh_name, place.item(number))
                return replace(tls, mode=TlsMode.AUTO), version
        place.has_no_effect()
    if not cluster.HasField("transport_socket"):
        return PLAIN
    return _socket(cluster.transport_socket, mesh_name, at.field("transport_socket"))


def _socket(socket: Any, mesh_name: str, at: Place) -> Socket:
    message = unpack(socket.typed_config, _KINDS, at)
    if isinstance(message, upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport):
        inner, _ = _socket(message.transport_socket, mesh_name, at.field("transport_socket"))
        return inner, message.config.version + 1
    if isinstance(message, raw_buffer_pb2.RawBuffer):
        return PLAIN
    if message is None:
        at.error(f"socket {socket.typed_config.TypeName() or socket.name!r} is not known")
        return PLAIN
    return _context(message, mesh_name, at), 0


def _context(context: Any, mesh_name: str, at: Place) -> Tls:
    at.only(context, _CONTEXT)
    common, place = context.common_tls_context, at.field("common_tls_context")
    place.only(common, _COMMON)
    if at.is_grpc:
        _check_grpc(common, place)
    parameters = common.tls_params
    minimum = {3: "TLSV1_2", 4: "TLSV1_3"}.get(parameters.tls_minimum_protocol_version, "")
    tls = Tls(
        TlsMode.SIMPLE,
        "" if context.sni == mesh_name else context.sni,
        verify_host=False,
        min_version=minimum,
        cipher_suites=tuple(parameters.cipher_suites),
        ecdh_curves=tuple(parameters.ecdh_curves),
    )
    return _with_validation(_with_certificate(tls, common, place), common, place)


def _check_grpc(common: Any, at: Place) -> None:
    if common.HasField("tls_params"):
        at.field("tls_params").error("gRPC does not honour it")
    if not _provided(common):
        at.error("no provider of root certificates")


def _provided(common: Any) -> bool:
    combined = common.combined_validation_context.default_validation_context
    return any(
        (
            common.HasField("validation_context_certificate_provider_instance"),
            *(
                each.HasField("ca_certificate_provider_instance") or each.HasField("system_root_certs")
                for each in (common.validation_context, combined)
            ),
        )
    )


def _with_certificate(tls: Tls, common: Any, at: Place) -> Tls:
    secrets = [each.name for each in common.tls_certificate_sds_secret_configs]
    instances = ("tls_certificate_provider_instance", "tls_certificate_certificate_provider_instance")
    if any(common.HasField(name) for name in instances) or "default" in secrets:
        return replace(tls, mode=TlsMode.ISTIO_MUTUAL)
    if secrets:
        return replace(tls, mode=TlsMode.MUTUAL, credential_name=_credential(secrets[0]))
    if not common.tls_certificates:
        return tls
    given, place = common.tls_certificates[0], at.field("tls_certificates", 0)
    if not given.certificate_chain.filename or not given.private_key.filename:
        place.error("certificates that are not in files cannot be taken")
    chain, key = given.certificate_chain.filename, given.private_key.filename
    return replace(tls, mode=TlsMode.MUTUAL, client_certificate=chain, private_key=key)


def _credential(secret: str) -> str:
    return secret.removeprefix("kubernetes://").removesuffix("-cacert")


def _with_validation(tls: Tls, common: Any, at: Place) -> Tls:
    kind = common.WhichOneof("validation_context_type")
    if kind == "combined_validation_context":
        combined = common.combined_validation_context
        place = at.field(kind).field("default_validation_context")
        secret = combined.validation_context_sds_secret_config.name
        return _validated(_by_secret(tls, secret), combined.default_validation_context, bool(secret), place)
    if kind == "validation_context":
        return _validated(tls, common.validation_context, False, at.field(kind))
    if kind == "validation_context_sds_secret_config":
        return _by_secret(tls, common.validation_context_sds_secret_config.name)
    if kind is None:
        return replace(tls, verify=False)  # Envoy verifies nothing that it is not told to
    return replace(tls, mode=TlsMode.ISTIO_MUTUAL)


def _by_secret(tls: Tls, secret: str) -> Tls:
    if secret == "ROOTCA":  # noqa: S105 - the name of a secret
        return replace(tls, mode=TlsMode.ISTIO_MUTUAL)
    return replace(tls, credential_name=_credential(secret)) if secret else tls


def _validated(tls: Tls, context: Any, by_secret: bool, at: Place) -> Tls:
    at.only(context, _VALIDATION)
    if context.HasField("ca_certificate_provider_instance"):
        tls = replace(tls, mode=TlsMode.ISTIO_MUTUAL)
    roots = context.trusted_ca.filename
    if context.HasField("trusted_ca") and not roots:
        at.field("trusted_ca").error("roots that are not in a file cannot be taken")
    known = bool(roots) or by_secret or context.HasField("system_root_certs") or tls.mode is TlsMode.ISTIO_MUTUAL
    return replace(
        tls,
        subject_alt_names=tuple(_names(context, at)),
        ca_certificates="" if roots == SYSTEM_ROOTS else roots,
        verify=known and not context.trust_chain_verification,
        ca_crl=context.crl.filename,
    )


def _names(context: Any, at: Place) -> list[str]:
    """Names are compared exactly; any other comparison refuses the cluster, for it would let other peers in."""
    typed = [each.matcher for each in context.match_typed_subject_alt_names]
    found = []
    for number, matcher in enumerate(typed or context.match_subject_alt_names):
        if matcher.WhichOneof("match_pattern") != "exact" or matcher.ignore_case:
            at.field("match_subject_alt_names", number).error("only exact names can be compared")
        found.append(matcher.exact)
    return found
