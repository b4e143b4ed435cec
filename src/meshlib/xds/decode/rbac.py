"""RBAC filters off the wire.

A condition that cannot be asked refuses the filter: leaving one out would let somebody in, or keep somebody out.

Source: Envoy ``config/rbac/v3/rbac.proto``, ``type/matcher/v3``; gRFC A41; uri templates: ``UriTemplateMatchConfig``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from meshlib.model import rbac as model
from meshlib.model.match import HeaderMatch, MatchKind, StringMatch
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.matches import header_match, string_match
from meshlib.xds.decode.values import read, unpack
from meshlib.xds.messages import http_rbac_pb2, network_rbac_pb2, rbac_pb2, uri_template_match_pb2

__all__ = ["decode_rbac", "rbac", "rules"]

_HARMLESS = {"shadow_rules_stat_prefix", "rules_stat_prefix", "stat_prefix", "enforcement_type"}
_KNOWN = {"rules", "shadow_rules"}


def decode_rbac(resource: Any, profile: Profile = Profile.HTTP) -> Decoded[model.Rbac]:
    """An RBAC filter (HTTP or network), or the bare ``config.rbac.v3.RBAC``, of a message or protobuf JSON.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    findings = Findings(profile)
    place = Place(findings)
    kind = _kind(resource)
    message = read(resource, kind)
    found = model.Rbac(rules(message, place)) if kind is rbac_pb2.RBAC else rbac(message, place)
    return findings.close("RBAC", "", found)


def _kind(resource: Any) -> Any:
    for kind in (http_rbac_pb2.RBAC, network_rbac_pb2.RBAC):
        name = kind.DESCRIPTOR.full_name
        if isinstance(resource, kind) or (
            isinstance(resource, dict) and resource.get("@type", "").endswith(f"/{name}")
        ):
            return kind
    return rbac_pb2.RBAC


def rbac(message: Any, at: Place) -> model.Rbac:
    """A filter's configuration."""
    at.only(message, {*_KNOWN, *_HARMLESS})
    return model.Rbac(
        rules(message.rules, at.field("rules")) if message.HasField("rules") else None,
        rules(message.shadow_rules, at.field("shadow_rules")) if message.HasField("shadow_rules") else None,
    )


def rules(message: Any, at: Place) -> model.Tables:
    """A ``config.rbac.v3.RBAC``."""
    at.only(message, {"action", "policies"})
    names = sorted(message.policies)
    return model.Tables(
        model.Action(rbac_pb2.RBAC.Action.Name(message.action)),
        tuple(_policy(name, message.policies[name], at.field("policies", name)) for name in names),
    )


def _policy(name: str, message: Any, at: Place) -> model.Policy:
    for field in ("condition", "checked_condition", "cel_config"):
        if message.HasField(field):
            at.field(field).error("CEL conditions are not evaluated")
    if not message.permissions or not message.principals:
        at.error("needs a permission and a principal")
    permissions = enumerate(message.permissions)
    principals = enumerate(message.principals)
    return model.Policy(
        name,
        tuple(_permission(each, at.field("permissions", number)) for number, each in permissions),
        tuple(_principal(each, at.field("principals", number)) for number, each in principals),
    )


def _several(items: Any, one: Callable[[Any, Place], model.Rule], at: Place) -> tuple[model.Rule, ...]:
    return tuple(one(each, at.item(number)) for number, each in enumerate(items))


def _permission(message: Any, at: Place) -> model.Rule:
    kind = message.WhichOneof("rule")
    place = at.field(kind or "rule")
    if kind == "and_rules":
        return model.AllOf(_several(message.and_rules.rules, _permission, place.field("rules")))
    if kind == "or_rules":
        return model.AnyOf(_several(message.or_rules.rules, _permission, place.field("rules")))
    if kind == "not_rule":
        return model.Not(_permission(message.not_rule, place))
    if kind == "destination_ip":
        return _address("destination", message.destination_ip, place)
    if kind == "destination_port":
        return model.DestinationPort(message.destination_port, message.destination_port + 1)
    if kind == "destination_port_range":
        return model.DestinationPort(message.destination_port_range.start, message.destination_port_range.end)
    if kind == "requested_server_name":
        return model.ServerNameIs(string_match(message.requested_server_name, place))
    if kind == "uri_template":
        return _uri_template(message.uri_template, place)
    return _either(message, kind, place)


