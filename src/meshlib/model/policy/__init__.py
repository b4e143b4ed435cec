"""Policies as values: what the configuration asks for. What they do stands in ``dataplane.policies``.

Times are float seconds, ratios are 0..1 unless a field says otherwise, and None means "no limit" or "off".
"""

from __future__ import annotations

from meshlib.model.policy.circuit_breaker import CircuitBreaker
from meshlib.model.policy.connection_pool import ConnectionPool, Http2KeepAlive, TcpKeepalive, Tunnel
from meshlib.model.policy.faults import Abort, Delay, Fault
from meshlib.model.policy.load_balancer import (
    BalancerKind,
    HashKey,
    LoadBalancer,
    LoadReports,
    PeakEwma,
    SlowStart,
    SubsetFallback,
    Subsets,
    SubsetSelector,
    ZoneAware,
)
from meshlib.model.policy.outlier_detection import FailurePercentage, OutlierDetection, SuccessRate
from meshlib.model.policy.retries import RetryBudget, RetryPolicy
from meshlib.model.policy.tls import KeyMaterial, Tls, TlsMode

__all__ = [
    "Abort",
    "BalancerKind",
    "CircuitBreaker",
    "ConnectionPool",
    "Delay",
    "FailurePercentage",
    "Fault",
    "HashKey",
    "Http2KeepAlive",
    "KeyMaterial",
    "LoadBalancer",
    "LoadReports",
    "OutlierDetection",
    "PeakEwma",
    "RetryBudget",
    "RetryPolicy",
    "SlowStart",
    "SubsetFallback",
    "SubsetSelector",
    "Subsets",
    "SuccessRate",
    "TcpKeepalive",
    "Tls",
    "TlsMode",
    "Tunnel",
    "ZoneAware",
]
