"""Which ClientPolicy is in force for a cluster, and what it says there.

The look-up is a DestinationRule's: the client's namespace, the service's, the root's; in each the most specific host;
no inheritance between the three. Several policies for one host of one namespace complete each other, field by field:
one that names the subset goes before one that does not, then the older.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from meshlib.config.compile.registry import age
from meshlib.config.resources import client_policy as api
from meshlib.config.resources.base import Resource
from meshlib.model import client_policy as model
from meshlib.model.hosts import HostIndex, expand
from meshlib.model.policy import RetryBudget

__all__ = ["ClientPolicies", "Found"]

_Policy = Resource[api.ClientPolicySpec]
_FIELDS = ("circuit_breaker", "retry_budget", "health_check", "rate_limit", "hedge", "faults_below_retries")
_UNIT_SECONDS = {
    api.RateLimitUnit.SECOND: 1,
    api.RateLimitUnit.MINUTE: 60,
    api.RateLimitUnit.HOUR: 3600,
    api.RateLimitUnit.DAY: 86400,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What is in force.

    Attributes:
        policy: For the cluster.
        retry_budget: Takes the place of the DestinationRule's, None leaves that.
        origins: Field, in the object's spelling -> object and field that it came from.
    """

    policy: model.ClientPolicy = model.NO_CLIENT_POLICY
    retry_budget: RetryBudget | None = None
    origins: tuple[tuple[str, str], ...] = ()


class ClientPolicies:
    """All ClientPolicies, by namespace and host."""

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, domain: str) -> None:
        self._by_namespace: defaultdict[str, HostIndex[_Policy]] = defaultdict(HostIndex)
        for resource in sorted((r for r in resources if r.kind == "ClientPolicy"), key=age):
            own = resource.metadata.namespace or namespace
            for host in dict.fromkeys(expand(host, own, domain) for host in resource.spec.hosts):
                self._by_namespace[own].add(host, resource)

    def find(self, host: str, subset: str, namespaces: Iterable[str]) -> Found:
        """What holds for a subset (``""`` for the whole service) of ``host``.

        Args:
            host: Full name of the service.
            subset: Subset name.
            namespaces: The client's, the service's, the root's.
        """
        for namespace in dict.fromkeys(namespaces):
            index = self._by_namespace.get(namespace)
            known = index.best(host) if index is not None else []
            mine = [policy for policy in known if not policy.spec.subsets or subset in policy.spec.subsets]
            if mine:
                return _combined(sorted(mine, key=lambda policy: not policy.spec.subsets))
        return Found()


def _combined(policies: list[_Policy]) -> Found:
    chosen = {name: next(_saying(policies, name), None) for name in _FIELDS}
    values = {name: getattr(policy.spec, name) for name, policy in chosen.items() if policy is not None}
    budget, hedge = values.get("retry_budget"), values.get("hedge")
    policy = model.ClientPolicy(
        _breaker(values.get("circuit_breaker")),
        _health_check(values.get("health_check")),
        _rate_limit(values.get("rate_limit")),
        _hedge(hedge),
        bool(values.get("faults_below_retries")),
    )
    retry_budget = None if budget is None else RetryBudget(budget.percent / 100, budget.min_concurrency)
    origins = tuple((_spelled(n), f"{p.id} spec.{_spelled(n)}") for n, p in chosen.items() if p is not None)
    return Found(policy, retry_budget, origins)


def _saying(policies: list[_Policy], name: str) -> Iterator[_Policy]:
    return (p for p in policies if name in p.spec.model_fields_set and getattr(p.spec, name) is not None)


def _spelled(name: str) -> str:
    return api.ClientPolicySpec.model_fields[name].alias or name


def _breaker(given: api.CircuitBreaker | None) -> model.ErrorBreaker | None:
    if given is None:
        return None
    return model.ErrorBreaker(
        given.consecutive_errors or 0,
        given.error_rate or 0.0,
        given.window,
        given.min_requests,
        given.open_for,
        given.half_open_requests,
        model.BreakerScope[given.scope.name],
    )


def _health_check(given: api.HealthCheck | None) -> model.HealthCheck | None:
    if given is None:
        return None
    check = model.HealthCheck(
        port=given.port,
        interval=given.interval,
        timeout=given.timeout,
        unhealthy_threshold=given.unhealthy_threshold,
        healthy_threshold=given.healthy_threshold,
    )
    http = given.http or (api.HttpCheck(path=given.path) if given.path is not None else None)
    if http is not None:
        return replace(
            check,
            kind=model.ProbeKind.HTTP,
            path=http.path,
            method=http.method,
            host=http.host,
            headers=tuple(http.headers.items()),
            statuses=frozenset(http.expected_statuses),
        )
    if given.grpc is not None:
        return replace(check, kind=model.ProbeKind.GRPC, host=given.grpc.authority, service=given.grpc.service)
    return replace(check, kind=model.ProbeKind.TCP) if given.tcp is not None else None


def _rate_limit(given: api.RateLimit | None) -> model.RateLimit | None:
    if given is None:
        return None
    rate = given.requests_per_unit / _UNIT_SECONDS[given.unit]
    burst = given.requests_per_unit if given.burst is None else given.burst
    return model.RateLimit(rate, max(1, burst), tuple(_key(part) for part in given.by))


def _key(part: api.RateLimitKey) -> model.RateLimitKey:
    named = (("header", "HEADER"), ("query_param", "QUERY"), ("cookie", "COOKIE"), ("label", "LABEL"))
    for name, source in named:
        value = getattr(part, name)
        if value is not None:
            return model.RateLimitKey(model.KeySource[source], value.lower() if name == "header" else value)
    source = "PATH" if part.path else "METHOD" if part.method else "HOST"
    return model.RateLimitKey(model.KeySource[source])


def _hedge(given: api.Hedge | None) -> model.Hedge | None:
    if given is None or given.after is None or given.max_attempts < 2:
        return None
    return model.Hedge(given.after, given.max_attempts, frozenset(method.upper() for method in given.methods))
