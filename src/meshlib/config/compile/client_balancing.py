"""Balancing in a ClientPolicy, laid over what a DestinationRule says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from meshlib.config.compile.load_balancers import hash_key
from meshlib.config.resources import client_balancing as api
from meshlib.config.resources.destination_rule import ConsistentHashLB
from meshlib.model.policy import BalancerKind, HashKey, LoadBalancer, LoadReports, PeakEwma

__all__ = ["kept", "sticky_keys", "with_client_balancing"]

_FIXED = (BalancerKind.RING_HASH, BalancerKind.MAGLEV, BalancerKind.PASSTHROUGH)


def with_client_balancing(balancer: LoadBalancer, given: api.ClientLoadBalancer) -> LoadBalancer:
    """The balancer with what the ClientPolicy adds; hashing and passing through are not replaced."""
    kind = balancer.kind
    if given.algorithm is not None and kind not in _FIXED:
        kind = BalancerKind[given.algorithm.name]
    least, reports, ewma = given.least_request, given.load_reports, given.peak_ewma
    return replace(
        balancer,
        kind=kind,
        hash_balance_factor=given.hash_balance_factor or 0,
        choice_count=max(2, least.choice_count) if least is not None else balancer.choice_count,
        active_request_bias=least.active_request_bias if least is not None else balancer.active_request_bias,
        load_reports=_load_reports(reports) if reports is not None else balancer.load_reports,
        peak_ewma=PeakEwma(ewma.decay, ewma.initial_latency) if ewma is not None else balancer.peak_ewma,
        subset_size=given.subset_size or 0,
    )


def _load_reports(given: api.ClientLoadReports) -> LoadReports:
    return LoadReports(
        given.blackout_period,
        given.weight_expiration_period,
        given.weight_update_period,
        given.error_utilization_penalty,
        tuple(given.metric_names),
        given.out_of_band_period,
    )


def sticky_keys(given: api.StickyWeights) -> tuple[HashKey, ...]:
    """What weights are drawn by; empty where the keys of ``consistentHash`` are meant."""
    return tuple(found for found in map(_sticky_key, given.by) if found is not None)


def _sticky_key(given: api.StickyKey) -> HashKey | None:
    """As the same source of a ``consistentHash``."""
    if given.http_header_name:
        return hash_key(ConsistentHashLB(http_header_name=given.http_header_name))
    if given.http_cookie is not None:
        return hash_key(ConsistentHashLB(http_cookie=given.http_cookie))
    return hash_key(ConsistentHashLB(http_query_parameter_name=given.http_query_parameter_name or ""))


def kept(keys: Iterable[HashKey], given: api.ClientLoadBalancer | None) -> tuple[HashKey, ...]:
    """The keys, their cookies remembered by this process unless the ClientPolicy says otherwise."""
    if given is not None and not given.keep_cookies:
        return tuple(keys)
    return tuple(replace(key, kept=True) if key.source == "cookie" else key for key in keys)
