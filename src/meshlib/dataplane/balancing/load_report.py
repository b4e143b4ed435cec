"""Load reports of endpoints (ORCA), as they come with responses.

``endpoint-load-metrics`` holds ``TEXT name=value,...``, ``JSON {...}`` or ``BIN <base64>``, and
``endpoint-load-metrics-bin`` the base64 of the protobuf message ``xds.data.orca.v3.OrcaLoadReport``. The message is a
few numbers and maps, read here by hand so that the data plane needs no protobuf. Sources: gRFC A51, A114, Envoy ORCA.
"""

from __future__ import annotations

import json
import math
import struct
from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoadReport", "decode", "fields", "report_in"]

_HEADER, _BINARY = b"endpoint-load-metrics", b"endpoint-load-metrics-bin"
_LONGEST = 16_384
_NUMBERS = {
    1: "cpu_utilization",
    2: "mem_utilization",
    6: "rps_fractional",
    7: "eps",
    9: "application_utilization",
}
_MAPS = {4: "request_cost", 5: "utilization", 8: "named_metrics"}


@dataclass(slots=True)
class LoadReport:
    """One report; what it does not say is 0.

    Attributes:
        cpu_utilization: Share of the CPU, may exceed 1.
        mem_utilization: Share of the memory.
        application_utilization: The application's own measure, may exceed 1.
        rps_fractional: Requests per second that the endpoint serves.
        eps: Errors per second.
        maps: ``utilization.<name>``, ``named_metrics.<name>`` and ``request_cost.<name>`` -> value.
    """

    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    application_utilization: float = 0.0
    rps_fractional: float = 0.0
    eps: float = 0.0
    maps: dict[str, float] = field(default_factory=dict)

    def utilization(self, metrics: Iterable[str] = ()) -> float:
        """The greatest of the named metrics, else the application's, else the CPU's (gRFC A114)."""
        named = max((self._metric(name) for name in metrics), default=0.0)
        if named > 0:
            return named
        return self.application_utilization if self.application_utilization > 0 else self.cpu_utilization

    def _metric(self, name: str) -> float:
        return self.maps.get(name, 0.0) if "." in name else getattr(self, name, 0.0) if name in _SINGLE else 0.0


_SINGLE = frozenset(_NUMBERS.values())
_UNREADABLE = (ValueError, TypeError, struct.error, IndexError, BadBase64, RecursionError)


def report_in(headers: Iterable[tuple[bytes, bytes]]) -> LoadReport | None:
    """The report among response headers or trailers; None without one, or where it cannot be read."""
    for name, value in headers:
        lower = name.lower()
        if lower in (_HEADER, _BINARY) and len(value) <= _LONGEST:
            try:
                return _binary(value) if lower == _BINARY else _text(value)
            except _UNREADABLE:
                return None
    return None


def _text(value: bytes) -> LoadReport:
    form, _, rest = value.decode().strip().partition(" ")
    if form == "BIN":
        return _binary(rest.encode())
    if form == "JSON":
        return _of_json(json.loads(rest))
    return _of_pairs(rest if form == "TEXT" else value.decode())


def _binary(value: bytes) -> LoadReport:
    text = value.strip()
    return decode(b64decode(text + b"=" * (-len(text) % 4), validate=True))


def _of_pairs(text: str) -> LoadReport:
    report = LoadReport()
    for pair in text.split(","):
        name, equals, value = pair.strip().partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not name=value")
        _put(report, name.strip(), float(value))
    return report


def _of_json(given: Any) -> LoadReport:
    """The JSON form of the message; names in either of protobuf's spellings."""
    if not isinstance(given, dict):
        raise TypeError("no message")
    report = LoadReport()
    for name, value in given.items():
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        if isinstance(value, Mapping):
            for key, each in value.items():
                _put(report, f"{snake}.{key}", float(each))
        else:
            _put(report, snake, float(value))
    return report


def _put(report: LoadReport, name: str, value: float) -> None:
    """Names that the message does not have are passed over, as unknown fields of protobuf are."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    if name in _SINGLE:
        setattr(report, name, value)
    elif name.partition(".")[0] in _MAPS.values():
        report.maps[name] = value


def decode(message: bytes) -> LoadReport:
    """An ``OrcaLoadReport``.

    Raises:
        ValueError: The message is cut off or malformed.
    """
    report = LoadReport()
    for number, value in fields(message):
        if number in _NUMBERS and isinstance(value, bytes) and len(value) == 8:
            _put(report, _NUMBERS[number], struct.unpack("<d", value)[0])
        elif number in _MAPS and isinstance(value, bytes):
            entry = dict(fields(value))
            key, number_ = entry.get(1, b""), entry.get(2, bytes(8))
            if isinstance(key, bytes) and isinstance(number_, bytes):
                _put(report, f"{_MAPS[number]}.{key.decode()}", struct.unpack("<d", number_)[0])
    return report


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, value) of a protobuf message; numbers that are stored in a fixed width stay bytes.

    Raises:
        ValueError: The message is cut off or malformed.
        IndexError: It is cut off within a number.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(message):
            raise ValueError("the message is cut off")
        yield tag >> 3, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
