"""TLS to the endpoints of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

__all__ = ["KeyMaterial", "Tls", "TlsMode"]


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
class KeyMaterial:
    """What a control plane sent instead of naming files; all PEM, ``b""`` for what it did not send.

    Attributes:
        certificate: What is shown, the leaf first.
        private_key: Its key; never printed.
        roots: Who is trusted.
        revoked: Lists of revoked certificates.
    """

    certificate: bytes = field(default=b"", repr=False)
    private_key: bytes = field(default=b"", repr=False)
    roots: bytes = field(default=b"", repr=False)
    revoked: bytes = field(default=b"", repr=False)


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
        material: What stands in place of files, and of the mesh's own certificates; None without any.
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
    material: KeyMaterial | None = None
    refused: str = ""

    def to(self, accepts_mtls: bool) -> Tls:
        """What is spoken with an endpoint: of automatic mutual TLS, what it accepts.

        Without an identity automatic mutual TLS is plaintext. One that should have come and did not is refused, where
        it is needed.
        """
        if self.mode is not TlsMode.AUTO:
            return self
        if not accepts_mtls:
            return _PLAIN
        return replace(self, mode=TlsMode.ISTIO_MUTUAL) if self.material is not None or self.refused else _PLAIN

    def towards(self, accepts_mtls: bool) -> TlsMode:
        """The mode towards an endpoint, by whether it accepts mutual TLS of the mesh; never ``AUTO``."""
        if self.mode is not TlsMode.AUTO:
            return self.mode
        return TlsMode.ISTIO_MUTUAL if accepts_mtls else TlsMode.DISABLE


_PLAIN = Tls()
