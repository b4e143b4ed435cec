"""Key material off the wire: secrets of their own, and what stands inside a cluster's TLS.

Source: Envoy ``Secret``, ``TlsCertificate``, ``CertificateValidationContext``, ``DataSource``. What cannot be used is
refused as it comes, so that the last good stays: certificates that cannot be read, and keys that are others'.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshlib import key_files
from meshlib.model.policy import KeyMaterial
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.values import read
from meshlib.xds.messages import secret_pb2

__all__ = ["DecodedSecret", "Source", "certificate_of", "names_of", "roots_of", "secret", "source"]

_VALIDATION = {"trusted_ca", "crl", "match_subject_alt_names", "match_typed_subject_alt_names"}
_SECURE = {"verify_certificate_spki", "verify_certificate_hash", "custom_validator_config"}
"""What would let fewer peers in than we do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text of the wire: itself, or the file that holds it."""

    text: bytes = b""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.file)


@dataclass(frozen=True, slots=True)
class DecodedSecret:
    """A ``Secret``: a certificate with its key, or whom to trust.

    Attributes:
        material: What came as text.
        files: What came as the names of files: certificate, key, roots, revoked; ``""`` for what did not.
        names: The peer's certificate must carry one of these; empty asks for none.
    """

    material: KeyMaterial = KeyMaterial()
    files: tuple[str, str, str, str] = ("", "", "", "")
    names: tuple[str, ...] = ()


def secret(resource: Any, profile: Profile = Profile.HTTP) -> Decoded[DecodedSecret]:
    """A secret of a message or of protobuf JSON.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    message, findings = read(resource, secret_pb2.Secret), Findings(profile)
    at = Place(findings)
    kind = message.WhichOneof("type")
    value = DecodedSecret()
    if kind == "tls_certificate":
        value = certificate_of(message.tls_certificate, at.field(kind))
    elif kind == "validation_context":
        value = _validation(message.validation_context, at.field(kind))
    else:
        at.error(f"{kind or 'nothing'} is of no use to a client")
    return findings.close("Secret", message.name, value)


def certificate_of(given: Any, at: Place) -> DecodedSecret:
    """A ``TlsCertificate``."""
    at.only(given, {"certificate_chain", "private_key", "watched_directory"})
    chain = source(given.certificate_chain, at.field("certificate_chain"))
    key = source(given.private_key, at.field("private_key"))
    if not chain or not key or bool(chain.text) is not bool(key.text):
        at.error("needs a certificate and its key, both as text or both in files")
    elif chain.text:
        _checked(at, lambda context: key_files.load_certificate(context, chain.text, key.text))
    return DecodedSecret(KeyMaterial(chain.text, key.text), (chain.file, key.file, "", ""))


def roots_of(given: Any, at: Place) -> DecodedSecret:
    """Whom a ``CertificateValidationContext`` trusts."""
    roots, revoked = source(given.trusted_ca, at.field("trusted_ca")), source(given.crl, at.field("crl"))
    if roots.text:
        _checked(at.field("trusted_ca"), lambda context: key_files.load_roots(context, roots.text))
    if revoked.text:
        _checked(at.field("crl"), lambda context: key_files.load_revoked(context, revoked.text))
    files = ("", "", roots.file, revoked.file)
    return DecodedSecret(KeyMaterial(roots=roots.text, revoked=revoked.text), files)


def _validation(given: Any, at: Place) -> DecodedSecret:
    for name in sorted(_SECURE):
        if given.HasField(name) if name == "custom_validator_config" else getattr(given, name):
            at.field(name).error("cannot be checked")
    at.only(given, _VALIDATION | _SECURE)
    found = roots_of(given, at)
    return DecodedSecret(found.material, found.files, tuple(names_of(given, at)))


def names_of(context: Any, at: Place) -> list[str]:
    """Names are compared exactly; any other comparison is refused, for it would let other peers in."""
    typed = [each.matcher for each in context.match_typed_subject_alt_names]
    found = []
    for number, matcher in enumerate(typed or context.match_subject_alt_names):
        if matcher.WhichOneof("match_pattern") != "exact" or matcher.ignore_case:
            at.field("match_subject_alt_names", number).error("only exact names can be compared")
        found.append(matcher.exact)
    return found


def source(given: Any, at: Place) -> Source:
    """A ``DataSource``."""
    kind = given.WhichOneof("specifier")
    if kind == "environment_variable":
        at.error("a control plane does not know this process's environment")
    text = given.inline_bytes if kind == "inline_bytes" else given.inline_string.encode()
    return Source(bytes(text), given.filename)


def _checked(at: Place, load: Callable[[ssl.SSLContext], None]) -> None:
    """Whether OpenSSL takes it; what it holds is not told."""
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ssl.SSLError, ValueError) as error:
        at.error(f"cannot be used: {getattr(error, 'reason', None) or 'it is not PEM'}")
