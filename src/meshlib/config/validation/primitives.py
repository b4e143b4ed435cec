"""Syntax of names, ports, durations, patterns; each returns what is wrong, or None.

Source: Istio ``pkg/config/validation``, Kubernetes label and name syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_network
from math import ulp

import re2

from meshlib.model.hosts import is_ip

__all__ = [
    "connect_timeout",
    "dns_label",
    "duration",
    "export_to",
    "fqdn",
    "header_match_name",
    "header_name",
    "host_port",
    "http_status",
    "ip",
    "label_pair",
    "localities",
    "namespaced_host",
    "plain_header_name",
    "port",
    "regex",
    "routing_claim",
    "sni_host",
    "subnet",
    "trust_domain",
    "unix_path",
    "wildcard_host",
]

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_WILDCARD_LABEL = re.compile(r"\*|(?:\*|\*-)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_KEY_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_PLAIN = re.compile(r"[-_0-9A-Za-z]+")
_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_REGEX_LIMIT = 1024
_NAME_LIMIT, _PREFIX_LIMIT, _LABEL_LIMIT = 255, 253, 63
_LONGEST_CONNECT = 3600.0
_CLAIM = "@request.auth.claims"


def dns_label(text: str) -> str | None:
    """A DNS-1123 label."""
    return None if _LABEL.fullmatch(text) else f"{text!r} is not a DNS label"


def _size(text: str) -> str | None:
    if not text:
        return "the name is empty"
    if len(text) > _NAME_LIMIT:
        return f"the name has {len(text)} characters, at most {_NAME_LIMIT} are allowed"
    return None


def _labels(text: str, whole: str) -> str | None:
    *labels, last = text.split(".")
    if last.isdigit():
        return f"{whole!r} is not a domain name: its last label is all digits"
    bad = next((label for label in (*labels, *([last] if last else [])) if not _LABEL.fullmatch(label)), None)
    return None if bad is None else f"{whole!r} is not a domain name: {bad!r} is not a DNS label"


def fqdn(text: str) -> str | None:
    """A full domain name: labels of at most 63 characters, 255 in all, a trailing dot allowed."""
    return _size(text) or _labels(text, text)


def wildcard_host(text: str) -> str | None:
    """A domain name whose first label may be ``*`` or start with ``*`` or ``*-``."""
    problem = _size(text)
    if problem:
        return problem
    first, dot, rest = text.partition(".")
    if len(first) > _LABEL_LIMIT or not _WILDCARD_LABEL.fullmatch(first):
        return f"{text!r} is not a host: {first!r} is neither a DNS label nor a wildcard"
    return _labels(rest, text) if dot else None


def sni_host(text: str, *, generated: bool = True) -> str | None:
    """A wildcard host, or Istio's server name of a cluster (``outbound_.<port>_.<subset>_.<host>``)."""
    if not generated or not text.startswith("outbound_"):
        return wildcard_host(text)
    parts = text.split("_.", 3)
    if len(parts) == 4 and parts[0] == "outbound" and parts[1][:1].isdigit() and re.search("[a-zA-Z]", parts[3]):
        return _size(text)
    return f"{text!r} is not a server name such as 'outbound_.80_._.example.com'"


def namespaced_host(text: str, *, gateway: bool = False) -> str | None:
    """``namespace/dnsName`` of a Sidecar (``~`` in front excludes), or a Gateway's ``[namespace/]dnsName``."""
    namespace, slash, host = text.partition("/")
    if not slash:
        return _dns_name(text, gateway=True) if gateway else f"{text!r} is not of the form 'namespace/dnsName'"
    if not namespace or not host:
        return f"{text!r} lacks the namespace or the host"
    bare = namespace if gateway else namespace.removeprefix("~")
    if bare not in ("", "*", ".") and dns_label(bare) is not None:
        return f"{namespace!r} is not a namespace"
    return _dns_name(host, gateway=gateway)


def _dns_name(host: str, *, gateway: bool) -> str | None:
    if host == "*":
        return None
    if "." not in host:
        return f"{host!r} is a short name, a full one is needed"
    if gateway and is_ip(host):
        return None
    if "*" in host and not host.startswith("*."):
        return f"{host!r} has a wildcard inside a label"
    return wildcard_host(host)


def trust_domain(text: str) -> str | None:
    """DNS labels, a trailing dot allowed."""
    if not text:
        return "the trust domain is empty"
    bad = any(not _LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))
    return f"{text!r} is not a trust domain" if bad else None


