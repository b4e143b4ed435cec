"""Policies of a route on the wire: retries, hash keys, faults.

Source: Istio ``core/route/retry``, ``route.go`` (``TranslateFault``, ``consistentHashToHashPolicy``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshlib.model.policy import Abort, Delay, Fault, HashKey, RetryPolicy
from meshlib.xds.encode.matches import header_match
from meshlib.xds.encode.values import duration, extension, optional_duration, share, uint32
from meshlib.xds.messages import (
    common_fault_pb2,
    fault_pb2,
    previous_hosts_pb2,
    previous_priorities_config_pb2,
    route_components_pb2,
)

__all__ = ["fault_filters", "hash_policy", "retry_policy"]

_PREVIOUS_PRIORITIES_EVERY = 2


def retry_policy(policy: RetryPolicy) -> Any:
    """``RetryPolicy``."""
    made = route_components_pb2.RetryPolicy(
        retry_on=",".join(sorted(policy.retry_on)),
        num_retries=uint32(policy.attempts),
        per_try_timeout=optional_duration(policy.per_try_timeout),
        per_try_idle_timeout=optional_duration(policy.per_try_idle_timeout),
        retriable_status_codes=sorted(policy.retriable_status_codes),
        host_selection_retry_max_attempts=policy.host_selection_attempts,
    )
    made.retry_back_off.base_interval.CopyFrom(duration(policy.base))
    made.retry_back_off.max_interval.CopyFrom(duration(policy.cap))
    for name in sorted(policy.retriable_headers):
        made.retriable_headers.add(name=name, present_match=True)
    if policy.avoid_previous_hosts:
        predicate = previous_hosts_pb2.PreviousHostsPredicate()
        made.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts").typed_config.CopyFrom(
            extension(predicate)
        )
    if policy.remote_localities:
        config = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=_PREVIOUS_PRIORITIES_EVERY)
        made.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        made.retry_priority.typed_config.CopyFrom(extension(config))
    if policy.reset_headers:
        _reset_headers(policy, made.rate_limited_retry_back_off)
    return made


def _reset_headers(policy: RetryPolicy, made: Any) -> None:
    made.max_interval.CopyFrom(duration(policy.reset_cap))
    for name, is_time in policy.reset_headers:
        made.reset_headers.add(name=name, format="UNIX_TIMESTAMP" if is_time else "SECONDS")


def hash_policy(key: HashKey) -> Any:
    """``HashPolicy``."""
    made = route_components_pb2.RouteAction.HashPolicy(terminal=key.terminal)
    if key.source == "header":
        made.header.header_name = key.name
    elif key.source == "query":
        made.query_parameter.name = key.name
    elif key.source == "source_ip":
        made.connection_properties.source_ip = True
    else:
        made.cookie.name = key.name
        made.cookie.path = key.path
        if key.ttl is not None:
            made.cookie.ttl.CopyFrom(duration(key.ttl))
        for name, value in key.attributes:
            made.cookie.attributes.add(name=name, value=value)
    return made


def fault_filters(fault: Fault | None) -> Iterator[Any]:
    """``HTTPFault`` for each filter of the chain."""
    while fault is not None:
        yield _fault(fault)
        fault = fault.then


def _fault(fault: Fault) -> Any:
    made = fault_pb2.HTTPFault(upstream_cluster=fault.cluster)
    made.headers.extend(header_match(header) for header in fault.headers)
    if fault.delay is not None:
        made.delay.CopyFrom(_delay(fault.delay))
    if fault.abort is not None:
        made.abort.CopyFrom(_abort(fault.abort))
    if fault.max_active is not None:
        made.max_active_faults.value = fault.max_active
    return made


def _delay(delay: Delay) -> Any:
    made = common_fault_pb2.FaultDelay(percentage=_share(delay))
    if delay.seconds is None:
        made.header_delay.SetInParent()
    else:
        made.fixed_delay.CopyFrom(duration(delay.seconds))
    return made


def _abort(abort: Abort) -> Any:
    made = fault_pb2.FaultAbort(percentage=_share(abort))
    if abort.http_status is not None:
        made.http_status = abort.http_status
    elif abort.grpc_status is not None:
        made.grpc_status = abort.grpc_status
    else:
        made.header_abort.SetInParent()
    return made


def _share(fault: Delay | Abort) -> Any:
    return share(fault.parts_per_million * fault.denominator // 1_000_000, fault.denominator)
