"""TLS of a cluster off the wire.

Certificates named by secret (``default``, ``ROOTCA``) or by a provider of the bootstrap are the mesh's own; a choice by
endpoint metadata is automatic mutual TLS. Secrets that are to be asked for are named, for whoever asks.

Source: Envoy ``UpstreamTlsContext``; gRFC A29; Istio ``core/cluster_tls.go``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from meshlib.model.policy import KeyMaterial, Tls, TlsMode
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.secrets import certificate_of, names_of, roots_of
from meshlib.xds.decode.values import unpack
from meshlib.xds.messages import json_format, raw_buffer_pb2, tls_pb2, upstream_proxy_protocol_pb2

__all__ = ["AGENT", "SecretNames", "Socket", "sockets"]

AGENT = "sds-grpc"
"""What Istio calls its agent as a source of secrets."""


class SecretNames(NamedTuple):
    """Secrets that a cluster's TLS is made of.

    Attributes:
        certificate: What is shown; ``""`` for nothing, or for what is known otherwise.
        roots: Who is trusted.
        by_agent: Istio's agent is to be asked, and not the control plane.
    """

    certificate: str = ""
    roots: str = ""
    by_agent: bool = False


class Socket(NamedTuple):
    """What is wrapped around a cluster's connections.

    Attributes:
        tls: As far as it is known.
        proxy_protocol: Version of the PROXY protocol, 0 for none.
        secrets: What belongs to ``tls`` besides.
    """

    tls: Tls
    proxy_protocol: int = 0
    secrets: SecretNames = SecretNames()


PLAIN = Socket(Tls())
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
                found = _socket(each.transport_socket, mesh_name, place.item(number))
                return found._replace(tls=replace(found.tls, mode=TlsMode.AUTO))
        place.has_no_effect()
    if not cluster.HasField("transport_socket"):
        return PLAIN
    return _socket(cluster.transport_socket, mesh_name, at.field("transport_socket"))


def _socket(socket: Any, mesh_name: str, at: Place) -> Socket:
    message = unpack(socket.typed_config, _KINDS, at)
    if isinstance(message, upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport):
        inner = _socket(message.transport_socket, mesh_name, at.field("transport_socket"))
        return inner._replace(proxy_protocol=message.config.version + 1)
    if isinstance(message, raw_buffer_pb2.RawBuffer):
        return PLAIN
    if message is None:
        at.error(f"socket {socket.typed_config.TypeName() or socket.name!r} is not known")
        return PLAIN
    return Socket(_context(message, mesh_name, at), 0, _secret_names(message.common_tls_context))


def _secret_names(common: Any) -> SecretNames:
    """What is to be asked for; a secret without a source would be the proxy's own."""
    shown = next(iter(common.tls_certificate_sds_secret_configs), None)
    trusted = common.validation_context_sds_secret_config
    if common.WhichOneof("validation_context_type") == "combined_validation_context":
        trusted = common.combined_validation_context.validation_context_sds_secret_config
    sources = {name: _source(config) for name, config in (("shown", shown), ("trusted", trusted)) if config is not None}
    certificate = shown.name if shown is not None and sources["shown"] else ""
    roots = trusted.name if sources["trusted"] else ""
    return SecretNames(certificate, roots, AGENT in sources.values())


def _source(config: Any) -> str:
    """Who is asked for a secret: ``ads``, the agent, or ``""`` for nobody that is known here."""
    kind = config.sds_config.WhichOneof("config_source_specifier")
    if kind in ("ads", "self"):
        return "ads"
    services = config.sds_config.api_config_source.grpc_services
    return AGENT if any(each.envoy_grpc.cluster_name == AGENT for each in services) else ""


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
    found = certificate_of(given, place)
    chain, key, _, _ = found.files
    material = found.material if found.material.certificate else None
    return replace(tls, mode=TlsMode.MUTUAL, client_certificate=chain, private_key=key, material=material)


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
    found = roots_of(context, at)
    roots, sent = found.files[2], found.material
    known = (
        bool(roots or sent.roots)
        or by_secret
        or context.HasField("system_root_certs")
        or tls.mode is TlsMode.ISTIO_MUTUAL
    )
    return replace(
        tls,
        material=_both(tls.material, sent),
        subject_alt_names=tuple(names_of(context, at)),
        ca_certificates="" if roots == SYSTEM_ROOTS else roots,
        verify=known and not context.trust_chain_verification,
        ca_crl=context.crl.filename,
    )


def _both(shown: KeyMaterial | None, trusted: KeyMaterial) -> KeyMaterial | None:
    if trusted == KeyMaterial():
        return shown
    return replace(shown or KeyMaterial(), roots=trusted.roots, revoked=trusted.revoked)