def unix_path(text: str) -> str | None:
    """What follows ``unix://``: an absolute path of a file, or ``@`` and a name."""
    if not text:
        return "the path of the unix socket is empty"
    if text.startswith("@") or (text.startswith("/") and not text.endswith("/")):
        return None
    return f"{text!r} is not the absolute path of a unix socket"


def host_port(text: str) -> str | None:
    """``host:port`` or ``[address]:port``."""
    host, colon, number = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or (":" in bare and bare is host) or not number.isdigit():
        return f"{text!r} is not an address such as 'host:9411'"
    return port(int(number)) or (None if is_ip(bare) else fqdn(bare))


def http_status(code: int) -> str | None:
    """A final status, as Istio bounds it."""
    return None if 200 <= code <= 600 else f"status {code} is not within 200..600"


def ip(text: str) -> str | None:
    """An IP address."""
    return None if is_ip(text) else f"{text!r} is not an IP address"


def subnet(text: str) -> str | None:
    """An IP address or a CIDR range."""
    _, slash, bits = text.partition("/")
    try:
        ip_network(text, strict=False)
        if slash and str(int(bits)) != bits:
            raise ValueError(bits)
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
    half_a_nanosecond = 5e-7
    if abs(milliseconds - round(milliseconds)) > max(half_a_nanosecond, 4 * ulp(milliseconds)):
        return f"{seconds:g}s is not a whole number of milliseconds"
    return None


def connect_timeout(seconds: float) -> str | None:
    """A duration of at most an hour."""
    if seconds > _LONGEST_CONNECT:
        return f"{seconds:g}s is above the longest connect timeout, 1h"
    return duration(seconds)


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
    return None if _TOKEN.fullmatch(name) else f"{name!r} is not a header name"


def plain_header_name(name: str) -> str | None:
    """A header name of letters, digits, ``-`` and ``_`` alone."""
    if not name:
        return "the header name is empty"
    return None if _PLAIN.fullmatch(name) else f"{name!r} is not a header name of letters, digits, '-' and '_'"


def routing_claim(name: str) -> bool:
    """Whether a header condition means a claim of a token: ``@request.auth.claims.a.b`` or ``...[a][b]``."""
    if not name.lower().startswith(_CLAIM):
        return False
    rest = name[len(_CLAIM) :]
    return (rest.startswith(".") and len(rest) > 1) or (rest.startswith("[") and rest.endswith("]") and len(rest) > 2)


def header_match_name(name: str) -> str | None:
    """A name in a condition: a header, a pseudo header, or a claim of a token."""
    return None if name in _PSEUDO or routing_claim(name) else header_name(name)


def label_pair(key: str, value: str) -> str | None:
    """A Kubernetes label."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > _PREFIX_LIMIT or not all(map(_LABEL.fullmatch, prefix.split(".")))):
        return f"label key {key!r} has a prefix that is not a domain name"
    if not _KEY_NAME.fullmatch(name):
        return f"{key!r} is not a label key"
    return None if not value or _KEY_NAME.fullmatch(value) else f"{value!r} is not a label value"


def export_to(names: Sequence[str], own: str = "", *, nobody: bool = False, selected: bool = False) -> str | None:
    """Namespaces an object is exported to.

    Args:
        names: As given.
        own: The object's namespace, which ``.`` means.
        nobody: Allow ``~``, as a ServiceEntry does.
        selected: The object is for some workloads of its namespace, so that nothing else can see it.
    """
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
    if selected and not seen <= {own, "."}:
        return "with a workloadSelector a rule is for its own namespace only"
    return None


def localities(patterns: Sequence[str]) -> str | None:
    """Patterns ``region/zone/subzone`` with ``*`` at the end; none may cover what one before it covers."""
    for number, pattern in enumerate(patterns):
        parts = pattern.split("/", 2)
        if not all(parts) or pattern.count("*") > 1 or ("*" in pattern and not pattern.endswith("*")):
            return f"{pattern!r} is not a locality such as 'region/zone/*'"
        if any(_covers(earlier.split("/", 2), parts) for earlier in patterns[:number]):
            return f"{pattern!r} and a pattern before it cover the same localities"
    return None


def _covers(earlier: Sequence[str], later: Sequence[str]) -> bool:
    """A pattern with fewer parts covers all below it, in either order; ``a/*`` may follow ``a/b``, as the rest."""
    for index, part in enumerate(later):
        if index == len(earlier) or earlier[index] == "*":
            return True
        if earlier[index] != part:
            return False
    return True
