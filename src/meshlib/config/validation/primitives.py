"""Syntax of names, ports, durations, patterns; each returns what is wrong, or None.

Source: Istio ``pkg/config/validation``, Kubernetes label and name syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import re2

__all__ = [
    "dns_label",
    "duration",
    "export_to",
    "fqdn",
    "header_name",
    "header_value",
    "ip",
    "label_pair",
    "port",
    "regex",
    "sni_host",
    "subnet",
    "wildcard_host",
]

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_KEY_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_REGEX_LIMIT = 1024


def dns_label(text: str) -> str | None:
    """A DNS-1123 label."""
    return None if _LABEL.fullmatch(text) else f"{text!r} is not a DNS label"


def fqdn(text: str) -> str | None:
    """A full domain name: labels of at most 63 characters, 255 in all, a trailing dot allowed."""
    if len(text) > 255:
        return f"the name has {len(text)} characters, at most 255 are allowed"
    if not text:
        return "the name is empty"
    labels = text.removesuffix(".").split(".")
    bad = next((label for label in labels if not _LABEL.fullmatch(label)), None)
    if bad is not None:
        return f"{text!r} is not a domain name: {bad!r} is not a DNS label"
    return f"{text!r} is not a domain name: its last label is all digits" if labels[-1].isdigit() else None


def wildcard_host(text: str) -> str | None:
    """A full domain name whose first label may be ``*`` or start with ``*``."""
    if len(text) > 255:
        return f"the name has {len(text)} characters, at most 255 are allowed"
    if text == "*":
        return None
    first, dot, rest = text.partition(".")
    if first.startswith("*"):
        if first != "*" and not _LABEL.fullmatch(first[1:].lstrip("-") or "x"):
            return f"{text!r} is not a wildcard host"
        return fqdn(rest) if dot else None if first != "*" else f"{text!r} is not a wildcard host"
    return fqdn(text)


_SNI_HOST = re.compile(r"outbound_\.\d+_\.[^.]*_\.(.+)")


def sni_host(text: str) -> str | None:
    """A wildcard host, or Istio's server name of a cluster (``outbound_.<port>_.<subset>_.<host>``)."""
    hit = _SNI_HOST.fullmatch(text)
    return fqdn(hit.group(1)) if hit else wildcard_host(text)


def ip(text: str) -> str | None:
    """An IP address."""
    try:
        ip_address(text)
    except ValueError:
        return f"{text!r} is not an IP address"
    return None


def subnet(text: str) -> str | None:
    """An IP address or a CIDR range."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is not an IP address or range"
    return None


def port(number: int) -> str | None:
    """A port number."""
    return None if 1 <= number <= 65535 else f"port {number} is not within 1..65535"


def duration(seconds: float) -> str | None:
    """At least a millisecond, and whole milliseconds."""
    if seconds < 0.001:
        return f"{seconds:g}s is below the least duration, 1ms"
    milliseconds = seconds * 1000
    if abs(milliseconds - round(milliseconds)) > 1e-6:
        return f"{seconds:g}s is not a whole number of milliseconds"
    return None


def regex(pattern: str) -> str | None:
    """A regular expression of RE2, at most 1024 characters."""
    if not pattern:
        return "the regular expression is empty"
    if len(pattern) > _REGEX_LIMIT:
        return f"the regular expression has {len(pattern)} characters, at most {_REGEX_LIMIT} are allowed"
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        return f"{pattern!r} is not a regular expression of RE2: {text}"
    return None


def header_name(name: str) -> str | None:
    """An HTTP header name."""
    if not name:
        return "the header name is empty"
    return None if _HEADER.fullmatch(name) else f"{name!r} is not a header name"


def header_value(value: str) -> str | None:
    """A header value: no control characters, and every ``%`` part of a ``%VARIABLE%`` or doubled."""
    if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
        return f"{value!r} holds control characters"
    rest = re.sub(r"%%|%[A-Z_]+(?:\([^)]*\))?(?::[0-9]+)?%", "", value)
    return f"{value!r} holds a single '%': write '%%' or a '%VARIABLE%'" if "%" in rest else None


def label_pair(key: str, value: str) -> str | None:
    """A Kubernetes label."""
    prefix, slash, name = key.rpartition("/")
    if slash and fqdn(prefix) is not None:
        return f"label key {key!r} has a prefix that is not a domain name"
    if not _KEY_NAME.fullmatch(name):
        return f"{key!r} is not a label key"
    return None if not value or _KEY_NAME.fullmatch(value) else f"{value!r} is not a label value"


def export_to(names: Sequence[str], own: str = "", *, nobody: bool = False) -> str | None:
    """Namespaces an object is exported to; ``nobody`` allows ``~``."""
    seen: set[str] = set()
    for name in names:
        if name == "~" and not nobody:
            return "'~' is not allowed here"
        if name not in ("*", ".", "~") and dns_label(name) is not None:
            return f"{name!r} is not a namespace"
        meant = own if name == "." and own else name
        if meant in seen:
            return f"{name!r} stands twice"
        seen.add(meant)
    if len(names) > 1 and ("*" in names or "~" in names):
        return "'*' and '~' stand for themselves, other names beside them mean nothing"
    return None
