"""Whether a Secret holds a certificate and a key that TLS can use.

Source: Istio ``analyzers/gateway/certificate.go`` and ``secret.go``, ``pkg/kube`` (``ExtractCertInfo``): the generic
``cert`` and ``key``, or ``tls.crt`` and ``tls.key``.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["unusable"]

_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0


def unusable(secret: Mapping[str, Any], now: datetime) -> str:
    """Why a Secret's certificate is of no use; ``""`` when nothing is wrong with it."""
    held = {**_decoded(secret.get("data")), **_plain(secret.get("stringData"))}
    pair = next(((held[cert], held[key]) for cert, key in _PAIRS if held.get(cert) and held.get(key)), None)
    if pair is None:
        return "it holds neither tls.crt and tls.key nor cert and key"
    certificate, key = pair
    if "PRIVATE KEY-----" not in key:
        return "its key is no private key in PEM"
    return _certificate(certificate, now)


def _decoded(given: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in given.items() if isinstance(given, Mapping) else ():
        try:
            found[name] = base64.b64decode(str(value), validate=False).decode("ascii", "replace")
        except (binascii.Error, ValueError):
            found[name] = str(value)
    return found


def _plain(given: Any) -> dict[str, str]:
    return {name: str(value) for name, value in given.items()} if isinstance(given, Mapping) else {}


def _certificate(pem: str, now: datetime) -> str:
    first = pem.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=first)
        begins, ends = _validity(ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN") :]))
    except (ssl.SSLError, ValueError, IndexError):
        return "its certificate cannot be read"
    if now > ends:
        return f"its certificate expired on {ends:%Y-%m-%d}"
    return f"its certificate is valid from {begins:%Y-%m-%d} only" if now < begins else ""


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """``notBefore`` and ``notAfter`` of an X.509 certificate (RFC 5280, section 4.1)."""
    body = _content(der, _SEQUENCE)[0]
    rest = _content(body, _SEQUENCE)[0]
    if rest[0] == _VERSION:
        rest = _content(rest)[1]
    for _ in ("serial number", "signature", "issuer"):
        rest = _content(rest)[1]
    times = _content(rest, _SEQUENCE)[0]
    after = _content(times)[1]
    return _time(times), _time(after)


def _content(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    if tag is not None and der[0] != tag:
        raise ValueError(f"tag {der[0]:#x}, not {tag:#x}")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("the element is cut short")
    return der[start : start + length], der[start + length :]


def _time(der: bytes) -> datetime:
    text = _content(der)[0].decode("ascii").removesuffix("Z")
    if der[0] == _UTC_TIME:
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
