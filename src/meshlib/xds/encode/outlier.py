"""Outlier detection on the wire.

Source: Istio ``applyOutlierDetection``: a threshold of 0 is written as not enforced, and success rate stays off.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.policy import OutlierDetection
from meshlib.xds.encode.values import duration
from meshlib.xds.messages import http_protocol_options_pb2

__all__ = ["write_error_codes", "write_outlier_detection"]


def write_outlier_detection(detection: OutlierDetection, made: Any) -> None:
    """``OutlierDetection``."""
    made.SetInParent()
    made.interval.CopyFrom(duration(detection.interval))
    made.base_ejection_time.CopyFrom(duration(detection.base_ejection_time))
    made.max_ejection_time.CopyFrom(duration(detection.max_ejection_time))
    if detection.max_ejection_time_jitter:
        made.max_ejection_time_jitter.CopyFrom(duration(detection.max_ejection_time_jitter))
    if not detection.healthy_check_returns:
        made.successful_active_health_check_uneject_host.value = False
    made.max_ejection_percent.value = detection.max_ejection_percent
    _threshold(detection.consecutive_5xx, made.consecutive_5xx, made.enforcing_consecutive_5xx)
    gateway = made.consecutive_gateway_failure
    _threshold(detection.consecutive_gateway, gateway, made.enforcing_consecutive_gateway_failure)
    made.split_external_local_origin_errors = detection.split_local_origin
    local = made.consecutive_local_origin_failure
    _threshold(detection.consecutive_local_origin, local, made.enforcing_consecutive_local_origin_failure)
    if detection.always_eject_one:
        made.always_eject_one_host.value = True
    _write_success_rate(detection, made)
    _write_failure_percentage(detection, made)


def _threshold(count: int, threshold: Any, enforcing: Any) -> None:
    threshold.value = count
    enforcing.value = 100 if count else 0


def _write_success_rate(detection: OutlierDetection, made: Any) -> None:
    rate = detection.success_rate
    made.enforcing_success_rate.value = 0 if rate is None else rate.enforcing
    made.enforcing_local_origin_success_rate.value = 0 if rate is None else rate.enforcing_local_origin
    if rate is not None:
        made.success_rate_minimum_hosts.value = rate.minimum_hosts
        made.success_rate_request_volume.value = rate.request_volume
        made.success_rate_stdev_factor.value = round(rate.stdev_factor * 1000)


def _write_failure_percentage(detection: OutlierDetection, made: Any) -> None:
    failures = detection.failure_percentage
    if failures is not None:
        made.enforcing_failure_percentage.value = failures.enforcing
        made.enforcing_failure_percentage_local_origin.value = failures.enforcing_local_origin
        made.enforcing_failure_percentage_local_origin.value = failures.enforcing_local_origin
        made.failure_percentage_threshold.value = failures.threshold
        made.failure_percentage_minimum_hosts.value = failures.minimum_hosts
        made.failure_percentage_request_volume.value = failures.request_volume


def write_error_codes(codes: frozenset[int], made: Any) -> None:
    """Which statuses count as errors, in ``HttpProtocolOptions``; none leaves Envoy's 5xx."""
    if not codes:
        return
    assert isinstance(made, http_protocol_options_pb2.HttpProtocolOptions)
    matcher = made.outlier_detection.error_matcher
    for code in sorted(codes):
        rule = matcher if len(codes) == 1 else matcher.or_match.rules.add()
        rule.http_response_headers_match.headers.add(name=":status").string_match.exact = str(code)
