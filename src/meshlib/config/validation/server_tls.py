"""Validation of a server's TLS: of Gateways and of Sidecar ingress listeners."""

from __future__ import annotations

from meshlib.config.resources.server_tls import ServerTLSMode, ServerTLSSettings, TLSCertificate, TLSProtocol
from meshlib.config.validation.report import Report

__all__ = ["CIPHER_SUITES", "ECDH_CURVES", "server_tls"]

CIPHER_SUITES = frozenset(
    f"{exchange}{suite}"
    for exchange, suites in (
        ("ECDHE-ECDSA-", "AES128-GCM-SHA256 AES256-GCM-SHA384 CHACHA20-POLY1305 AES128-SHA AES256-SHA"),
        ("ECDHE-RSA-", "AES128-GCM-SHA256 AES256-GCM-SHA384 CHACHA20-POLY1305 AES128-SHA AES256-SHA"),
        ("", "AES128-GCM-SHA256 AES256-GCM-SHA384 AES128-SHA AES256-SHA DES-CBC3-SHA"),
    )
    for suite in suites.split()
)
"""Names of BoringSSL's suites that Istio passes on; it leaves others out."""
ECDH_CURVES = frozenset({"P-224", "P-256", "P-384", "P-521", "X25519", "X25519Kyber768Draft00", "X25519MLKEM768"})
"""Curves that Istio passes on."""

_TERMINATING = frozenset({ServerTLSMode.SIMPLE, ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL})
_PASSING = frozenset({ServerTLSMode.PASSTHROUGH, ServerTLSMode.AUTO_PASSTHROUGH})
_OWN = {
    "server_certificate": "serverCertificate",
    "private_key": "privateKey",
    "ca_certificates": "caCertificates",
    "tls_certificates": "tlsCertificates",
    "credential_name": "credentialName",
    "credential_names": "credentialNames",
}


def server_tls(report: Report, tls: ServerTLSSettings | None, path: str) -> None:
    """Which certificates go with which mode, and what is only worth a warning."""
    if tls is None:
        return
    _ciphers(report, tls, path)
    given = [spelled for name, spelled in _OWN.items() if getattr(tls, name)]
    if tls.mode is ServerTLSMode.ISTIO_MUTUAL:
        for spelled in given:
            report.error(f"{path}.{spelled}", f"mode ISTIO_MUTUAL brings its own certificates, {spelled} is not for it")
        return
    if tls.mode in _PASSING and (given or tls.ca_crl):
        report.warn(path, f"mode {tls.mode} ends no TLS, so certificates mean nothing")
    sources = (bool(tls.server_certificate and tls.private_key), tls.credential_name, tls.credential_names)
    if sum(map(bool, (*sources, tls.tls_certificates))) > 1:
        report.error(path, "only one source of certificates may be given: files, a credential, or tlsCertificates")
    if tls.mode in _TERMINATING:
        if tls.credential_name or tls.credential_names:
            return
        _files(report, tls, path)
    _revocation(report, tls, path)


def _ciphers(report: Report, tls: ServerTLSSettings, path: str) -> None:
    if tls.min_protocol_version in (TLSProtocol.TLSV1_0, TLSProtocol.TLSV1_1) and not tls.cipher_suites:
        report.warn(f"{path}.minProtocolVersion", "TLS below 1.2 needs ciphers that are not in the default list")
    for number, name in enumerate(tls.cipher_suites):
        where = f"{path}.cipherSuites[{number}]"
        if name in tls.cipher_suites[:number]:
            report.warn(where, f"{name!r} stands twice")
        elif name not in CIPHER_SUITES and name not in ("", "ALL") and name[0].isalnum():
            report.warn(where, f"{name!r} is not a cipher suite and is left out")


def _files(report: Report, tls: ServerTLSSettings, path: str) -> None:
    if tls.mode is not ServerTLSMode.SIMPLE and not tls.ca_certificates:
        report.error(f"{path}.caCertificates", f"mode {tls.mode} needs the CA of the clients")
    if len(tls.tls_certificates) > 2:
        report.warn(f"{path}.tlsCertificates", "two certificates (RSA and ECDSA) are the most that can be used")
    if not tls.tls_certificates:
        _pair(report, TLSCertificate(server_certificate=tls.server_certificate, private_key=tls.private_key), path)
    for number, certificate in enumerate(tls.tls_certificates):
        _pair(report, certificate, f"{path}.tlsCertificates[{number}]")


def _pair(report: Report, certificate: TLSCertificate, path: str) -> None:
    if not certificate.server_certificate:
        report.error(f"{path}.serverCertificate", "a server certificate is needed")
    if not certificate.private_key:
        report.error(f"{path}.privateKey", "a private key is needed")


def _revocation(report: Report, tls: ServerTLSSettings, path: str) -> None:
    if tls.ca_crl and tls.credential_name:
        report.error(f"{path}.caCrl", "with credentialName the revocation list belongs into the credential")
    if tls.ca_crl and tls.mode is ServerTLSMode.SIMPLE:
        report.error(f"{path}.caCrl", "mode SIMPLE asks for no client certificates that could be revoked")
