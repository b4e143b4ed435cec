"""When endpoints are ejected for what came of calls to them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FailurePercentage", "OutlierDetection", "SuccessRate"]


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected, and for how long. The defaults are Istio's.

    Attributes:
        consecutive_5xx: Errors in a row that eject; 0 is off.
        consecutive_gateway: 502/503/504 in a row that eject; 0 is off.
        split_local_origin: Count connection-level failures apart from answers.
        consecutive_local_origin: Connection-level failures in a row that eject, when split; 0 is off.
        interval: Seconds between sweeps; ejections end at a sweep only.
        base_ejection_time: Seconds out, times the number of ejections of this endpoint.
        max_ejection_time: Longest time out, seconds.
        max_ejection_time_jitter: At most so many seconds, drawn at random, are added to each time out.
        max_ejection_percent: Percent (0..100) of all endpoints that may be out at once.
        error_codes: Statuses that count as an error instead of 5xx; empty means 5xx.
        success_rate: Envoy's success-rate detection; None is off, as Istio sets it.
        failure_percentage: Envoy's failure-percentage detection; None is off, as Istio sets it.
        always_eject_one: Allow the first ejection whatever the percentage.
        healthy_check_returns: An active health check that passes brings an ejected endpoint back at once.

    Source: Envoy ``OutlierDetection``; Istio ``OutlierDetection``.
    """

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    split_local_origin: bool = False
    consecutive_local_origin: int = 5
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    error_codes: frozenset[int] = frozenset()
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None
    always_eject_one: bool = False
    healthy_check_returns: bool = True


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Eject endpoints whose success rate is below ``mean - stdev * stdev_factor``.

    Attributes:
        minimum_hosts: Endpoints with enough volume that are needed for a verdict.
        request_volume: Results an endpoint needs in one interval.
        stdev_factor: See above; Envoy writes it times 1000.
        enforcing: Percent (0..100) of the verdicts that eject.
        enforcing_local_origin: The same for local origins, where they are counted apart.
    """

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9
    enforcing: int = 100
    enforcing_local_origin: int = 100


@dataclass(frozen=True, slots=True)
class FailurePercentage:
    """Eject endpoints whose failures reach ``threshold`` percent (0..100) in one interval; see ``SuccessRate``."""

    threshold: int = 85
    minimum_hosts: int = 5
    request_volume: int = 50
    enforcing: int = 100
    enforcing_local_origin: int = 0
