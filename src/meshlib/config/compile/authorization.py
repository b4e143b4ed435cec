"""AuthorizationPolicies as the RBAC filters that istiod makes of them.

A rule becomes a policy of its filter: one permission for each ``to`` and one principal for each ``from``, with the
conditions of ``when`` in whichever of the two they belong to. Filters are asked in the order CUSTOM, DENY, ALLOW.
Nobody here asks an external authorizer, so that what CUSTOM covers is refused, as where a provider cannot be used.

Source: Istio ``pilot/pkg/security/authz/builder`` and ``model``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from meshlib.config.compile.access_terms import Terms, permission, principal
from meshlib.config.compile.security_policies import AppliedPolicies, AuthorizationPolicy, is_tried_without_effect
from meshlib.config.resources import security as api
from meshlib.model.rbac import Action, AllOf, Anything, Not, Policy, Rbac, Tables

__all__ = ["authorization_filters"]


def authorization_filters(
    applied: AppliedPolicies, trust_domains: Sequence[str] = ("cluster.local",), *, tcp: bool = False
) -> tuple[Rbac, ...]:
    """The filters of a workload, in the order in which they are asked; all must let a request pass.

    Args:
        applied: The policies that are for the workload.
        trust_domains: The mesh's own trust domain, then its aliases.
        tcp: For connections that are not HTTP: an ALLOW rule that asks for attributes of HTTP is left out, any other
            loses those attributes and so covers more.
    """
    terms = Terms(tuple(trust_domains), tcp)
    asked = ((applied.deny, Action.DENY), (applied.allow, Action.ALLOW), (applied.audit, Action.LOG))
    own = (_filter(policies, action, terms) for policies, action in asked if policies)
    return (*_refusals(applied.custom, terms), *own)


def _refusals(policies: Sequence[AuthorizationPolicy], terms: Terms) -> Iterable[Rbac]:
    """What an external authorizer would have to be asked for is refused, provider by provider."""
    providers = sorted({policy.spec.provider.name if policy.spec.provider else "" for policy in policies})
    for provider in providers:
        own = [policy for policy in policies if (policy.spec.provider.name if policy.spec.provider else "") == provider]
        tables = _tables(own, Action.DENY, terms)
        if tables is not None and tables.policies:
            renamed = (replace(policy, name=_REFUSED.format(provider, policy.name)) for policy in tables.policies)
            yield Rbac(Tables(Action.DENY, tuple(renamed)))


_REFUSED = "istio-ext-authz-{}-{}-deny-due-to-bad-CUSTOM-action"
"""istiod's name of a policy whose provider cannot be asked."""


def _filter(policies: Sequence[AuthorizationPolicy], action: Action, terms: Terms) -> Rbac:
    enforced = [policy for policy in policies if not is_tried_without_effect(policy)]
    tried = [policy for policy in policies if is_tried_without_effect(policy)]
    return Rbac(_tables(enforced, action, terms), _tables(tried, action, terms))


def _tables(policies: Sequence[AuthorizationPolicy], action: Action, terms: Terms) -> Tables | None:
    if not policies:
        return None
    found = [made for policy in policies for made in _policies(policy, action, terms)]
    return Tables(action, tuple(sorted(found, key=lambda policy: policy.name)))


def _policies(policy: AuthorizationPolicy, action: Action, terms: Terms) -> Iterable[Policy]:
    meta = policy.metadata
    name = f"ns[{meta.namespace or ''}]-policy[{meta.name}]-rule"
    if not policy.spec.rules:
        yield Policy(f"{name}[0]", (Not(Anything()),), (Not(Anything()),))
    for number, rule in enumerate(policy.spec.rules):
        made = _rule(rule, meta.namespace or "", action, terms)
        if made is not None:
            yield Policy(f"{name}[{number}]", *made)


def _rule(
    rule: api.Rule, namespace: str, action: Action, terms: Terms
) -> tuple[tuple[AllOf, ...], tuple[AllOf, ...]] | None:
    """Permissions and principals; None for a rule that can never hold here."""
    if terms.tcp and action is Action.ALLOW and _asks_for_http(rule):
        return None
    permissions = tuple(
        AllOf(tuple(permission(to.operation, rule.when, terms)) or (Anything(),)) for to in rule.to or [api.RuleTo()]
    )
    principals = tuple(
        AllOf(tuple(principal(source.source, rule.when, namespace, terms)) or (Anything(),))
        for source in rule.from_ or [api.RuleFrom()]
    )
    return permissions, principals


_HTTP_SOURCE = ("request_principals", "not_request_principals")
_HTTP_OPERATION = ("hosts", "not_hosts", "methods", "not_methods", "paths", "not_paths")


def _asks_for_http(rule: api.Rule) -> bool:
    asked = [getattr(each.source, name) for each in rule.from_ if each.source for name in _HTTP_SOURCE]
    asked += [getattr(each.operation, name) for each in rule.to if each.operation for name in _HTTP_OPERATION]
    return any(asked) or any(condition.key.startswith("request.") for condition in rule.when)
