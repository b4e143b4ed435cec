"""TLS to the endpoints of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Tls", "TlsMode"]


class TlsMode(Enum):
    """Istio's ``ClientTLSSettings.mode``.

    ``AUTO`` is automatic mutual TLS: ``ISTIO_MUTUAL`` to endpoints that accept it, plaintext to the others.
    """

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    AUTO = "AUTO"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the endpoints of a cluster, every default of Istio filled in (``ClientTLSSettings``).

    Attributes:
        mode: See ``TlsMode``.
        sni: Server name to send; empty means the request's host.
        subject_alt_names: The certificate must carry one of these, compared exactly; empty asks for none.
        verify_host: The certificate must also be for the request's host (Envoy ``auto_san_validation``); ``SIMPLE``
            and ``MUTUAL`` only, a peer of the mesh is known by its identity.
        ca_certificates: PEM file of trusted roots; empty means the system's, or for mutual TLS of the mesh the mesh's.
        client_certificate: PEM file of what is shown; empty for ``SIMPLE``, and for the mesh's own certificate.
        private_key: PEM file, with ``client_certificate``.
        credential_name: Kubernetes secret that holds the above.
        verify: False accepts any certificate (``insecureSkipVerify``).
        ca_crl: PEM file of revoked certificates, or empty.
        min_version: ``TLSV1_2`` or ``TLSV1_3``; empty means TLS 1.2.
        cipher_suites: OpenSSL names for TLS 1.2; empty means the library's.
        ecdh_curves: OpenSSL names; empty means the library's.
        refused: Why nothing may be sent at all, where a sidecar would silently send plaintext; empty when usable.
    """

    mode: TlsMode = TlsMode.DISABLE
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    verify_host: bool = True
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    credential_name: str = ""
    verify: bool = True
    ca_crl: str = ""
    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    refused: str = ""

    def towards(self, accepts_mtls: bool) -> TlsMode:
        """The mode towards an endpoint, by whether it accepts mutual TLS of the mesh; never ``AUTO``."""
        if self.mode is not TlsMode.AUTO:
            return self.mode
        return TlsMode.ISTIO_MUTUAL if accepts_mtls else TlsMode.DISABLE
