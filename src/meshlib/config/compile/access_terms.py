"""The fields of an AuthorizationPolicy's rule, each as a condition of RBAC.

Values are alternatives; ``notX`` holds when none of its values does, also where the attribute is absent. A value is
exact, ``abc*`` a prefix, ``*abc`` a suffix, ``*`` alone asks for presence. Source: Istio
``pilot/pkg/security/authz/model/generator.go``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshlib.config.resources import security as api
from meshlib.model import rbac
from meshlib.model.match import HeaderMatch, MatchKind, StringMatch
from meshlib.model.path_template import is_path_template
from meshlib.model.principals import claim_path, namespace_regex, quoted, service_account_regex
from meshlib.model.spiffe import SCHEME

__all__ = ["TOKEN", "Terms", "permission", "principal"]

TOKEN = "envoy.filters.http.jwt_authn"  # noqa: S105 - the name under which claims are kept
_EXPERIMENTAL = "experimental."
Bind = Callable[[str], rbac.Rule]


@dataclass(frozen=True, slots=True)
class Terms:
    """What translating depends on besides the rule.

    Attributes:
        trust_domains: The mesh's own, then its aliases.
        tcp: Attributes of HTTP are not there and are left out.
    """

    trust_domains: tuple[str, ...]
    tcp: bool


def permission(operation: api.Operation | None, when: Sequence[api.Condition], terms: Terms) -> Iterator[rbac.Rule]:
    """What is asked for: a ``to``, and the conditions of ``when`` on the destination."""
    given = operation or api.Operation()
    if not terms.tcp:
        yield from _both(given.hosts, given.not_hosts, _host)
        yield from _both(given.methods, given.not_methods, lambda value: _header(":method", value))
        yield from _both(given.paths, given.not_paths, _path)
    yield from _both(given.ports, given.not_ports, _port)
    for condition in when:
        if condition.key in _DESTINATION:
            yield from _both(condition.values, condition.not_values, _DESTINATION[condition.key])
        elif condition.key.startswith(_EXPERIMENTAL):
            yield from _metadata(condition)


def principal(
    source: api.Source | None, when: Sequence[api.Condition], namespace: str, terms: Terms
) -> Iterator[rbac.Rule]:
    """Who asks: a ``from``, and the conditions of ``when`` on the caller and the request."""
    given = source or api.Source()
    names, not_names = (_in_all(values, terms) for values in (given.principals, given.not_principals))
    yield from _both(names, not_names, _named)
    if not terms.tcp:
        yield from _both(given.request_principals, given.not_request_principals, _token_principal)
    yield from _both(given.namespaces, given.not_namespaces, _namespace)
    accounts = _service_account(namespace)
    yield from _both(given.service_accounts, given.not_service_accounts, accounts)
    yield from _both(given.trust_domains, given.not_trust_domains, _trust_domain)
    yield from _both(given.remote_ip_blocks, given.not_remote_ip_blocks, _address("remote"))
    yield from _both(given.ip_blocks, given.not_ip_blocks, _address("direct_remote"))
    for condition in when:
        yield from _on_caller(condition, accounts, terms)


def _on_caller(condition: api.Condition, accounts: Bind, terms: Terms) -> Iterator[rbac.Rule]:
    key, values, not_values = condition.key, condition.values, condition.not_values
    bind = {**_CALLER, "source.serviceAccount": accounts}.get(key)
    if key == "source.principal":
        values, not_values = _in_all(values, terms), _in_all(not_values, terms)
    if bind is None and not terms.tcp:
        bind = _of_request(key)
    if bind is not None:
        yield from _both(values, not_values, bind)


def _of_request(key: str) -> Bind | None:
    """Attributes that only a request has."""
    if key.startswith("request.headers["):
        name = key[len("request.headers[") : -1]
        return lambda value: _header(name, value)
    if key.startswith("request.auth.claims["):
        path = claim_path(key.removeprefix("request.auth.claims")) or ()
        return lambda value: _claim(path, value)
    return _TOKEN_KEYS.get(key)


def _both(values: Sequence[str], not_values: Sequence[str], bind: Bind) -> Iterator[rbac.Rule]:
    if values:
        yield rbac.AnyOf(tuple(map(bind, values)))
    if not_values:
        yield rbac.Not(rbac.AnyOf(tuple(map(bind, not_values))))


# Texts --------------------------------------------------------------------------------------------------------------


def _text(value: str, *, ignore_case: bool = False) -> StringMatch:
    if value == "*":
        return StringMatch(MatchKind.REGEX, ".+", ignore_case)
    if value.startswith("*"):
        return StringMatch(MatchKind.SUFFIX, value[1:], ignore_case)
    if value.endswith("*"):
        return StringMatch(MatchKind.PREFIX, value[:-1], ignore_case)
    return StringMatch(MatchKind.EXACT, value, ignore_case)


def _header(name: str, value: str, *, ignore_case: bool = False) -> rbac.Rule:
    text = None if value == "*" else _text(value, ignore_case=ignore_case)
    return rbac.HeaderIs(HeaderMatch(name.lower(), text))


def _host(value: str) -> rbac.Rule:
    return _header(":authority", value, ignore_case=value != "*")


def _path(value: str) -> rbac.Rule:
    if is_path_template(value):
        return rbac.PathIs(StringMatch(MatchKind.REGEX, _template(value)))
    return rbac.PathIs(_text(value))


def _template(value: str) -> str:
    """``{*}`` is one part of a path, ``{**}`` any number of them."""
    holes = {"{*}": "[^/]+", "{**}": ".*"}
    return "".join(holes.get(piece) or quoted(piece) for piece in re.split(r"(\{\*\*?\})", value))


def _port(value: str) -> rbac.Rule:
    return rbac.DestinationPort(int(value), int(value) + 1)


def _address(which: str) -> Bind:
    return lambda value: rbac.Address(which, str(ipaddress.ip_network(value, strict=False)))


def _server_name(value: str) -> rbac.Rule:
    return rbac.ServerNameIs(_text(value))


# Callers ------------------------------------------------------------------------------------------------------------


def _in_all(values: Sequence[str], terms: Terms) -> list[str]:
    """Identities of the mesh's own trust domain, or of an alias, are good in all of them."""
    found = [name for value in values for name in _in_trust_domains(value, terms.trust_domains)]
    return list(dict.fromkeys(found))


