"""How AuthorizationPolicies name callers, and claims of their tokens.

The patterns are RE2's and must match the whole SPIFFE id. Source: Istio ``pilot/pkg/security/authz/model``.
"""

from __future__ import annotations

import re

__all__ = ["claim_path", "namespace_regex", "quoted", "service_account_regex"]


_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(text: str) -> str:
    """``text`` as a pattern of RE2 that matches it alone; what means nothing in a pattern stays as it is."""
    return _SPECIAL.sub(lambda found: "\\" + found.group(), text)


def service_account_regex(value: str, own_namespace: str) -> str:
    """The SPIFFE ids of the service account ``name`` (of ``own_namespace``) or ``namespace/name``.

    The trust domain does not matter, and neither do further pairs of names between and after the parts.
    """
    namespace, slash, account = value.partition("/")
    if not slash:
        namespace, account = own_namespace, value
    return rf"spiffe://.+/ns/{quoted(namespace)}/(?:.+/|)sa/{quoted(account)}(?:/.+)?"


def namespace_regex(value: str) -> str:
    """The SPIFFE ids of a namespace; ``*`` in ``value`` stands for any characters."""
    return f".*/ns/{'.*'.join(map(quoted, value.split('*')))}/.*"


_NESTED = re.compile(r"(?:\[[^\[\]]*\])+")


def claim_path(text: str) -> tuple[str, ...] | None:
    """The names in ``[a][b]``, outermost first; brackets that do not nest are part of one name; None without any."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    if _NESTED.fullmatch(text):
        return tuple(text[1:-1].split("]["))
    return (text[1:-1],)
