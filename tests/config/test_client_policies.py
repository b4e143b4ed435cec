"""ClientPolicy: found as a DestinationRule is, and made into values on the cluster."""

from __future__ import annotations

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.model.client_policy import (
    NO_CLIENT_POLICY,
    BreakerScope,
    ErrorBreaker,
    HealthCheck,
    Hedge,
    KeySource,
    ProbeKind,
    RateLimit,
    RateLimitKey,
    RateLimitService,
)
from meshlib.model.policy import RetryBudget
from meshlib.model.snapshot import Client

POLICY = "ClientPolicy default/p"
HOST = "svc.default.svc.cluster.local"
SERVICE = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: svc, namespace: default}\n"
    "spec: {ports: [{name: http, port: 80}]}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc, namespace: default}\n"
    "spec: {host: svc, trafficPolicy: {retryBudget: {percent: 99}}, subsets: [{name: v1}, {name: v2}]}"
)


def policy(spec, name="p", namespace="default", created=""):
    stamp = f", creationTimestamp: '{created}'" if created else ""
    head = "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\n"
    return f"{head}metadata: {{name: {name}, namespace: {namespace}{stamp}}}\nspec: {{{spec}}}"


def cluster(*texts, subset="", client="default"):
    loaded = load_text("\n---\n".join([SERVICE, *texts]))
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources).view(Client(client, {"app": "web"})).cluster(f"outbound|80|{subset}|{HOST}")


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        (
            "circuitBreaker: {consecutiveErrors: 5, window: 20s, minRequests: 7, errorRate: 0.25, openFor: 9s, "
            "halfOpenRequests: 2, scope: Cluster}",
            "breaker",
            ErrorBreaker(5, 0.25, 20.0, 7, 9.0, 2, BreakerScope.CLUSTER),
        ),
        ("circuitBreaker: {consecutiveErrors: 5}", "breaker", ErrorBreaker(5)),
        (
            "healthCheck: {path: /healthz, interval: 2s, timeout: 3s, unhealthyThreshold: 4, healthyThreshold: 5}",
            "health_check",
            HealthCheck(
                ProbeKind.HTTP, "/healthz", interval=2.0, timeout=3.0, unhealthy_threshold=4, healthy_threshold=5
            ),
        ),
        (
            "healthCheck: {http: {path: /h, host: h, method: HEAD, headers: {A: b}, expectedStatuses: [204]}, port: 9}",
            "health_check",
            HealthCheck(ProbeKind.HTTP, "/h", "HEAD", "h", (("A", "b"),), frozenset({204}), port=9),
        ),
        (
            "healthCheck: {grpc: {service: s, authority: a}}",
            "health_check",
            HealthCheck(ProbeKind.GRPC, host="a", service="s"),
        ),
        ("healthCheck: {tcp: {}}", "health_check", HealthCheck(ProbeKind.TCP)),
        (
            "rateLimit: {requestsPerUnit: 120, unit: MINUTE, burst: 20, by: [{header: X-User}, {path: true}]}",
            "rate_limit",
            RateLimit(
                POLICY,
                20,
                1,
                0.5,
                (
                    RateLimitKey(KeySource.HEADER, "x-user", "", "x-user"),
                    RateLimitKey(KeySource.PATH, "", "", "path"),
                ),
            ),
        ),
        ("rateLimit: {requestsPerUnit: 4}", "rate_limit", RateLimit(POLICY, 4, 1, 0.25)),
        (
            "rateLimit: {requestsPerUnit: 10, unit: HOUR, whenLimited: Raise}",
            "rate_limit",
            RateLimit(POLICY, 10, 1, 360.0, raises=True),
        ),
        (
            "rateLimit: {global: {service: 'limits:81', domain: shop}}",
            "rate_limit",
            RateLimit(
                POLICY, 0, 1, 1.0, service=RateLimitService("limits.default.svc.cluster.local", 81, "shop", 0.02, True)
            ),
        ),
        (
            "rateLimit: {requestsPerUnit: 1, global: {service: '[::1]:81', domain: d, timeout: 1s, failOpen: false}}",
            "rate_limit",
            RateLimit(POLICY, 1, 1, 1.0, service=RateLimitService("::1", 81, "d", 1.0, False)),
        ),
        (
            "rateLimit: {requestsPerUnit: 4, by: [{cookie: C}, {queryParam: Q}, {label: app}, {method: true}, "
            "{host: true}, {genericKey: slow, descriptorKey: speed}]}",
            "rate_limit",
            RateLimit(
                POLICY,
                4,
                1,
                0.25,
                (
                    RateLimitKey(KeySource.COOKIE, "C", "", "C"),
                    RateLimitKey(KeySource.QUERY, "Q", "", "Q"),
                    RateLimitKey(KeySource.LABEL, "app", "web", "app"),
                    RateLimitKey(KeySource.METHOD, "", "", "method"),
                    RateLimitKey(KeySource.HOST, "", "", "host"),
                    RateLimitKey(KeySource.GENERIC, "", "slow", "speed"),
                ),
            ),
        ),
        ("hedge: {after: 50ms}", "hedge", Hedge(0.05, 2, frozenset({"GET", "HEAD"}))),
        ("hedge: {after: 1s, maxAttempts: 3, methods: [post]}", "hedge", Hedge(1.0, 3, frozenset({"POST"}))),
        ("faultsBelowRetries: true", "faults_below_retries", True),
    ],
)
def test_every_field_becomes_a_value(given, field, value):
    assert getattr(cluster(policy(f"hosts: [svc], {given}")).client_policy, field) == value


