"""Validation of AuthorizationPolicy. Source: Istio ``pkg/config/validation`` and ``pkg/config/security``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshlib.config.resources import security as api
from meshlib.config.validation import authorization_values as values
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import policy_target

__all__ = ["authorization_policy"]

_DRY_RUN = "istio.io/dry-run"
_BOOLEANS = frozenset({"1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"})

_Check = Callable[[Sequence[str]], str | None]

_SOURCE: dict[str, tuple[str, _Check]] = {
    "principals": ("Principals", values.filled),
    "request_principals": ("RequestPrincipals", values.filled),
    "namespaces": ("Namespaces", values.filled),
    "service_accounts": ("ServiceAccounts", values.service_accounts),
    "ip_blocks": ("IpBlocks", values.ips),
    "remote_ip_blocks": ("RemoteIpBlocks", values.ips),
    "trust_domains": ("TrustDomains", values.trust_domains),
}
_OPERATION: dict[str, tuple[str, _Check]] = {
    "hosts": ("Hosts", values.filled),
    "ports": ("Ports", values.ports),
    "methods": ("Methods", values.filled),
    "paths": ("Paths", values.paths),
}
_NOT_ASKED_OUTSIDE = ("namespaces", "service_accounts", "trust_domains", "principals", "request_principals")
_KEYS_NOT_ASKED_OUTSIDE = frozenset(
    {"source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"}
)


def authorization_policy(report: Report, spec: api.AuthorizationPolicySpec) -> None:
    """Everything about an AuthorizationPolicy that one object shows."""
    policy_target(report, spec)
    _dry_run(report, spec.action)
    _action(report, spec)
    for number, rule in enumerate(spec.rules):
        path = f"spec.rules[{number}]"
        _rule(report, rule, path)
        if spec.action is api.AuthorizationAction.CUSTOM:
            _outside(report, rule, path)
        if spec.action is api.AuthorizationAction.DENY and _only_http(rule):
            report.warn(path, "on TCP ports this rule denies everything: it names HTTP attributes and no port")


def _dry_run(report: Report, action: api.AuthorizationAction) -> None:
    value = report.resource.metadata.annotations.get(_DRY_RUN)
    if value is None:
        return
    path = f"metadata.annotations.{_DRY_RUN}"
    if action not in (api.AuthorizationAction.ALLOW, api.AuthorizationAction.DENY):
        report.error(path, f"only ALLOW and DENY can be tried without effect, not {action}")
    elif value not in _BOOLEANS:
        report.error(path, f"{value!r} is neither 'true' nor 'false'")


def _action(report: Report, spec: api.AuthorizationPolicySpec) -> None:
    custom = spec.action is api.AuthorizationAction.CUSTOM
    if (custom or spec.action is api.AuthorizationAction.DENY) and not spec.rules:
        report.error("spec.rules", f"{spec.action} without rules never matches; an empty rule '{{}}' always does")
    elif custom and not (spec.provider and spec.provider.name):
        report.error("spec.provider.name", "CUSTOM needs the name of an extension provider")
    if spec.provider is not None and not custom:
        report.error("spec.provider", f"a provider goes with CUSTOM, not with {spec.action}")


def _rule(report: Report, rule: api.Rule, path: str) -> None:
    for name, spelled, entries in (("from_", "from", rule.from_), ("to", "to", rule.to)):
        if name in rule.model_fields_set and not entries:
            report.error(f"{path}.{spelled}", "the list is empty: leave it out to mean anything")
    for number, entry in enumerate(rule.from_):
        _fields(report, entry.source, _SOURCE, f"{path}.from[{number}].source")
        if entry.source is not None:
            _identities(report, entry.source, f"{path}.from[{number}].source")
    for number, target in enumerate(rule.to):
        _fields(report, target.operation, _OPERATION, f"{path}.to[{number}].operation")
    for number, condition in enumerate(rule.when):
        _condition(report, condition, f"{path}.when[{number}]")


def _fields(
    report: Report, given: api.Source | api.Operation | None, checks: dict[str, tuple[str, _Check]], path: str
) -> None:
    """Every list of a source or an operation and its ``not`` twin; at least one must say something."""
    if given is None or not any(getattr(given, prefix + name) for name in checks for prefix in ("", "not_")):
        report.error(path, "at least one field is needed")
        return
    for name, (spelled, check) in checks.items():
        for prefix, shown in (("", spelled[0].lower() + spelled[1:]), ("not_", f"not{spelled}")):
            report.refuse(f"{path}.{shown}", check(getattr(given, prefix + name)))


def _identities(report: Report, source: api.Source, path: str) -> None:
    accounts = source.service_accounts or source.not_service_accounts
    others = source.principals or source.not_principals or source.namespaces or source.not_namespaces
    if accounts and others:
        report.error(path, "serviceAccounts do not go with principals or namespaces")


def _condition(report: Report, condition: api.Condition, path: str) -> None:
    if not condition.key:
        report.error(f"{path}.key", "key is required")
    elif not condition.values and not condition.not_values:
        report.error(path, f"one of values and notValues is needed for {condition.key!r}")
    else:
        problem = values.condition(condition.key, [*condition.values, *condition.not_values])
        report.refuse(path, problem)


def _outside(report: Report, rule: api.Rule, path: str) -> None:
    """What an external authorizer is asked before anything about the caller's identity is known."""
    for number, entry in enumerate(rule.from_):
        for name in _NOT_ASKED_OUTSIDE:
            if entry.source is not None and (getattr(entry.source, name) or getattr(entry.source, f"not_{name}")):
                report.error(f"{path}.from[{number}].source", f"{name} are not supported with CUSTOM")
    for number, condition in enumerate(rule.when):
        if condition.key in _KEYS_NOT_ASKED_OUTSIDE or condition.key.startswith("request.auth."):
            report.error(f"{path}.when[{number}].key", f"{condition.key!r} is not supported with CUSTOM")


_TCP_SOURCES = frozenset(
    f"{prefix}{name}"
    for name in ("principals", "ip_blocks", "namespaces", "remote_ip_blocks", "service_accounts")
    for prefix in ("", "not_")
)


def _only_http(rule: api.Rule) -> bool:
    """Whether a rule looks at nothing that a TCP connection has; of such a rule TCP ports see the bare denial."""
    sources = [entry.source for entry in rule.from_ if entry.source is not None]
    operations = [entry.operation for entry in rule.to if entry.operation is not None]
    if operations:
        return not any({"ports", "not_ports"} & operation.model_fields_set for operation in operations)
    return bool(sources) and not any(_TCP_SOURCES & source.model_fields_set for source in sources)
