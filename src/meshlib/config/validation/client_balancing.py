"""Validation of the balancing in a ClientPolicy."""

from __future__ import annotations

from meshlib.config.resources import client_balancing as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["load_balancer", "sticky_weights"]

_SINGLE_METRICS = frozenset({"cpu_utilization", "mem_utilization", "application_utilization"})
_METRIC_MAPS = ("named_metrics.", "utilization.", "request_cost.")
_LEAST_UPDATE = 0.1


def load_balancer(report: Report, given: api.ClientLoadBalancer, path: str) -> None:
    """Bounds, and settings of another algorithm than the one that is chosen."""
    kind = api.ClientAlgorithm
    for name, spelled, wanted in (
        ("load_reports", "loadReports", kind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN),
        ("peak_ewma", "peakEwma", kind.PEAK_EWMA),
    ):
        if getattr(given, name) is not None and given.algorithm is not wanted:
            report.warn(f"{path}.{spelled}", f"{spelled} belongs to the algorithm {wanted}, which is not chosen")
    if given.least_request is not None and given.algorithm is not None:
        message = f"leastRequest belongs to LEAST_REQUEST, and {given.algorithm} is chosen"
        report.warn(f"{path}.leastRequest", message)
    if given.hash_balance_factor is not None and given.hash_balance_factor <= 100:
        report.error(f"{path}.hashBalanceFactor", f"{given.hash_balance_factor} is not above 100")
    if given.subset_size == 0:
        report.error(f"{path}.subsetSize", "0 is below the least value, 1")
    if given.load_reports is not None:
        _load_reports(report, given.load_reports, f"{path}.loadReports")
    if given.peak_ewma is not None:
        report.refuse(f"{path}.peakEwma.decay", check.duration(given.peak_ewma.decay))
        report.refuse(f"{path}.peakEwma.initialLatency", check.duration(given.peak_ewma.initial_latency))
    if given.least_request is not None:
        _least_request(report, given.least_request, f"{path}.leastRequest")


def _load_reports(report: Report, given: api.ClientLoadReports, path: str) -> None:
    for name, value in (("blackoutPeriod", given.blackout_period), ("weightUpdatePeriod", given.weight_update_period)):
        if value < 0:
            report.error(f"{path}.{name}", f"{value:g}s is below 0")
    report.refuse(f"{path}.weightExpirationPeriod", check.duration(given.weight_expiration_period))
    if 0 <= given.weight_update_period < _LEAST_UPDATE:
        message = f"{given.weight_update_period:g}s is below the least period, 100ms, which is used instead"
        report.warn(f"{path}.weightUpdatePeriod", message)
    if given.out_of_band_period is not None:
        report.refuse(f"{path}.outOfBandPeriod", check.duration(given.out_of_band_period))
    if not given.error_utilization_penalty >= 0:
        report.error(f"{path}.errorUtilizationPenalty", f"{given.error_utilization_penalty:g} is below 0")
    for number, name in enumerate(given.metric_names):
        if name not in _SINGLE_METRICS and not (name.startswith(_METRIC_MAPS) and name.partition(".")[2]):
            message = f"{name!r} is no metric: write {', '.join(sorted(_SINGLE_METRICS))}, or named_metrics.<name>"
            report.error(f"{path}.metricNames[{number}]", message)


def _least_request(report: Report, given: api.LeastRequest, path: str) -> None:
    if given.choice_count < 2:
        report.error(f"{path}.choiceCount", f"{given.choice_count} leaves nothing to compare, 2 is the least")
    if not given.active_request_bias >= 0:
        report.error(f"{path}.activeRequestBias", f"{given.active_request_bias:g} is below 0")


def sticky_weights(report: Report, given: api.StickyWeights, path: str) -> None:
    """Every key has a source that can be read."""
    for number, key in enumerate(given.by):
        where = f"{path}.by[{number}]"
        if not (key.http_header_name or key.http_cookie or key.http_query_parameter_name):
            report.error(where, "one of httpHeaderName, httpCookie and httpQueryParameterName is needed")
        if key.http_header_name:
            report.refuse(f"{where}.httpHeaderName", check.header_name(key.http_header_name))
        if key.http_cookie is not None and not key.http_cookie.name:
            report.error(f"{where}.httpCookie.name", "a cookie needs a name")
        if key in given.by[:number]:
            report.error(where, "this part of the key stands twice")
