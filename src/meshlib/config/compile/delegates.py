"""Delegates: a VirtualService without hosts lends its rules to a rule of another.

Source: Istio ``virtualservice.go`` (``mergeVirtualServicesIfNeeded``): each delegate rule is combined with the root
rule, matches that contradict each other are dropped, and a delegate rule with a match that fits no root match goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from meshlib.config.compile.visibility import visible
from meshlib.config.resources.base import Resource, camel
from meshlib.config.resources.virtual_service import HTTPMatchRequest, HTTPRoute, StringMatch, VirtualServiceSpec

__all__ = ["LostRule", "PlacedRule", "with_delegates"]

_OVERRIDES = (
    "rewrite",
    "direct_response",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirror_percent",
    "mirror_percentage",
    "mirrors",
    "cors_policy",
    "headers",
)
_TEXTS = ("uri", "scheme", "method", "authority")
_MAPS = ("headers", "without_headers", "query_params", "source_labels")


class PlacedRule(NamedTuple):
    """A rule with the place that it came from.

    Attributes:
        number: Of the rule in ``spec.http`` of the object that names the host.
        rule: The rule, a delegate's merged in.
        place: ``VirtualService default/reviews spec.http[0]``.
        delegate: The same of the delegate, ``""`` for none.
        lent: Fields whose value is the delegate's.
    """

    number: int
    rule: HTTPRoute
    place: str
    delegate: str = ""
    lent: frozenset[str] = frozenset()

    def origin(self, field: str) -> str:
        """The object and field that ``field`` came from."""
        return f"{self.delegate if field in self.lent else self.place}.{camel(field)}"


class LostRule(NamedTuple):
    """A rule that vanished with its delegate, and why."""

    number: int
    name: str
    reason: str


def with_delegates(
    root: Resource[VirtualServiceSpec],
    namespace: str,
    delegates: Mapping[tuple[str, str], Resource[VirtualServiceSpec]],
    default_export: Sequence[str],
) -> Iterator[PlacedRule | LostRule]:
    """The rules of ``root`` in order; one that delegates is replaced by the delegate's rules, or vanishes."""
    for number, rule in enumerate(root.spec.http):
        place = f"VirtualService {namespace}/{root.metadata.name} spec.http[{number}]"
        if rule.delegate is None:
            yield PlacedRule(number, rule, place)
            continue
        own = rule.delegate.namespace or namespace
        found = delegates.get((own, rule.delegate.name))
        if found is None or not visible(found.spec.export_to or default_export, own, namespace):
            why = "does not exist" if found is None else f"is not exported to {namespace}"
            yield LostRule(number, rule.name, f"delegate {own}/{rule.delegate.name} {why}")
            continue
        yield from _lent(number, rule, place, f"{own}/{found.metadata.name}", found.spec.http)


def _lent(
    number: int, root: HTTPRoute, place: str, delegate: str, rules: Sequence[HTTPRoute]
) -> Iterator[PlacedRule | LostRule]:
    for index, rule in enumerate(rules):
        where = f"VirtualService {delegate} spec.http[{index}]"
        name = _joined(root.name, rule.name)
        merged = _merged(root, rule) if rule.delegate is None else None
        if rule.delegate is not None:
            yield LostRule(number, name, f"{where} delegates again")
        elif merged is None:
            yield LostRule(number, name, f"a match of {where} fits none of the rule's own")
        else:
            lent = frozenset(field for field in (*_OVERRIDES, "route", "redirect") if getattr(rule, field))
            yield PlacedRule(number, merged, place, where, lent)


def _merged(root: HTTPRoute, rule: HTTPRoute) -> HTTPRoute | None:
    matches = _matches(root.match, rule.match)
    if matches is None:
        return None
    changes: dict[str, Any] = {"match": matches, "name": _joined(root.name, rule.name)}
    for field in _OVERRIDES:
        value = getattr(rule, field)
        changes[field] = value if value not in (None, []) else getattr(root, field)
    return rule.model_copy(update=changes)


def _joined(root: str, own: str) -> str:
    return "-".join(part for part in (root, own) if part)


def _matches(roots: Sequence[HTTPMatchRequest], own: Sequence[HTTPMatchRequest]) -> list[HTTPMatchRequest] | None:
    """The combined matches; None when one of the delegate's fits none of the root's."""
    if not roots or not own:
        return [*roots, *own]
    combined: list[HTTPMatchRequest] = []
    for match in own:
        fitting = [_combined(root, match) for root in roots if not _conflict(root, match)]
        if not fitting:
            return None
        combined.extend(fitting)
    return combined


def _conflict(root: HTTPMatchRequest, own: HTTPMatchRequest) -> bool:
    if root.uri is not None and own.uri is not None and root.ignore_uri_case != own.ignore_uri_case:
        return True
    if any(_texts_conflict(getattr(root, field), getattr(own, field)) for field in _TEXTS):
        return True
    for field in ("headers", "without_headers", "query_params"):
        theirs, ours = getattr(root, field), getattr(own, field)
        if any(_texts_conflict(theirs[key], ours[key]) for key in theirs.keys() & ours.keys()):
            return True
    return _filters_conflict(root, own)


def _filters_conflict(root: HTTPMatchRequest, own: HTTPMatchRequest) -> bool:
    if root.port and own.port and root.port != own.port:
        return True
    if root.source_namespace and own.source_namespace and root.source_namespace != own.source_namespace:
        return True
    shared = root.source_labels.keys() & own.source_labels.keys()
    if any(root.source_labels[key] != own.source_labels[key] for key in shared):
        return True
    return bool(root.gateways and own.gateways) and not set(own.gateways) <= set(root.gateways)


def _texts_conflict(root: StringMatch | None, own: StringMatch | None) -> bool:
    if root is None or own is None or root == StringMatch() or own == StringMatch():
        return False
    if root.regex is not None or own.regex is not None:
        return True
    if root.exact is not None:
        return own.exact != root.exact
    text = own.exact if own.exact is not None else own.prefix or ""
    return not text.startswith(root.prefix or "")


def _combined(root: HTTPMatchRequest, own: HTTPMatchRequest) -> HTTPMatchRequest:
    changes: dict[str, Any] = {"name": _joined(root.name, own.name)}
    for field in (*_TEXTS, "port", "source_namespace", "gateways", "stat_prefix"):
        changes[field] = getattr(own, field) or getattr(root, field)
    for field in _MAPS:
        changes[field] = {**getattr(root, field), **getattr(own, field)}
    changes["ignore_uri_case"] = root.ignore_uri_case or own.ignore_uri_case
    return own.model_copy(update=changes)
