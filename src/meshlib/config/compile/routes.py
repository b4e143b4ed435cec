"""All rules of a VirtualService, flattened for one client and port.

Source: Istio ``route.go`` (``BuildHTTPRoutesForVirtualService``): rules in order, each match a route of its own; a
catch-all ends the list, and what follows is never reached.
"""

from __future__ import annotations

from meshlib.config.compile.actions import Actions, fault_of
from meshlib.config.compile.matches import inapplicable, is_catch_all, translate
from meshlib.config.compile.virtual_services import MeshRules
from meshlib.config.resources.virtual_service import HTTPMatchRequest, HTTPRoute
from meshlib.model.route import Route, RouteMatch, RouteOrigin, SkippedRule
from meshlib.model.snapshot import Client

__all__ = ["flatten"]

_ORIGINS = {"timeout": "timeout", "retries": "retries", "fault": "fault", "rewrite": "rewrite", "headers": "headers"}


def flatten(
    rules: MeshRules, client: Client, port: int, actions: Actions
) -> tuple[tuple[Route, ...], tuple[SkippedRule, ...]]:
    """The routes that this client may take, and the matches that were left out with the reason."""
    routes: list[Route] = []
    skipped: list[SkippedRule] = []
    ended = ""
    for index, rule in rules.http:
        matches: list[tuple[int | None, HTTPMatchRequest | None]] = [*enumerate(rule.match)]
        for number, match in matches or [(None, None)]:
            name = _name(rule, match)
            reason = ended or (inapplicable(match, client, port) if match is not None else None)
            if reason:
                skipped.append(SkippedRule(index, number, name, reason))
                continue
            routes.append(_route(rules, index, rule, number, match, actions, port))
            if match is None or is_catch_all(match):
                ended = f"rule {index} before it matches everything"
    return tuple(routes), tuple(skipped)


def _name(rule: HTTPRoute, match: HTTPMatchRequest | None) -> str:
    return ".".join(part for part in (rule.name, match.name if match is not None else "") if part)


def _route(
    rules: MeshRules,
    index: int,
    rule: HTTPRoute,
    number: int | None,
    match: HTTPMatchRequest | None,
    actions: Actions,
    port: int,
) -> Route:
    action, requests, responses = actions.translate(rule, port)
    field = f"{rules.resource.id} spec.http[{index}]"
    values = tuple((name, f"{field}.{name}") for name in _ORIGINS if getattr(rule, name) is not None)
    return Route(
        _name(rule, match),
        RouteMatch() if match is None else translate(match),
        action,
        fault_of(rule.fault),
        requests,
        responses,
        RouteOrigin(index, number, rules.resource.id, values),
    )
