"""Who stands out among the endpoints of a cluster: success rate and failure percentage, over one interval.

Source: Envoy ``outlier_detection_impl`` (``processSuccessRateEjections``): rates are percent, the deviation is that of
the whole population, an endpoint at the success-rate threshold stays, one at the failure threshold goes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from meshlib.model.policy import FailurePercentage, SuccessRate

__all__ = ["Results", "failing", "outliers"]

EndpointT = TypeVar("EndpointT", bound=Hashable)


class Results:
    """What one endpoint answered since the last sweep.

    Attributes:
        total: Results of any kind.
        errors: Those that were errors.
        local_total: Where local origins are counted apart: attempts, whatever came of them.
        local_errors: Those that failed before there was an answer.
    """

    __slots__ = ("errors", "local_errors", "local_total", "total")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """A new interval begins."""
        self.total = self.errors = self.local_total = self.local_errors = 0


Volumes = Mapping[EndpointT, tuple[int, int]]
"""Endpoint, none of them ejected -> its results, and how many of these were errors."""


def outliers(volumes: Volumes[EndpointT], settings: SuccessRate) -> list[EndpointT]:
    """Those whose success rate lies below ``mean - stdev * stdev_factor``; nobody while too few have enough volume."""
    rates = dict(_rates(volumes, settings.request_volume))
    if not rates or len(rates) < settings.minimum_hosts:
        return []
    mean = sum(rates.values()) / len(rates)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
    threshold = mean - deviation * settings.stdev_factor
    return [endpoint for endpoint, rate in rates.items() if rate < threshold]


def failing(volumes: Volumes[EndpointT], settings: FailurePercentage) -> list[EndpointT]:
    """Those whose failures reach the threshold; nobody while too few have enough volume."""
    rates = dict(_rates(volumes, settings.request_volume))
    if not rates or len(rates) < settings.minimum_hosts:
        return []
    return [endpoint for endpoint, rate in rates.items() if 100.0 - rate >= settings.threshold]


def _rates(volumes: Volumes[EndpointT], needed: int) -> Iterator[tuple[EndpointT, float]]:
    """Success rates, in percent, of those with enough volume."""
    for endpoint, (total, errors) in volumes.items():
        if total and total >= needed:
            yield endpoint, 100.0 * (total - errors) / total
