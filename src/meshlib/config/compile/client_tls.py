"""TLS towards a cluster: the DestinationRule's, else automatic mutual TLS, else none.

Source: Istio ``core/cluster_tls.go`` (``buildUpstreamTLSSettings``, ``constructUpstreamTLS``), ``push_context.go``
(``BestEffortInferServiceMTLSMode``). Where a sidecar would quietly send plaintext because it cannot load what the rule
asks for, the result is ``refused``: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from meshlib.config.resources.destination_rule import ClientTLSMode, ClientTLSSettings
from meshlib.config.resources.mesh_config import TLSConfig
from meshlib.config.resources.security import MutualTLSMode
from meshlib.model.endpoint import Endpoint
from meshlib.model.policy import Tls, TlsMode
from meshlib.model.snapshot import CertificateFiles

__all__ = ["Peer", "client_tls", "inferred_mode"]


@dataclass(frozen=True, slots=True)
class Peer:
    """What a client knows of the servers of a cluster.

    Attributes:
        identities: What their certificates may carry, trust domain aliases included.
        sni: Server name of mutual TLS in the mesh.
        mode: What they accept; None when that is unknown.
        external: They lie outside the mesh.
        registered: The service is a ServiceEntry, whose names hold for ``SIMPLE`` and ``MUTUAL`` too.
    """

    identities: tuple[str, ...] = ()
    sni: str = ""
    mode: MutualTLSMode | None = MutualTLSMode.PERMISSIVE
    external: bool = False
    registered: bool = False


def client_tls(
    given: ClientTLSSettings | None,
    peer: Peer,
    *,
    automatic: bool,
    files: CertificateFiles | None = None,
    defaults: TLSConfig | None = None,
    for_workloads: bool = False,
) -> Tls:
    """What is wrapped around connections.

    Args:
        given: The effective ``tls`` block, or None.
        peer: The servers.
        automatic: The mesh's ``enableAutoMtls``.
        files: Certificate files of this workload, for clients whose identity does not come from the mesh's CA.
        defaults: The mesh's ``tlsDefaults``, for TLS that is not the mesh's own.
        for_workloads: The DestinationRule names the client workloads that it is for, which ``credentialName`` needs.
    """
    if given is None:
        if not automatic or peer.external or peer.mode in (None, MutualTLSMode.DISABLE):
            return Tls()
        return _shown(Tls(TlsMode.AUTO, peer.sni, peer.identities, verify_host=False), files)
    if given.mode is ClientTLSMode.DISABLE:
        return Tls()
    if given.mode is not ClientTLSMode.SIMPLE and files is not None and not peer.external:
        own = Tls(TlsMode.MUTUAL, given.sni, tuple(given.subject_alt_names), verify_host=False)
        return _shown(own, files)
    if given.mode is ClientTLSMode.ISTIO_MUTUAL:
        names = tuple(given.subject_alt_names) or peer.identities
        verify = not given.insecure_skip_verify
        return Tls(TlsMode.ISTIO_MUTUAL, given.sni or peer.sni, names, verify_host=False, verify=verify)
    return _originated(given, peer, defaults, for_workloads)


def _shown(tls: Tls, files: CertificateFiles | None) -> Tls:
    """The identity from files instead of the one that the mesh's CA signed."""
    if files is None:
        return tls
    return replace(tls, client_certificate=files.chain, private_key=files.key, ca_certificates=files.roots)


def _originated(given: ClientTLSSettings, peer: Peer, defaults: TLSConfig | None, for_workloads: bool) -> Tls:
    """``SIMPLE`` and ``MUTUAL``: the host itself is checked where the rule names neither server name nor names."""
    verify = not given.insecure_skip_verify
    names = tuple(given.subject_alt_names) or (peer.identities if peer.registered else ())
    version = defaults.min_protocol_version.value if defaults is not None else ""
    return Tls(
        TlsMode[given.mode.value],
        given.sni,
        names if verify else (),
        verify_host=verify and not given.sni and not given.subject_alt_names,
        ca_certificates="" if given.ca_certificates == "system" else given.ca_certificates,
        client_certificate=given.client_certificate,
        private_key=given.private_key,
        credential_name=given.credential_name,
        verify=verify,
        ca_crl=given.ca_crl,
        min_version="" if version == "TLS_AUTO" else version,
        cipher_suites=tuple(defaults.cipher_suites) if defaults is not None else (),
        ecdh_curves=tuple(defaults.ecdh_curves) if defaults is not None else (),
        refused=_refusal(given, for_workloads),
    )


def _refusal(given: ClientTLSSettings, for_workloads: bool) -> str:
    credential = given.credential_name
    if credential and not credential.startswith("configmap://") and not for_workloads:
        return f"credentialName {credential!r} is only for a DestinationRule with a workloadSelector"
    if given.mode is ClientTLSMode.MUTUAL and not credential and not (given.client_certificate and given.private_key):
        return "tls mode MUTUAL has neither certificate files nor a credentialName"
    return ""


def inferred_mode(
    declared: MutualTLSMode, endpoints: Iterable[Endpoint] | None, *, external: bool
) -> MutualTLSMode | None:
    """What the servers of a whole service accept, as far as a client can tell; None for external ones.

    Args:
        declared: By the PeerAuthentication of the service's namespace.
        endpoints: Those of a headless or passed-through service, all of which must speak mutual TLS, since the client
            cannot tell them apart; None for other services.
        external: The service lies outside the mesh.
    """
    if external:
        return None
    if endpoints is not None:
        speaks = [endpoint.accepts_mtls for endpoint in endpoints]
        if not speaks or not all(speaks):
            return MutualTLSMode.DISABLE
    return declared
