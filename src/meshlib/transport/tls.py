"""TLS contexts: one per identity and trust bundle, since making one costs tens of milliseconds.

Source: Istio ``ClientTLSSettings``: ``SIMPLE`` verifies the server, ``MUTUAL`` shows a certificate as well;
``insecureSkipVerify`` verifies nothing.
"""

from __future__ import annotations

import ssl
import threading
from typing import Any

from meshlib.key_files import load_certificate, load_revoked, load_roots
from meshlib.model.policy import KeyMaterial, Tls, TlsMode

__all__ = ["TlsContexts", "TlsUnavailable", "refuse_without_material"]


class TlsUnavailable(Exception):
    """The TLS that the configuration asks for cannot be set up; nothing is sent in plaintext instead."""


_CONTEXTS = 1024
"""Contexts remembered before the memory starts over: material that is renewed makes new ones for ever."""


def refuse_without_material(tls: Tls) -> None:
    """Nobody may be reached with less than what the configuration asks for.

    Raises:
        TlsUnavailable: The certificates are the mesh's own, or a secret's, and nobody sent them.
    """
    if tls.material is not None:
        return
    if tls.mode is TlsMode.ISTIO_MUTUAL:
        raise TlsUnavailable("tls mode ISTIO_MUTUAL needs a mesh identity, and this process has none")
    if tls.credential_name:
        raise TlsUnavailable(f"credentialName {tls.credential_name!r} needs a Kubernetes secret source")


class TlsContexts:
    """Makes contexts at first use and remembers them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[tuple[Tls, tuple[str, ...]], ssl.SSLContext] = {}

    def get(self, tls: Tls, *, http2: bool = False, raw: bool = False) -> ssl.SSLContext | None:
        """The context to reach endpoints with; None for plaintext.

        Args:
            tls: What the configuration asks for.
            http2: Offer HTTP/2 instead of HTTP/1.1.
            raw: What is inside is no HTTP: offer no protocol.

        Raises:
            TlsUnavailable: A file is missing or unusable, or the mode needs a mesh identity that this process lacks.
        """
        if tls.refused:
            raise TlsUnavailable(tls.refused)
        if tls.mode in (TlsMode.DISABLE, TlsMode.AUTO):
            return None
        refuse_without_material(tls)
        protocols = () if raw else ("h2",) if http2 else ("http/1.1",)
        with self._lock:
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            context = self._contexts.get((tls, protocols))
            if context is None:
                context = self._contexts[tls, protocols] = _make(tls, protocols)
            return context


def _make(tls: Tls, protocols: tuple[str, ...]) -> ssl.SSLContext:
    material = tls.material or KeyMaterial()
    try:
        context = _trusting(tls, material)
        if protocols:
            context.set_alpn_protocols(protocols)
        _bound(context, tls)
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            context.check_hostname = tls.verify_host
            _expect(context, tls.subject_alt_names)
        if material.certificate:
            load_certificate(context, material.certificate, material.private_key)
        elif tls.mode is not TlsMode.SIMPLE and tls.client_certificate:
            context.load_cert_chain(tls.client_certificate, tls.private_key)
        if tls.ca_crl:
            context.load_verify_locations(cafile=tls.ca_crl)
        if material.revoked:
            load_revoked(context, material.revoked)
        if tls.ca_crl or material.revoked:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsUnavailable(f"tls mode {tls.mode.value}: {error}") from error
    return context


def _trusting(tls: Tls, material: KeyMaterial) -> ssl.SSLContext:
    if not material.roots:
        return ssl.create_default_context(cafile=tls.ca_certificates or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_roots(context, material.roots)
    return context


_CURVES = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1", "X25519": "X25519"}
"""Istio's names of curves -> OpenSSL's."""


def _bound(context: ssl.SSLContext, tls: Tls) -> None:
    """Versions, ciphers and curve; Python can bound the curves to one only, so of several OpenSSL chooses freely."""
    newest = tls.min_version == "TLSV1_3"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
    if tls.cipher_suites:
        context.set_ciphers(":".join(tls.cipher_suites))
    if len(tls.ecdh_curves) == 1:
        context.set_ecdh_curve(_CURVES.get(tls.ecdh_curves[0], tls.ecdh_curves[0]))


# Names --------------------------------------------------------------------------------------------------------------


def _expect(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    """Let ``context`` take only peers whose certificate carries one of ``names``, compared exactly; none takes any."""
    if not names:
        return

    class NamedSocket(ssl.SSLSocket):
        """Checks the peer's names as part of the handshake."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _check(self.getpeercert(), names)

    class NamedObject(ssl.SSLObject):
        """The same for transports that move the bytes themselves."""

        def do_handshake(self) -> None:
            super().do_handshake()
            _check(self.getpeercert(), names)

    context.sslsocket_class, context.sslobject_class = NamedSocket, NamedObject


def _check(certificate: Any, names: tuple[str, ...]) -> None:
    found = [value for _, value in (certificate or {}).get("subjectAltName", ())]
    if not set(names).intersection(found):
        raise ssl.SSLCertVerificationError(f"the certificate is for {found or 'no name'}, wanted one of {list(names)}")