def _principal(message: Any, at: Place) -> model.Rule:
    kind = message.WhichOneof("identifier")
    place = at.field(kind or "identifier")
    if kind == "and_ids":
        return model.AllOf(_several(message.and_ids.ids, _principal, place.field("ids")))
    if kind == "or_ids":
        return model.AnyOf(_several(message.or_ids.ids, _principal, place.field("ids")))
    if kind == "not_id":
        return model.Not(_principal(message.not_id, place))
    if kind in ("source_ip", "direct_remote_ip"):
        return _address("direct_remote", getattr(message, kind), place)
    if kind == "remote_ip":
        return _address("remote", message.remote_ip, place)
    if kind == "authenticated":
        name = message.authenticated
        match = string_match(name.principal_name, place) if name.HasField("principal_name") else None
        return model.AuthenticatedAs(match)
    return _either(message, kind, place)


def _either(message: Any, kind: str | None, at: Place) -> model.Rule:
    """What permissions and principals have in common."""
    if kind == "any":
        if not message.any:
            at.error("must be true")
        return model.Anything()
    if kind == "header":
        return model.HeaderIs(_header(message.header, at))
    if kind == "url_path":
        return model.PathIs(string_match(message.url_path.path, at.field("path")))
    if kind == "metadata":
        return _metadata(message.metadata, at)
    at.error("is missing" if kind is None else "cannot be asked here")
    return model.Not(model.Anything())


def _header(message: Any, at: Place) -> HeaderMatch:
    match = header_match(message, at)
    if at.is_grpc and (match.name == ":scheme" or match.name.startswith("grpc-")):
        at.error(f"gRPC does not match on {match.name}")
    name = ":authority" if match.name == "host" else match.name
    return HeaderMatch(name, match.value, match.invert, match.missing_as_empty, match.joined)


def _address(which: str, message: Any, at: Place) -> model.Rule:
    prefix = message.prefix_len.value
    try:
        network = ipaddress.ip_network(f"{message.address_prefix}/{prefix}", strict=False)
    except ValueError as error:
        at.error(str(error))
        return model.Not(model.Anything())
    return model.Address(which, str(network))


def _uri_template(message: Any, at: Place) -> model.Rule:
    config = unpack(message.typed_config, _TEMPLATES, at)
    if config is None:
        at.error("cannot be asked here")
        return model.Not(model.Anything())
    return model.PathIs(StringMatch(MatchKind.REGEX, _template_regex(config.path_template)))


_TEMPLATES = {
    uri_template_match_pb2.UriTemplateMatchConfig.DESCRIPTOR.full_name: uri_template_match_pb2.UriTemplateMatchConfig
}
_HOLE = re.compile(r"\{(?:[^}=]*=)?([^}]*)\}|(\*\*?)")


def _template_regex(template: str) -> str:
    """``{name}`` and ``*`` are one segment, ``**`` any number of them, ``{name=pattern}`` what the pattern says."""
    pieces, end = [], 0
    for hole in _HOLE.finditer(template):
        inside = hole.group(2) or hole.group(1)
        pattern = inside if "*" in inside else "*"
        pieces.append(_literal(template[end : hole.start()]))
        pieces.extend({"**": ".*", "*": "[^/]+"}.get(part, _literal(part)) for part in re.split(r"(\*\*?)", pattern))
        end = hole.end()
    return "".join([*pieces, _literal(template[end:])])


def _literal(text: str) -> str:
    return "".join(each if each.isalnum() or each in "/-_" else f"\\x{{{ord(each):x}}}" for each in text)


def _metadata(message: Any, at: Place) -> model.MetadataIs:
    path = tuple(segment.key for segment in message.path)
    value = _value(message.value, at.field("value")) if message.HasField("value") else None
    return model.MetadataIs(message.filter, path, value, message.invert)


def _value(message: Any, at: Place) -> model.ValueMatch:
    kind = message.WhichOneof("match_pattern")
    place = at.field(kind or "match_pattern")
    if kind == "string_match":
        return model.ValueMatch(text=string_match(message.string_match, place))
    if kind == "double_match":
        return model.ValueMatch(number=_interval(message.double_match))
    if kind == "bool_match":
        return model.ValueMatch(boolean=message.bool_match)
    if kind == "present_match":
        return model.ValueMatch(present=message.present_match)
    if kind == "list_match":
        return model.ValueMatch(item=_value(message.list_match.one_of, place.field("one_of")))
    if kind == "or_match":
        matchers = enumerate(message.or_match.value_matchers)
        return model.ValueMatch(either=tuple(_value(each, place.item(number)) for number, each in matchers))
    if kind is None:
        at.error("no condition on the value")
    return model.ValueMatch(is_null=True)


def _interval(message: Any) -> tuple[float, float]:
    """The half-open interval that a number lies in; an exact number is one of no length."""
    if message.WhichOneof("match_pattern") == "exact":
        return message.exact, message.exact
    return message.range.start, message.range.end
