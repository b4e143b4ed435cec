"""An access log in Envoy's default text form or as JSON, one line per call, through ``logging``.

Off unless asked for: ``AccessLog`` wraps another observer. The JSON form holds what ``meshlib diff --traffic`` needs to
ask about the request again. Source: Istio ``telemetry_logging.go`` for fields and order.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.events import CallObserver, ConnectionObserver, Observer
from meshlib.dataplane.outcome import Outcome

__all__ = ["AccessLog"]

_LOG = logging.getLogger("meshlib.access")


class AccessLog:
    """Writes a line for each call that is over, to the logger ``meshlib.access`` at level INFO.

    Args:
        inner: Another observer to tell as well, or None.
        as_json: JSON objects instead of text.
        headers: Names of request headers to write as well, JSON only: those that rules match on, so that the log can
            be asked about again. Mind what they hold: cookies and tokens are not for logs.
    """

    def __init__(self, inner: Observer | None = None, *, as_json: bool = False, headers: Sequence[str] = ()) -> None:
        self._inner = inner
        self._as_json = as_json
        self._headers = tuple(name.lower() for name in headers)

    def call_started(self, call: Call, now: float) -> CallObserver | None:
        """See ``Observer.call_started``."""
        inner = self._inner.call_started(call, now) if self._inner is not None else None
        return _Logged(inner, self._as_json, self._headers) if _LOG.isEnabledFor(logging.INFO) else inner


class _Logged:
    __slots__ = ("_as_json", "_headers", "_inner")

    def __init__(self, inner: CallObserver | None, as_json: bool, headers: tuple[str, ...]) -> None:
        self._inner = inner
        self._as_json = as_json
        self._headers = headers

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        if self._inner is not None:
            self._inner.attempt_started(attempt, now)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        if self._inner is not None:
            self._inner.attempt_ended(attempt, outcome, now)

    def connected(self, call: Call, now: float) -> None:
        if isinstance(self._inner, ConnectionObserver):
            self._inner.connected(call, now)

    def bytes_moved(self, call: Call, now: float) -> None:
        if isinstance(self._inner, ConnectionObserver):
            self._inner.bytes_moved(call, now)

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        if self._inner is not None:
            self._inner.call_ended(call, outcome, now)
        facts = _facts(call, now)
        if self._headers:
            values = {name: call.request.header(name) for name in self._headers}
            facts["headers"] = {name: value for name, value in values.items() if value is not None}
        _LOG.info("%s", json.dumps(facts) if self._as_json else _line(facts))


def _facts(call: Call, now: float) -> dict[str, Any]:
    request, attempt, cluster, route = call.request, call.last_attempt, call.cluster, call.route
    return {
        "start_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": request.method,
        "path": request.path,
        "protocol": "HTTP/1.1",
        "response_code": call.status,
        "response_flags": call.flags,
        "bytes_received": call.request_bytes,
        "bytes_sent": call.response_bytes,
        "duration": round((now - call.started) * 1000),
        "user_agent": request.header("user-agent"),
        "request_id": request.header("x-request-id"),
        "authority": request.authority,
        "upstream_host": attempt.state.key if attempt is not None else None,
        "upstream_cluster": cluster.name if cluster is not None else None,
        "route_name": (route.name or None) if route is not None else None,
        "scheme": request.scheme,
        "port": request.port,
    }


def _line(facts: dict[str, Any]) -> str:
    f = {name: "-" if value is None else value for name, value in facts.items()}
    return (
        f'[{f["start_time"]}] "{f["method"]} {f["path"]} {f["protocol"]}" {f["response_code"]} {f["response_flags"]} '
        f'{f["bytes_received"]} {f["bytes_sent"]} {f["duration"]} "{f["user_agent"]}" "{f["request_id"]}" '
        f'"{f["authority"]}" "{f["upstream_host"]}" {f["upstream_cluster"]} {f["route_name"]}'
    )