def test_a_retry_budget_takes_the_place_of_the_destination_rules():
    assert cluster().circuit_breaker.retry_budget == RetryBudget(0.99, 3)
    found = cluster(policy("hosts: [svc], retryBudget: {percent: 20, minConcurrency: 1}"))
    assert found.circuit_breaker.retry_budget == RetryBudget(0.2, 1)
    assert dict(found.origins)["retryBudget"] == "ClientPolicy default/p spec.retryBudget"


def test_subsets_narrow_a_policy_and_complete_the_wider_one():
    wide = policy("hosts: [svc], hedge: {after: 1s}, rateLimit: {requestsPerUnit: 1}", "wide")
    narrow = policy("hosts: [svc], subsets: [v1], hedge: {after: 2s}", "narrow")
    hedges = {subset: cluster(wide, narrow, subset=subset).client_policy.hedge.after for subset in ("", "v1", "v2")}
    assert hedges == {"": 1.0, "v1": 2.0, "v2": 1.0}
    assert cluster(wide, narrow, subset="v1").client_policy.rate_limit == RateLimit("ClientPolicy default/wide", 1)
    assert cluster(narrow, subset="v2").client_policy == NO_CLIENT_POLICY


def hedge(after, hosts="svc", **where):
    return policy(f"hosts: ['{hosts}'], hedge: {{after: {after}s}}", **where)


@pytest.mark.parametrize(
    ("texts", "client", "after"),
    [
        ([hedge(1), hedge(2, HOST, namespace="far"), hedge(3, "*.local", namespace="istio-system")], "default", 1.0),
        ([hedge(1), hedge(2, HOST, namespace="far"), hedge(3, "*.local", namespace="istio-system")], "far", 2.0),
        ([hedge(2, HOST, namespace="far"), hedge(3, "*.local", namespace="istio-system")], "third", 3.0),
        ([hedge(1), hedge(2, "*", namespace="far")], "far", 2.0),
        ([hedge(1, "*.svc.cluster.local", name="a"), hedge(2, name="b"), hedge(3, "*", name="c")], "default", 2.0),
        (
            [hedge(1, name="b", created="2024-02-01T00:00:00Z"), hedge(2, name="a", created="2024-01-01T00:00:00Z")],
            "default",
            2.0,
        ),
    ],
)
def test_the_clients_namespace_then_the_services_then_the_root_and_the_most_specific_host(texts, client, after):
    assert cluster(*texts, client=client).client_policy.hedge.after == after
