"""All rules of a VirtualService, flattened for one client and port.

Source: Istio ``route.go`` (``BuildHTTPRoutesForVirtualService``): rules in order, each match a route of its own; a
catch-all ends the list, and what follows is never reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.config.compile.actions import Actions, fault_of
from meshlib.config.compile.cors import cors_of
from meshlib.config.compile.delegates import PlacedRule
from meshlib.config.compile.matches import inapplicable, is_catch_all, translate
from meshlib.config.resources.base import camel
from meshlib.config.resources.virtual_service import HTTPMatchRequest, HTTPRoute
from meshlib.model.informed import BUILT_IN
from meshlib.model.route import Forward, Route, RouteMatch, RouteOrigin, SkippedRule
from meshlib.model.snapshot import Client

if TYPE_CHECKING:
    from meshlib.config.compile.virtual_services import MeshRules

__all__ = ["flatten"]

_SET = ("redirect", "direct_response", "fault", "cors_policy", "rewrite", "headers", "mirror", "mirrors")
"""Fields that have an origin when they are set; a timeout and retries have one always."""


def flatten(
    rules: MeshRules, client: Client, port: int, actions: Actions
) -> tuple[tuple[Route, ...], tuple[SkippedRule, ...]]:
    """The routes that this client may take, and the matches that were left out with the reason."""
    routes: list[Route] = []
    skipped = [SkippedRule(lost.number, None, lost.name, lost.reason) for lost in rules.lost]
    ended = ""
    for placed in rules.http:
        index, rule = placed.number, placed.rule
        matches: list[tuple[int | None, HTTPMatchRequest | None]] = [*enumerate(rule.match)]
        for number, match in matches or [(None, None)]:
            name = _name(rule, match)
            reason = ended or (inapplicable(match, client, port) if match is not None else None)
            if reason:
                skipped.append(SkippedRule(index, number, name, reason))
                continue
            routes.append(_route(rules, placed, number, match, actions, port))
            if match is None or is_catch_all(match):
                ended = f"rule {index} before it matches everything"
    return tuple(routes), tuple(sorted(skipped, key=lambda each: each.rule))


def _name(rule: HTTPRoute, match: HTTPMatchRequest | None) -> str:
    return ".".join(part for part in (rule.name, match.name if match is not None else "") if part)


def _route(
    rules: MeshRules,
    placed: PlacedRule,
    number: int | None,
    match: HTTPMatchRequest | None,
    actions: Actions,
    port: int,
) -> Route:
    rule = placed.rule
    action, requests, responses = actions.translate(rule, port)
    origin = RouteOrigin(
        placed.number,
        number,
        rules.objects[0],
        tuple(_values(placed, actions, forwards=isinstance(action, Forward))),
        tuple(_notes(placed)),
    )
    return Route(
        _name(rule, match),
        RouteMatch() if match is None else translate(match, segments=rules.gateway_semantics),
        action,
        fault_of(rule.fault),
        requests,
        responses,
        origin,
        cors_of(rule.cors_policy),
    )


def _values(placed: PlacedRule, actions: Actions, *, forwards: bool) -> Iterator[tuple[str, str]]:
    if forwards:
        yield "timeout", placed.origin("timeout") if placed.rule.timeout is not None else BUILT_IN
        yield "retries", placed.origin("retries") if placed.rule.retries is not None else actions.retry_origin
    for field in _SET:
        if getattr(placed.rule, field):
            yield camel(field), placed.origin(field)


def _notes(placed: PlacedRule) -> Iterator[str]:
    if placed.delegate:
        yield f"the rule is lent by {placed.delegate}"
    several = len(placed.rule.route) > 1
    for entry in placed.rule.route:
        to = entry.destination
        if several and to is not None and entry.weight <= 0:
            subset = f" subset {to.subset}" if to.subset else ""
            yield f"destination {to.host}{subset} has weight 0"
