"""How the API server proves itself, and we to it: one TLS context."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from meshlib.errors import ConfigError
from meshlib.providers.kubernetes.kubeconfig import Cluster, User, decoded

__all__ = ["Shown", "context_of"]

Shown = tuple[bytes, bytes]
"""A certificate of our own with its chain, and its key; PEM."""


def context_of(cluster: Cluster, user: User, given: Shown | None = None) -> ssl.SSLContext:
    """The context for a server.

    Args:
        cluster: Whose authority is believed; the system's where it names none.
        user: Whose certificate is shown.
        given: The certificate that a command gave, instead of the user's.

    Raises:
        ConfigError: A certificate or key cannot be read.
    """
    try:
        context = ssl.create_default_context(
            cafile=cluster.certificate_authority or None if not cluster.certificate_authority_data else None,
            cadata=_text(cluster.certificate_authority_data),
        )
        # Authorities of clusters often lack the extensions that Python 3.13 would insist on; Kubernetes does not.
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if cluster.insecure_skip_tls_verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _show(context, user, given)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no certificates for {cluster.server}: {error}") from None
    return context


def _text(data: str) -> str | None:
    return decoded(data, "certificate-authority-data").decode("ascii") if data else None


def _show(context: ssl.SSLContext, user: User, given: Shown | None) -> None:
    if given is not None:
        return _load(context, *given)
    if not (user.client_certificate or user.client_certificate_data):
        return None
    if not (user.client_certificate_data or user.client_key_data):
        return context.load_cert_chain(user.client_certificate, user.client_key or None)
    certificate = decoded(user.client_certificate_data, "client-certificate-data")
    key = decoded(user.client_key_data, "client-key-data")
    return _load(
        context,
        certificate or Path(user.client_certificate).read_bytes(),
        key or Path(user.client_key).read_bytes(),
    )


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes files only, so there is one, for us alone and for this moment."""
    with tempfile.NamedTemporaryFile(prefix="meshlib-") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)
