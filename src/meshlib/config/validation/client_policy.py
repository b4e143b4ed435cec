"""Validation of ClientPolicy: bounds, and settings that contradict each other."""

from __future__ import annotations

from meshlib.config.resources import client_policy as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.client_balancing import load_balancer, sticky_weights
from meshlib.config.validation.report import Report

__all__ = ["client_policy"]

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH"})
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_KEY_PARTS = ("header", "query_param", "cookie", "label", "path", "method", "host", "generic_key")
_PARTS = (
    "circuit_breaker",
    "retry_budget",
    "health_check",
    "rate_limit",
    "hedge",
    "faults_below_retries",
    "load_balancer",
    "sticky_weights",
)


def client_policy(report: Report, spec: api.ClientPolicySpec) -> None:
    """Everything about a ClientPolicy that one object shows."""
    _hosts(report, spec)
    if not spec.model_fields_set.intersection(_PARTS):
        report.warn("spec", "the policy asks for nothing")
    if spec.circuit_breaker is not None:
        _circuit_breaker(report, spec.circuit_breaker, "spec.circuitBreaker")
    if spec.retry_budget is not None and not 0 <= spec.retry_budget.percent <= 100:
        report.error("spec.retryBudget.percent", f"{spec.retry_budget.percent:g} is not within 0..100")
    if spec.health_check is not None:
        _health_check(report, spec.health_check, "spec.healthCheck")
    if spec.rate_limit is not None:
        _rate_limit(report, spec.rate_limit, "spec.rateLimit")
    if spec.hedge is not None:
        _hedge(report, spec.hedge, "spec.hedge")
    if spec.load_balancer is not None:
        load_balancer(report, spec.load_balancer, "spec.loadBalancer")
    if spec.sticky_weights is not None:
        sticky_weights(report, spec.sticky_weights, "spec.stickyWeights")


def _hosts(report: Report, spec: api.ClientPolicySpec) -> None:
    if not spec.hosts:
        report.error("spec.hosts", "at least one host is needed")
    for number, host in enumerate(spec.hosts):
        report.refuse(f"spec.hosts[{number}]", check.wildcard_host(host))
        if host in spec.hosts[:number]:
            report.error(f"spec.hosts[{number}]", f"{host!r} stands twice")
    for number, subset in enumerate(spec.subsets):
        report.refuse(f"spec.subsets[{number}]", check.dns_label(subset))
        if subset in spec.subsets[:number]:
            report.error(f"spec.subsets[{number}]", f"{subset!r} stands twice")


def _least_one(report: Report, value: int | None, path: str) -> None:
    if value == 0:
        report.error(path, "0 is below the least value, 1")


def _circuit_breaker(report: Report, breaker: api.CircuitBreaker, path: str) -> None:
    if breaker.consecutive_errors is None and breaker.error_rate is None:
        report.error(path, "it can never open: one of consecutiveErrors and errorRate is needed")
    _least_one(report, breaker.consecutive_errors, f"{path}.consecutiveErrors")
    _least_one(report, breaker.min_requests, f"{path}.minRequests")
    _least_one(report, breaker.half_open_requests, f"{path}.halfOpenRequests")
    if breaker.error_rate is not None and not 0 < breaker.error_rate <= 1:
        report.error(f"{path}.errorRate", f"{breaker.error_rate:g} is not above 0 and at most 1")
    report.refuse(f"{path}.window", check.duration(breaker.window))
    report.refuse(f"{path}.openFor", check.duration(breaker.open_for))
    if breaker.error_rate is None:
        for name, spelled in (("window", "window"), ("min_requests", "minRequests")):
            if name in breaker.model_fields_set:
                report.warn(f"{path}.{spelled}", f"{spelled} belongs to errorRate, which is not set")


def _health_check(report: Report, given: api.HealthCheck, path: str) -> None:
    if given.path is None and given.http is None and given.grpc is None and given.tcp is None:
        report.error(path, "one of path, http, grpc and tcp is needed")
    if given.path is not None:
        _path(report, given.path, f"{path}.path")
    if given.http is not None:
        _http(report, given.http, f"{path}.http")
    if given.port:
        report.refuse(f"{path}.port", check.port(given.port))
    report.refuse(f"{path}.interval", check.duration(given.interval))
    report.refuse(f"{path}.timeout", check.duration(given.timeout))
    _least_one(report, given.unhealthy_threshold, f"{path}.unhealthyThreshold")
    _least_one(report, given.healthy_threshold, f"{path}.healthyThreshold")
    if given.timeout > given.interval:
        message = f"{given.timeout:g}s is longer than the interval, {given.interval:g}s: checks of an endpoint overlap"
        report.warn(f"{path}.timeout", message)


def _path(report: Report, text: str, path: str) -> None:
    if not text.startswith("/"):
        report.error(path, f"{text!r} does not begin with '/'")


def _http(report: Report, given: api.HttpCheck, path: str) -> None:
    _path(report, given.path, f"{path}.path")
    if given.method not in _METHODS:
        report.error(f"{path}.method", f"{given.method!r} is not an HTTP method")
    for name in given.headers:
        report.refuse(f"{path}.headers.{name}", check.header_name(name))
    for number, status in enumerate(given.expected_statuses):
        if not 100 <= status <= 599:
            report.error(f"{path}.expectedStatuses[{number}]", f"{status} is not within 100..599")


def _rate_limit(report: Report, limit: api.RateLimit, path: str) -> None:
    if limit.requests_per_unit is None and limit.global_ is None:
        report.error(path, "it limits nothing: one of requestsPerUnit and global is needed")
    if limit.requests_per_unit is None and limit.burst is not None:
        report.warn(f"{path}.burst", "burst belongs to requestsPerUnit, which is not set")
    _least_one(report, limit.requests_per_unit, f"{path}.requestsPerUnit")
    _least_one(report, limit.burst, f"{path}.burst")
    if limit.global_ is not None:
        _global(report, limit.global_, f"{path}.global")
    for number, key in enumerate(limit.by):
        where = f"{path}.by[{number}]"
        if not any(getattr(key, name) for name in _KEY_PARTS):
            report.error(where, "one of header, queryParam, cookie, label, path, method, host and genericKey is needed")
        if key.header is not None:
            report.refuse(f"{where}.header", check.header_name(key.header))
        if key in limit.by[:number]:
            report.error(where, "this part of the key stands twice")


def _global(report: Report, limit: api.GlobalRateLimit, path: str) -> None:
    host, colon, port = limit.service.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        report.error(f"{path}.service", f"{limit.service!r} is not host:port")
    else:
        report.refuse(f"{path}.service", check.port(int(port)))
    if not limit.domain:
        report.error(f"{path}.domain", "domain is required: the limits are kept under it")
    report.refuse(f"{path}.timeout", check.duration(limit.timeout))


def _hedge(report: Report, hedge: api.Hedge, path: str) -> None:
    if hedge.after is None:
        report.error(f"{path}.after", "after is required")
    else:
        report.refuse(f"{path}.after", check.duration(hedge.after))
    if hedge.max_attempts < 2:
        report.error(
            f"{path}.maxAttempts", f"{hedge.max_attempts} attempts leave nothing to hedge with, 2 is the least"
        )
    if not hedge.methods:
        report.error(f"{path}.methods", "without methods nothing is ever hedged")
    for number, method in enumerate(hedge.methods):
        where = f"{path}.methods[{number}]"
        if method not in _METHODS:
            report.error(where, f"{method!r} is not an HTTP method")
        elif method not in _REPEATABLE:
            report.warn(where, f"{method} requests are not meant to be sent twice, which hedging does")