def _in_trust_domains(value: str, domains: tuple[str, ...]) -> list[str]:
    domain, slash, rest = value.partition("/")
    if not slash or domain == "*":
        return [value]
    if domain == "cluster.local" or domain in domains:
        return [f"{each}/{rest}" for each in domains]
    if domain.startswith("*") and any(each.endswith(domain[1:]) for each in domains):
        return [value if each.endswith(domain[1:]) else f"{each}/{rest}" for each in domains]
    return [value]


def _named(value: str) -> rbac.Rule:
    if value == "*":
        return rbac.AuthenticatedAs(StringMatch(MatchKind.REGEX, ".+"))
    if value.startswith("*"):
        return rbac.AuthenticatedAs(StringMatch(MatchKind.REGEX, f"{SCHEME}.*{quoted(value[1:])}"))
    text = _text(value)
    return rbac.AuthenticatedAs(StringMatch(text.kind, SCHEME + text.value))


def _namespace(value: str) -> rbac.Rule:
    return rbac.AuthenticatedAs(StringMatch(MatchKind.REGEX, namespace_regex(value)))


def _service_account(own: str) -> Bind:
    return lambda value: rbac.AuthenticatedAs(StringMatch(MatchKind.REGEX, service_account_regex(value, own)))


def _trust_domain(value: str) -> rbac.Rule:
    if "*" not in value:
        return rbac.AuthenticatedAs(StringMatch(MatchKind.PREFIX, f"{SCHEME}{value}/"))
    inside = "[^/]*".join(map(quoted, value.split("*")))
    return rbac.AuthenticatedAs(StringMatch(MatchKind.REGEX, f"{SCHEME}{inside}/.*"))


# Tokens -------------------------------------------------------------------------------------------------------------


def _in_token(*path: str, value: StringMatch) -> rbac.MetadataIs:
    return rbac.MetadataIs(TOKEN, ("payload", *path), rbac.ValueMatch(text=value))


def _claim(path: Sequence[str], value: str) -> rbac.Rule:
    """A text, or a member of a list."""
    text = rbac.ValueMatch(text=_text(value))
    return rbac.MetadataIs(TOKEN, ("payload", *path), rbac.ValueMatch(either=(text, rbac.ValueMatch(item=text))))


def _token_principal(value: str) -> rbac.Rule:
    """``issuer/subject``, split at the last slash, since an issuer is often a URL."""
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        issuer, subject = value, ""
    if value == "*":
        anything = _text("*")
        return rbac.AllOf((_in_token("iss", value=anything), _in_token("sub", value=anything)))
    if value.startswith("*") and not slash:
        return _in_token("sub", value=_text(value))
    split = rbac.AllOf((_in_token("iss", value=_text(issuer)), _in_token("sub", value=_text(subject))))
    if value.endswith("*"):
        return rbac.AnyOf((split, _in_token("iss", value=_text(value))))
    return split


def _metadata(condition: api.Condition) -> Iterator[rbac.Rule]:
    """``experimental.envoy.filters.a.b[key]``; each value for itself, as istiod has it."""
    name, _, key = condition.key.removeprefix(_EXPERIMENTAL).partition("[")
    for value in condition.values:
        yield _experimental(name, key[:-1], value)
    for value in condition.not_values:
        yield rbac.Not(_experimental(name, key[:-1], value))


def _experimental(name: str, key: str, value: str) -> rbac.Rule:
    if value.startswith("[") and value.endswith("]"):
        item = rbac.ValueMatch(text=_text(value[1:-1].strip()))
        return rbac.MetadataIs(name, (key,), rbac.ValueMatch(item=item))
    return rbac.MetadataIs(name, (key,), rbac.ValueMatch(text=_text(value)))


_DESTINATION: dict[str, Bind] = {
    "destination.ip": _address("destination"),
    "destination.port": _port,
    "connection.sni": _server_name,
}
_CALLER: dict[str, Bind] = {
    "source.ip": _address("direct_remote"),
    "remote.ip": _address("remote"),
    "source.namespace": _namespace,
    "source.principal": _named,
    "source.trustDomain": _trust_domain,
}
_TOKEN_KEYS: dict[str, Bind] = {
    "request.auth.principal": _token_principal,
    "request.auth.audiences": lambda value: _claim(("aud",), value),
    "request.auth.presenter": lambda value: _in_token("azp", value=_text(value)),
}
