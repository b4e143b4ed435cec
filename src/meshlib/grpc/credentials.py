"""From the TLS of a cluster to channel credentials; what grpcio cannot do is refused, never done with less.

grpcio checks a certificate against one name, which it also sends as server name and as authority. It knows no way to
skip checking, to bound versions, ciphers or curves of one channel, or to read revocation lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from meshlib.model.policy import KeyMaterial, Tls, TlsMode
from meshlib.transport.tls import TlsUnavailable, refuse_without_material

__all__ = ["checked_name", "credentials_of", "is_plaintext", "stamp"]


def is_plaintext(tls: Tls) -> bool:
    """Whether endpoints are reached without TLS of the mesh's own.

    Raises:
        TlsUnavailable: The configuration asks for what nobody can give.
    """
    if tls.refused:
        raise TlsUnavailable(tls.refused)
    return tls.mode in (TlsMode.DISABLE, TlsMode.AUTO)


def credentials_of(tls: Tls) -> Any:
    """Channel credentials from the files that the configuration names, or from what was sent in their place.

    Raises:
        TlsUnavailable: A file is missing, or grpcio cannot do what is asked for.
    """
    _refuse_beyond(tls)
    try:
        roots = Path(tls.ca_certificates).read_bytes() if tls.ca_certificates else None
        mutual = tls.mode is not TlsMode.SIMPLE and tls.client_certificate
        chain = Path(tls.client_certificate).read_bytes() if mutual else None
        key = Path(tls.private_key).read_bytes() if mutual else None
    except OSError as error:
        raise TlsUnavailable(f"tls mode {tls.mode.value}: {error}") from error
    sent = tls.material or KeyMaterial()
    return grpc.ssl_channel_credentials(sent.roots or roots, sent.private_key or key, sent.certificate or chain)


def checked_name(tls: Tls, host: str) -> str:
    """The name that is sent and that the certificate has to carry.

    Raises:
        TlsUnavailable: The certificate would have to be checked against several names.
    """
    name = tls.sni or host
    names = tls.subject_alt_names
    if not names:
        if not tls.verify_host:
            raise TlsUnavailable("gRPC channels cannot leave the certificate's names unchecked")
        return name
    if name in names:
        return name
    if len(names) == 1 and not tls.verify_host and not tls.sni and ":" not in names[0]:
        return names[0]
    raise TlsUnavailable(f"gRPC channels check one DNS name of a certificate, not {list(names)} beside {name!r}")


def stamp(tls: Tls) -> tuple[tuple[str, int], ...]:
    """The files and when each was last changed: new certificates are for new channels."""
    files = (tls.ca_certificates, tls.client_certificate, tls.private_key)
    return tuple((file, _changed_at(file)) for file in files if file)


def _changed_at(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


def _refuse_beyond(tls: Tls) -> None:
    refuse_without_material(tls)
    beyond = {
        "insecureSkipVerify": not tls.verify,
        "caCrl": bool(tls.ca_crl or (tls.material is not None and tls.material.revoked)),
        "minProtocolVersion TLSV1_3": tls.min_version == "TLSV1_3",
        "cipherSuites": bool(tls.cipher_suites),
        "ecdhCurves": bool(tls.ecdh_curves),
    }
    asked = [name for name, given in beyond.items() if given]
    if asked:
        raise TlsUnavailable(f"gRPC channels cannot do {', '.join(asked)}")
