"""How long a server may take, as headers say it: gRPC's form and Envoy's, read and written.

Source: gRPC over HTTP/2 (``Timeout``: one to eight digits and a unit); Envoy ``FilterUtility::setTimeoutHeaders``.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "expected",
    "grpc_timeout",
    "read_grpc_timeout",
    "read_milliseconds",
    "with_grpc_timeout",
    "without_expected",
]

Pairs = list[tuple[bytes, bytes]]

_EXPECTED = b"x-envoy-expected-rq-timeout-ms"
_GRPC = b"grpc-timeout"
_LENGTH = len(_EXPECTED)

_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}
_WRITTEN = (("u", 1_000_000), ("m", 1_000), ("S", 1))
_LONGEST = 10**8
_FORM = re.compile(r"(\d{1,8})([HMSmun])")


def expected(seconds: float) -> tuple[bytes, bytes]:
    """Envoy's header for a server that may take so long; at least a millisecond."""
    return _EXPECTED, b"%d" % max(1, round(seconds * 1000))


def without_expected(headers: Pairs) -> Pairs:
    """``headers`` without a word of the caller's own on how long its server may take."""
    for name, _ in headers:
        if len(name) == _LENGTH and name.lower() == _EXPECTED:
            return [pair for pair in headers if pair[0].lower() != _EXPECTED]
    return headers


def with_grpc_timeout(headers: Pairs, seconds: float) -> Pairs:
    """``headers`` with gRPC's own for a server that may take so long."""
    return [*(pair for pair in headers if pair[0].lower() != _GRPC), (_GRPC, grpc_timeout(seconds))]


def grpc_timeout(seconds: float) -> bytes:
    """A time in the form of gRPC, rounded up in the finest unit that has room, never 0."""
    for unit, per_second in _WRITTEN:
        number = max(1, math.ceil(round(seconds * per_second, 3)))
        if number < _LONGEST:
            return f"{number}{unit}".encode()
    return f"{min(math.ceil(seconds / 3600), _LONGEST - 1)}H".encode()


def read_grpc_timeout(text: str) -> float | None:
    """Seconds; None for 0, which sets no limit, and for what has not the form."""
    found = _FORM.fullmatch(text.strip())
    return int(found[1]) * _UNITS[found[2]] or None if found is not None else None


def read_milliseconds(text: str) -> float | None:
    """Seconds; None for 0, which sets no limit, and for what is no number."""
    text = text.strip()
    return int(text) / 1000 or None if text.isascii() and text.isdigit() and len(text) < 16 else None
