"""What the values of an AuthorizationPolicy look like; each function returns what is wrong, or None.

Source: Istio ``pkg/config/security/security.go``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from meshlib.config.validation.primitives import subnet
from meshlib.model.path_template import ANY, ONE, is_path_template

__all__ = ["condition", "filled", "ips", "paths", "ports", "service_accounts", "trust_domains", "wildcards"]

_MOST_ACCOUNTS, _LONGEST_ACCOUNT = 16, 320
_LITERAL = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")


def filled(values: Sequence[str]) -> str | None:
    """No value is empty."""
    return "a value is empty" if "" in values else None


def ips(values: Sequence[str]) -> str | None:
    """IP addresses and ranges."""
    return next((problem for problem in map(subnet, values) if problem), None)


def ports(values: Sequence[str]) -> str | None:
    """Port numbers as texts."""
    bad = next((text for text in values if not (text.isascii() and text.isdigit() and int(text) <= 65535)), None)
    return None if bad is None else f"{bad!r} is not a port number"


def wildcards(values: Sequence[str]) -> str | None:
    """Texts with at most one ``*``, at the beginning or the end."""
    for value in values:
        if not value:
            return "a value is empty"
        if value.count("*") > 1:
            return f"{value!r} has more than one wildcard"
        if "*" in value and "*" not in (value[0], value[-1]):
            return f"{value!r} has a wildcard that is neither at its beginning nor at its end"
    return None


def trust_domains(values: Sequence[str]) -> str | None:
    """Trust domains, with wildcards."""
    problem = wildcards(values)
    bad = next((value for value in values if "/" in value), None)
    return problem or (None if bad is None else f"{bad!r} holds a '/', which no trust domain does")


def service_accounts(values: Sequence[str]) -> str | None:
    """``account`` or ``namespace/account``, without wildcards."""
    if len(values) > _MOST_ACCOUNTS:
        return f"{len(values)} values, at most {_MOST_ACCOUNTS} are allowed"
    for value in values:
        parts = value.split("/")
        if len(parts) > 2 or not all(parts):
            return f"{value!r} is neither 'account' nor 'namespace/account'"
        if "*" in value:
            return f"{value!r} has a wildcard, which service accounts do not take"
        if len(value) > _LONGEST_ACCOUNT:
            return f"a value has {len(value)} characters, at most {_LONGEST_ACCOUNT} are allowed"
    return None


def paths(values: Sequence[str]) -> str | None:
    """Paths, and path templates of ``{*}``, ``{**}`` and plain parts."""
    return filled(values) or next((problem for problem in map(_path, values) if problem), None)


def _path(path: str) -> str | None:
    template, rest_matched = is_path_template(path), False
    for part in path.strip("/").split("/"):
        if part in (ONE, ANY):
            if rest_matched:
                return f"{path!r} has an operator after {ANY}, which must be the last"
            rest_matched = part == ANY
        elif "{" in part or "}" in part:
            return f"{path!r} has braces that are neither {ONE} nor {ANY}"
        elif template and not _LITERAL.fullmatch(part):
            return f"{path!r} has the part {part!r}, which cannot stand in a template"
    return None


def _anything(values: Sequence[str]) -> str | None:
    return None


_EXACT: dict[str, Callable[[Sequence[str]], str | None]] = {
    "source.ip": ips,
    "remote.ip": ips,
    "source.namespace": _anything,
    "source.serviceAccount": service_accounts,
    "source.principal": _anything,
    "source.trustDomain": wildcards,
    "request.auth.principal": _anything,
    "request.auth.audiences": _anything,
    "request.auth.presenter": _anything,
    "destination.ip": ips,
    "destination.port": ports,
    "connection.sni": _anything,
}
_MAPS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_REPLACED = {
    "destination.namespace": "the namespace of the policy takes its place",
    "destination.labels": "the selector of the policy takes its place",
    "destination.name": "it was of v1alpha1",
    "destination.user": "it was of v1alpha1",
}


def condition(key: str, values: Sequence[str]) -> str | None:
    """A ``when`` key with its values."""
    problem = filled(values)
    if problem:
        return problem
    if key in _EXACT:
        return _EXACT[key](values)
    if key.startswith(_MAPS):
        name = key.partition("[")
        return None if name[0] and key.endswith("]") and len(name[2]) > 1 else f"{key!r} is not of the form a[b]"
    reason = next((text for known, text in _REPLACED.items() if key.partition("[")[0] == known), "it is not known")
    return f"the attribute {key!r} is not supported: {reason}"
