"""TLS contexts: one per identity and trust bundle, since making one costs tens of milliseconds.

Source: Istio ``ClientTLSSettings``: ``SIMPLE`` verifies the server, ``MUTUAL`` shows a certificate as well;
``insecureSkipVerify`` verifies nothing.
"""

from __future__ import annotations

import ssl
import threading

from meshlib.model.policy import Tls, TlsMode

__all__ = ["TlsContexts", "TlsUnavailable"]


class TlsUnavailable(Exception):
    """The TLS that the configuration asks for cannot be set up; nothing is sent in plaintext instead."""


class TlsContexts:
    """Makes contexts at first use and remembers them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[tuple[Tls, bool], ssl.SSLContext] = {}

    def get(self, tls: Tls, *, http2: bool) -> ssl.SSLContext | None:
        """The context to reach endpoints with; None for plaintext.

        Raises:
            TlsUnavailable: A file is missing or unusable, or the mode needs a mesh identity that this process lacks.
        """
        if tls.mode in (TlsMode.DISABLE, TlsMode.AUTO):
            return None
        if tls.mode is TlsMode.ISTIO_MUTUAL:
            raise TlsUnavailable("tls mode ISTIO_MUTUAL needs a mesh identity, and this process has none")
        if tls.credential_name:
            raise TlsUnavailable(f"credentialName {tls.credential_name!r} needs a Kubernetes secret source")
        with self._lock:
            context = self._contexts.get((tls, http2))
            if context is None:
                context = self._contexts[tls, http2] = _make(tls, http2)
            return context


def _make(tls: Tls, http2: bool) -> ssl.SSLContext:
    try:
        authorities = tls.ca_certificates if tls.ca_certificates not in ("", "system") else None
        context = ssl.create_default_context(cafile=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls.mode is TlsMode.MUTUAL:
            context.load_cert_chain(tls.client_certificate, tls.private_key)
        if tls.ca_crl:
            context.load_verify_locations(cafile=tls.ca_crl)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise TlsUnavailable(f"tls mode {tls.mode.value}: {error}") from error
    return context
