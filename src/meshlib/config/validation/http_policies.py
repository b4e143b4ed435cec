"""Validation of what an HTTP rule does besides routing: answers, faults, retries, cross-origin rules."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from http import HTTPStatus

from meshlib.config.resources import virtual_service as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.connection_pool import optional_duration
from meshlib.config.validation.http_match import string_match
from meshlib.config.validation.report import Report
from meshlib.model.grpc_status import GRPC_STATUS_NAMES

__all__ = ["cors", "direct_response", "fault", "percent", "retries"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
_RETRY_WORDS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)


_STATUSES = frozenset(str(status.value) for status in HTTPStatus)
_BODY_ERROR, _BODY_WARNING = 1024 * 1024, 100 * 1024


def percent(report: Report, given: api.Percent | None, path: str, *, least: float = 0.0) -> None:
    """0 to 100; with ``least`` nothing between 0 and that."""
    if given is None:
        return
    if not 0 <= given.value <= 100 or 0 < given.value < least:
        bound = f"0, or {least:g}..100" if least else "0..100"
        report.error(path, f"{given.value:g} percent is not within {bound}")


def direct_response(report: Report, given: api.HTTPDirectResponse, path: str) -> None:
    """A status, and a body of a size that a control plane can hand out."""
    report.refuse(f"{path}.status", check.http_status(given.status))
    if given.body is None:
        return
    try:
        size = len((given.body.string or "").encode()) + len(b64decode(given.body.bytes or ""))
    except NotBase64 as error:
        report.error(f"{path}.body.bytes", f"this is not base64: {error}")
        return
    if size > _BODY_ERROR:
        report.error(f"{path}.body", f"the body has {size} bytes, at most {_BODY_ERROR} are allowed")
    elif size > _BODY_WARNING:
        report.warn(f"{path}.body", f"the body has {size} bytes, which is a lot to keep in every client")


def fault(report: Report, given: api.HTTPFaultInjection, path: str) -> None:
    """A delay, an abort, or both."""
    if given.delay is None and given.abort is None:
        report.error(path, "one of delay and abort is needed")
    if given.delay is not None:
        _delay(report, given.delay, f"{path}.delay")
    if given.abort is not None:
        _abort(report, given.abort, f"{path}.abort")


def _delay(report: Report, delay: api.FaultDelay, path: str) -> None:
    if delay.exponential_delay is not None:
        report.error(f"{path}.exponentialDelay", "exponentialDelay is not supported")
    elif delay.fixed_delay is None:
        report.warn(path, "a delay without fixedDelay does nothing")
    optional_duration(report, delay.fixed_delay, f"{path}.fixedDelay")
    percent(report, delay.percentage, f"{path}.percentage", least=0.0001)
    if not 0 <= delay.percent <= 100:
        report.warn(f"{path}.percent", f"{delay.percent} is not within 0..100")


def _abort(report: Report, abort: api.FaultAbort, path: str) -> None:
    percent(report, abort.percentage, f"{path}.percentage", least=0.0001)
    if abort.http2_error is not None:
        report.error(f"{path}.http2Error", "http2Error is not supported")
    if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUS_NAMES:
        report.error(f"{path}.grpcStatus", f"{abort.grpc_status!r} is not a gRPC status name")
    if abort.http_status is not None:
        report.refuse(f"{path}.httpStatus", check.http_status(abort.http_status))
    if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        report.warn(path, "an abort without httpStatus or grpcStatus does nothing")


def retries(report: Report, given: api.HTTPRetry, path: str) -> None:
    """Attempts, and Envoy's conditions or HTTP statuses, with nothing between the commas."""
    if given.attempts < 0:
        report.error(f"{path}.attempts", f"attempts {given.attempts} is below 0")
    if given.attempts == 0 and (
        given.per_try_timeout is not None or given.retry_on or given.retry_remote_localities is not None
    ):
        report.error(f"{path}.attempts", "attempts 0 switches retries off, so the other fields mean nothing")
    optional_duration(report, given.per_try_timeout, f"{path}.perTryTimeout")
    optional_duration(report, given.backoff, f"{path}.backoff")
    for word in given.retry_on.split(",") if given.retry_on else ():
        if word not in _RETRY_WORDS and word not in _STATUSES:
            report.error(f"{path}.retryOn", f"{word!r} is not a retry condition")


def cors(report: Report, given: api.CorsPolicy, path: str) -> None:
    """Origins, methods and headers that a browser is told of."""
    for number, origin in enumerate(given.allow_origins):
        where = f"{path}.allowOrigins[{number}]"
        if not (origin.exact or origin.prefix or origin.regex):
            report.error(where, "the condition is empty")
        string_match(report, origin, where)
    for number, method in enumerate(given.allow_methods):
        if method not in _METHODS:
            report.error(f"{path}.allowMethods[{number}]", f"{method!r} is not an HTTP method")
    for field, names in (("allowHeaders", given.allow_headers), ("exposeHeaders", given.expose_headers)):
        for number, name in enumerate(names):
            report.refuse(f"{path}.{field}[{number}]", None if name == "*" else check.header_name(name))
    optional_duration(report, given.max_age, f"{path}.maxAge")
    if given.max_age is not None and given.max_age % 1:
        report.error(f"{path}.maxAge", f"{given.max_age:g}s is not a whole number of seconds")
