"""Outlier detection off the wire.

Source: Envoy ``OutlierDetection``, whose defaults hold for what is not set; gRFC A50.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.policy import FailurePercentage, OutlierDetection, SuccessRate
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.values import optional_duration, optional_uint

__all__ = ["error_codes", "outlier_detection"]

_IGNORED = {"monitors"}


def outlier_detection(message: Any, codes: frozenset[int], at: Place) -> OutlierDetection:
    """``codes`` are the statuses that count as errors, empty for 5xx."""
    at.only(message, {field.name for field in message.DESCRIPTOR.fields} - _IGNORED)
    _check_percentages(message, at)

    def number(name: str, default: int) -> int:
        value = optional_uint(message, name)
        return default if value is None else value

    def seconds(name: str, default: float) -> float:
        value = optional_duration(message, name, at)
        return default if value is None else value

    base, longest = seconds("base_ejection_time", 30.0), optional_duration(message, "max_ejection_time", at)
    if longest is not None and longest < base and not at.is_grpc:
        at.field("max_ejection_time").error("must not be below base_ejection_time")
    consecutive = 0 if at.is_grpc else number("consecutive_5xx", 5) if number("enforcing_consecutive_5xx", 100) else 0
    gateway_on = number("enforcing_consecutive_gateway_failure", 0)
    local_on = number("enforcing_consecutive_local_origin_failure", 100)
    return OutlierDetection(
        consecutive_5xx=consecutive,
        consecutive_gateway=number("consecutive_gateway_failure", 5) if gateway_on else 0,
        split_local_origin=message.split_external_local_origin_errors,
        consecutive_local_origin=number("consecutive_local_origin_failure", 5) if local_on else 0,
        interval=seconds("interval", 10.0),
        base_ejection_time=base,
        max_ejection_time=max(300.0, base) if longest is None else longest,
        max_ejection_time_jitter=seconds("max_ejection_time_jitter", 0.0),
        max_ejection_percent=number("max_ejection_percent", 10),
        error_codes=codes,
        success_rate=_success_rate(number),
        failure_percentage=_failure_percentage(number),
        always_eject_one=message.always_eject_one_host.value or at.is_grpc,
        healthy_check_returns=bool(number("successful_active_health_check_uneject_host", 1)),
    )


def _check_percentages(message: Any, at: Place) -> None:
    names = [field.name for field, _ in message.ListFields()]
    for name in names:
        if name.startswith("enforcing_") or name in ("max_ejection_percent", "failure_percentage_threshold"):
            value = optional_uint(message, name) or 0
            if value > 100:
                at.field(name).error(f"{value} is above 100")


def _success_rate(number: Any) -> SuccessRate | None:
    enforcing, local = number("enforcing_success_rate", 100), number("enforcing_local_origin_success_rate", 100)
    if not enforcing and not local:
        return None
    return SuccessRate(
        number("success_rate_minimum_hosts", 5),
        number("success_rate_request_volume", 100),
        number("success_rate_stdev_factor", 1900) / 1000,
        enforcing,
        local,
    )


def _failure_percentage(number: Any) -> FailurePercentage | None:
    enforcing, local = number("enforcing_failure_percentage", 0), number("enforcing_failure_percentage_local_origin", 0)
    if not enforcing and not local:
        return None
    return FailurePercentage(
        number("failure_percentage_threshold", 85),
        number("failure_percentage_minimum_hosts", 5),
        number("failure_percentage_request_volume", 50),
        enforcing,
        local,
    )


def error_codes(options: Any, at: Place) -> frozenset[int]:
    """The statuses that ``HttpProtocolOptions`` counts as errors; empty when it says nothing that can be honoured."""
    matcher, place = options.outlier_detection.error_matcher, at.field("outlier_detection")
    kind = matcher.WhichOneof("rule")
    if kind is None:
        return frozenset()
    rules = matcher.or_match.rules if kind == "or_match" else [matcher]
    found = set()
    for rule in rules:
        headers = rule.http_response_headers_match.headers
        if len(headers) != 1 or headers[0].name != ":status" or not headers[0].string_match.exact.isdigit():
            place.has_no_effect()
            return frozenset()
        found.add(int(headers[0].string_match.exact))
    return frozenset(found)
