"""Balancing in a ClientPolicy: algorithms and limits that Istio has no field for.

loadBalancer:
  algorithm: PEAK_EWMA
  subsetSize: 50
stickyWeights:
  by: [{httpHeaderName: x-user}]
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, UInt32, numbered, one_of
from meshlib.config.resources.destination_rule import HTTPCookie

__all__ = [
    "ClientAlgorithm",
    "ClientLoadBalancer",
    "ClientLoadReports",
    "ClientPeakEwma",
    "LeastRequest",
    "StickyKey",
    "StickyWeights",
]


class ClientAlgorithm(StrEnum):
    """Algorithms beyond Istio's."""

    CLIENT_SIDE_WEIGHTED_ROUND_ROBIN = "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN"
    PEAK_EWMA = "PEAK_EWMA"


class ClientLoadReports(Message):
    """How weights are made of the load reports (ORCA) in responses.

    Attributes:
        blackout_period: Seconds for which the reports of a new endpoint count for nothing.
        weight_expiration_period: Seconds after which a report that was not renewed counts for nothing.
        weight_update_period: Seconds between two computations of the weights.
        error_utilization_penalty: How much errors weigh against an endpoint.
        metric_names: The greatest of these is the utilization, for example ``named_metrics.queue``; none of them
            reported, it is the application's own, then the CPU's.
        out_of_band_period: Seconds between two reports that endpoints of gRPC channels are asked for beside the RPCs.
    """

    blackout_period: Duration = 10.0
    weight_expiration_period: Duration = 180.0
    weight_update_period: Duration = 1.0
    error_utilization_penalty: float = 1.0
    metric_names: list[str] = Field(default_factory=list)
    out_of_band_period: Duration | None = None


class ClientPeakEwma(Message):
    """How latency is averaged.

    Attributes:
        decay: Seconds in which a measurement loses all but 1/e of its weight.
        initial_latency: Seconds taken for an endpoint that has not answered yet.
    """

    decay: Duration = 10.0
    initial_latency: Duration = 0.03


class LeastRequest(Message):
    """How least request compares.

    Attributes:
        choice_count: Endpoints that are drawn and compared; all of a set of up to eight are.
        active_request_bias: With unequal weights: a weight is divided by the requests under way, and one, to this.
    """

    choice_count: UInt32 = 2
    active_request_bias: float = 1.0


class ClientLoadBalancer(Message):
    """What a DestinationRule's ``loadBalancer`` cannot say.

    Attributes:
        algorithm: Takes the place of ``simple``; a ``consistentHash`` and PASSTHROUGH stay.
        load_reports: For CLIENT_SIDE_WEIGHTED_ROUND_ROBIN.
        peak_ewma: For PEAK_EWMA.
        least_request: For LEAST_REQUEST.
        hash_balance_factor: For ``consistentHash``: percent of an even share of the requests under way that one
            endpoint may have, above 100.
        keep_cookies: A cookie of ``consistentHash`` or ``stickyWeights`` that was made here is remembered, so that
            later calls without it stick too; false leaves that to the caller, as a sidecar does.
        subset_size: Use no more than so many endpoints of a priority in this process, others in other processes.
    """

    algorithm: Annotated[ClientAlgorithm | None, numbered(*ClientAlgorithm)] = None
    load_reports: ClientLoadReports | None = None
    peak_ewma: ClientPeakEwma | None = None
    least_request: LeastRequest | None = None
    hash_balance_factor: UInt32 | None = None
    keep_cookies: bool = True
    subset_size: UInt32 | None = None


class StickyKey(Message):
    """One source of a key, spelled as in ``consistentHash``; exactly one field is set.

    Attributes:
        http_header_name: The value of a request header.
        http_cookie: The value of a cookie, made here when it is missing and has a ``ttl``.
        http_query_parameter_name: The value of a query parameter.
    """

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    http_query_parameter_name: str | None = None

    _source = one_of("http_header_name", "http_cookie", "http_query_parameter_name")


class StickyWeights(Message):
    """Weighted destinations are drawn by key: the same key, the same destination, until the weights say otherwise.

    Attributes:
        by: Where the key comes from; all that give a value are combined. Empty takes the keys of ``consistentHash``.
    """

    by: list[StickyKey] = Field(default_factory=list)
