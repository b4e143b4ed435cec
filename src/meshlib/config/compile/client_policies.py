"""Which ClientPolicy is in force for a cluster, and what it says there.

The look-up is a DestinationRule's: the client's namespace, the service's, the root's; in each the most specific host;
no inheritance between the three. Several policies for one host of one namespace complete each other, field by field:
one that names the subset goes before one that does not, then the older.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from meshlib.config.compile.registry import age
from meshlib.config.resources import client_policy as api
from meshlib.config.resources.base import Resource
from meshlib.config.resources.client_balancing import ClientLoadBalancer, StickyWeights
from meshlib.model import client_policy as model
from meshlib.model.hosts import HostIndex, expand
from meshlib.model.policy import RetryBudget

__all__ = ["ClientPolicies", "Found"]

_Policy = Resource[api.ClientPolicySpec]
_FIELDS = (
    "circuit_breaker",
    "retry_budget",
    "health_check",
    "rate_limit",
    "hedge",
    "faults_below_retries",
    "load_balancer",
    "sticky_weights",
)
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
        load_balancer: Is laid over the DestinationRule's, None leaves that.
        sticky_weights: What weighted destinations are drawn by, None draws at random.
        origins: Field, in the object's spelling -> object and field that it came from.
    """

    policy: model.ClientPolicy = model.NO_CLIENT_POLICY
    retry_budget: RetryBudget | None = None
    load_balancer: ClientLoadBalancer | None = None
    sticky_weights: StickyWeights | None = None
    origins: tuple[tuple[str, str], ...] = ()


class Names(NamedTuple):
    """By what names in a policy are understood: its namespace, the cluster domain, the labels of the client."""

    namespace: str
    domain: str
    labels: Mapping[str, str]


class ClientPolicies:
    """All ClientPolicies, by namespace and host."""

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, domain: str) -> None:
        self._domain = domain
        self._by_namespace: defaultdict[str, HostIndex[_Policy]] = defaultdict(HostIndex)
        for resource in sorted((r for r in resources if r.kind == "ClientPolicy"), key=age):
            own = resource.metadata.namespace or namespace
            for host in dict.fromkeys(expand(host, own, domain) for host in resource.spec.hosts):
                self._by_namespace[own].add(host, resource)

    def find(self, host: str, subset: str, namespaces: Iterable[str], labels: Mapping[str, str]) -> Found:
        """What holds for a subset (``""`` for the whole service) of ``host``.

        Args:
            host: Full name of the service.
            subset: Subset name.
            namespaces: The client's, the service's, the root's.
            labels: The client's.
        """
        for namespace in dict.fromkeys(namespaces):
            index = self._by_namespace.get(namespace)
            known = index.best(host) if index is not None else []
            mine = [policy for policy in known if not policy.spec.subsets or subset in policy.spec.subsets]
            if mine:
                completed = sorted(mine, key=lambda policy: not policy.spec.subsets)
                return _combined(completed, Names(namespace, self._domain, labels))
        return Found()


def _combined(policies: list[_Policy], names: Names) -> Found:
    chosen = {name: next(_saying(policies, name), None) for name in _FIELDS}
    values = {name: getattr(policy.spec, name) for name, policy in chosen.items() if policy is not None}
    budget, hedge = values.get("retry_budget"), values.get("hedge")
    policy = model.ClientPolicy(
        _breaker(values.get("circuit_breaker")),
        _health_check(values.get("health_check")),
        _rate_limit(chosen["rate_limit"], names),
        _hedge(hedge),
        bool(values.get("faults_below_retries")),
    )
    retry_budget = None if budget is None else RetryBudget(budget.percent / 100, budget.min_concurrency)
    origins = tuple((_spelled(n), f"{p.id} spec.{_spelled(n)}") for n, p in chosen.items() if p is not None)
    return Found(policy, retry_budget, values.get("load_balancer"), values.get("sticky_weights"), origins)


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


def _rate_limit(policy: _Policy | None, names: Names) -> model.RateLimit | None:
    """Tokens are added one by one, as often as makes the rate: the finest that Envoy's buckets can be set to."""
    given = policy.spec.rate_limit if policy is not None else None
    if policy is None or given is None:
        return None
    per_unit = given.requests_per_unit or 0
    return model.RateLimit(
        f"{policy.kind} {names.namespace}/{policy.metadata.name}",
        per_unit if given.burst is None or not per_unit else given.burst,
        1,
        _UNIT_SECONDS[given.unit] / per_unit if per_unit else 1.0,
        tuple(_key(part, names.labels) for part in given.by),
        _service(given.global_, names),
        given.when_limited is api.WhenLimited.RAISE,
    )


def _service(given: api.GlobalRateLimit | None, names: Names) -> model.RateLimitService | None:
    if given is None:
        return None
    host, _, port = given.service.rpartition(":")
    host = host.strip("[]")
    host = host if host == "localhost" else expand(host, names.namespace, names.domain)
    return model.RateLimitService(host, int(port), given.domain, given.timeout, given.fail_open)


_PARTS = (
    ("header", model.KeySource.HEADER),
    ("query_param", model.KeySource.QUERY),
    ("cookie", model.KeySource.COOKIE),
    ("label", model.KeySource.LABEL),
    ("path", model.KeySource.PATH),
    ("method", model.KeySource.METHOD),
    ("host", model.KeySource.HOST),
    ("generic_key", model.KeySource.GENERIC),
)


def _key(part: api.RateLimitKey, labels: Mapping[str, str]) -> model.RateLimitKey:
    field, source = next((field, source) for field, source in _PARTS if getattr(part, field))
    given = getattr(part, field)
    name = given if source in _NAMED else ""
    name = name.lower() if source is model.KeySource.HEADER else name
    value = labels.get(name, "") if source is model.KeySource.LABEL else part.generic_key or ""
    return model.RateLimitKey(source, name, value, part.descriptor_key or name or field)


_NAMED = frozenset({model.KeySource.HEADER, model.KeySource.QUERY, model.KeySource.COOKIE, model.KeySource.LABEL})


def _hedge(given: api.Hedge | None) -> model.Hedge | None:
    if given is None or given.after is None or given.max_attempts < 2:
        return None
    return model.Hedge(given.after, given.max_attempts, frozenset(method.upper() for method in given.methods))
