"""Whether a server lets a request in, by RBAC filters.

Rules are bound once into functions; a decision calls them and says which policy it came from.

Source: Envoy RBAC filter; gRFC A41. Filters are asked in order and all must let the request pass; an ``ALLOW`` filter
without a policy lets nobody in.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from meshlib.dataplane.matchers import bind, bind_text
from meshlib.dataplane.request import Request
from meshlib.model import rbac as model
from meshlib.model.match import RouteMatch

__all__ = ["BoundRbac", "Connection", "Verdict", "bind_rbac", "decide"]


@dataclass(frozen=True, slots=True)
class Connection:
    """Who asks, and where.

    Attributes:
        direct_remote: IP address of the connection's peer.
        remote: IP address of the client as forwarding headers have it; the peer's own where there are none.
        destination: IP address that was connected to.
        destination_port: Its port.
        server_name: TLS server name asked for, or ``""``.
        tls: The connection is TLS.
        certificate: The peer showed a certificate.
        uri_sans: URI names of the certificate.
        dns_sans: DNS names of the certificate.
        subject: Its subject, RFC 2253.
        metadata: What earlier filters found out: filter name -> values.
    """

    direct_remote: str = ""
    remote: str = ""
    destination: str = ""
    destination_port: int = 0
    server_name: str = ""
    tls: bool = False
    certificate: bool = False
    uri_sans: tuple[str, ...] = ()
    dns_sans: tuple[str, ...] = ()
    subject: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Verdict(NamedTuple):
    """Whether the request may pass; ``policy`` is the one that decided, ``""`` when none held."""

    allowed: bool
    policy: str = ""


Test = Callable[[Request, Connection], bool]


class BoundRbac(NamedTuple):
    """One filter: its action, and each policy's test by name."""

    action: model.Action
    policies: tuple[tuple[str, Test], ...]


def bind_rbac(filters: Sequence[model.Rbac]) -> tuple[BoundRbac, ...]:
    """The filters that decide anything, in order."""
    return tuple(
        BoundRbac(each.rules.action, tuple((policy.name, _policy(policy)) for policy in each.rules.policies))
        for each in filters
        if each.rules is not None and each.rules.action is not model.Action.LOG
    )


def decide(filters: Sequence[BoundRbac], request: Request, connection: Connection) -> Verdict:
    """The verdict of the first filter that refuses, else that of the last."""
    verdict = Verdict(True)
    for bound in filters:
        held = next((name for name, test in bound.policies if test(request, connection)), None)
        verdict = Verdict((held is not None) is (bound.action is model.Action.ALLOW), held or "")
        if not verdict.allowed:
            return verdict
    return verdict


def _policy(policy: model.Policy) -> Test:
    permissions, principals = _any([*map(_bind, policy.permissions)]), _any([*map(_bind, policy.principals)])
    return lambda request, connection: permissions(request, connection) and principals(request, connection)


def _any(tests: Sequence[Test]) -> Test:
    return lambda request, connection: any(test(request, connection) for test in tests)


def _all(tests: Sequence[Test]) -> Test:
    return lambda request, connection: all(test(request, connection) for test in tests)


def _bind(rule: model.Rule) -> Test:
    return _BINDERS[type(rule)](rule)


def _not(rule: model.Not) -> Test:
    test = _bind(rule.rule)
    return lambda request, connection: not test(request, connection)


def _header(rule: model.HeaderIs) -> Test:
    (clause,) = bind(RouteMatch(headers=(rule.match,)))
    return lambda request, _: clause.test(request, _NO_DRAW)


_NO_DRAW = random.Random(0)  # noqa: S311 - conditions on headers draw nothing


def _path(rule: model.PathIs) -> Test:
    test = bind_text(rule.match)
    return lambda request, _: test(request.path.partition("?")[0])


def _address(rule: model.Address) -> Test:
    network = ipaddress.ip_network(rule.network)
    read = _ADDRESSES[rule.which]

    def test(_: Request, connection: Connection) -> bool:
        try:
            return ipaddress.ip_address(read(connection)) in network
        except ValueError:
            return False

    return test


_ADDRESSES: dict[str, Callable[[Connection], str]] = {
    "destination": lambda connection: connection.destination,
    "direct_remote": lambda connection: connection.direct_remote,
    "remote": lambda connection: connection.remote or connection.direct_remote,
}


def _port(rule: model.DestinationPort) -> Test:
    return lambda _, connection: rule.start <= connection.destination_port < rule.end


def _server_name(rule: model.ServerNameIs) -> Test:
    test = bind_text(rule.match)
    return lambda _, connection: test(connection.server_name)


def _authenticated(rule: model.AuthenticatedAs) -> Test:
    """Without a certificate the peer's name over TLS is the empty text."""
    if rule.match is None:
        return lambda _, connection: connection.tls and connection.certificate
    test = bind_text(rule.match)

    def named(_: Request, connection: Connection) -> bool:
        if not connection.tls:
            return False
        return any(map(test, (*connection.uri_sans, *connection.dns_sans, connection.subject)))

    return named


def _metadata(rule: model.MetadataIs) -> Test:
    test = _value(rule.value) if rule.value is not None else None

    def found(_: Request, connection: Connection) -> bool:
        value: Any = connection.metadata.get(rule.filter)
        for key in rule.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return (test is not None and test(value)) is not rule.invert

    return found


def _value(match: model.ValueMatch) -> Callable[[Any], bool]:
    if match.text is not None:
        text = bind_text(match.text)
        return lambda value: isinstance(value, str) and text(value)
    if match.number is not None:
        low, high = match.number
        return lambda value: _is_number(value) and (value == low if low == high else low <= value < high)
    if match.item is not None:
        item = _value(match.item)
        return lambda value: isinstance(value, list | tuple) and any(map(item, value))
    if match.either:
        tests = [_value(each) for each in match.either]
        return lambda value: any(test(value) for test in tests)
    if match.boolean is not None:
        return lambda value: value is match.boolean
    if match.present is not None:
        return lambda value: (value is not None) is match.present
    return lambda value: value is None and match.is_null


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_BINDERS: dict[type[Any], Callable[[Any], Test]] = {
    model.Anything: lambda _: lambda request, connection: True,
    model.AllOf: lambda rule: _all([*map(_bind, rule.rules)]),
    model.AnyOf: lambda rule: _any([*map(_bind, rule.rules)]),
    model.Not: _not,
    model.HeaderIs: _header,
    model.PathIs: _path,
    model.Address: _address,
    model.DestinationPort: _port,
    model.ServerNameIs: _server_name,
    model.AuthenticatedAs: _authenticated,
    model.MetadataIs: _metadata,
}
