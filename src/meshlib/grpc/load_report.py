"""What a server says of its own load (ORCA): the numbers, and the two forms that carry them.

The message ``xds.data.orca.v3.OrcaLoadReport`` is a few numbers and maps, written here by hand, so that a server needs
no generated code for it. The other form is text, for clients on gRPC's C core, which hides the message from everybody
above it. Sources: gRFC A51; Envoy ORCA, ``endpoint-load-metrics``.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoadRecorder", "ServerLoad", "encode", "text"]

_NUMBERS = {
    "cpu_utilization": 1,
    "mem_utilization": 2,
    "rps_fractional": 6,
    "eps": 7,
    "application_utilization": 9,
}
_MAPS = {"request_cost": 4, "utilization": 5, "named_metrics": 8}


@dataclass(slots=True)
class LoadRecorder:
    """One report in the making; what is left at 0 is not said.

    Attributes:
        cpu_utilization: Share of the CPU, may exceed 1.
        mem_utilization: Share of the memory.
        application_utilization: The application's own measure of how busy it is, may exceed 1.
        rps_fractional: Requests per second that are served.
        eps: Errors per second.
        request_cost: What this call cost, by names of your own.
        utilization: Shares of other resources, by names of your own.
        named_metrics: Anything else, by names of your own.
    """

    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    application_utilization: float = 0.0
    rps_fractional: float = 0.0
    eps: float = 0.0
    request_cost: dict[str, float] = field(default_factory=dict)
    utilization: dict[str, float] = field(default_factory=dict)
    named_metrics: dict[str, float] = field(default_factory=dict)

    def over(self, other: LoadRecorder) -> LoadRecorder:
        """This report, with what ``other`` says wherever this one says nothing."""
        whole: dict[str, Any] = {name: getattr(self, name) or getattr(other, name) for name in _NUMBERS}
        whole.update({name: {**getattr(other, name), **getattr(self, name)} for name in _MAPS})
        return LoadRecorder(**whole)


def encode(report: LoadRecorder) -> bytes:
    """An ``OrcaLoadReport``; ``b""`` where nothing is said."""
    said = [(number, getattr(report, name)) for name, number in _NUMBERS.items()]
    parts = [_number(number, value) for number, value in said if value]
    for name, number in _MAPS.items():
        values: Mapping[str, float] = getattr(report, name)
        for key, value in values.items():
            parts.append(_tag(number, 2) + _sized(_tag(1, 2) + _sized(key.encode()) + _number(2, value)))
    return b"".join(parts)


def text(report: LoadRecorder) -> str:
    """``TEXT name=value,...``, without names of your own that cannot stand there; ``""`` where nothing is said."""
    said = [(name, getattr(report, name)) for name in _NUMBERS]
    pairs = [f"{name}={value:g}" for name, value in said if value]
    for name in _MAPS:
        values: Mapping[str, float] = getattr(report, name)
        pairs += [f"{name}.{key}={value:g}" for key, value in values.items() if _PLAIN.fullmatch(key)]
    return f"TEXT {','.join(pairs)}" if pairs else ""


_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]+")


def _number(number: int, value: float) -> bytes:
    return _tag(number, 1) + struct.pack("<d", value)


def _tag(number: int, kind: int) -> bytes:
    return bytes([number << 3 | kind])


def _sized(message: bytes) -> bytes:
    length, parts = len(message), bytearray()
    while length > 127:
        parts.append(length & 127 | 128)
        length >>= 7
    parts.append(length)
    return bytes(parts) + message


class ServerLoad:
    """How busy this server is as a whole; update it from any thread, as often as you like.

    Every report of a call is filled up from it, and the out-of-band service tells it.

    Attributes:
        min_interval: Seconds; clients of the out-of-band service that ask for reports more often get them this often.
    """

    def __init__(self, min_interval: float = 30.0) -> None:
        self.min_interval = min_interval
        self._lock = threading.Lock()
        self._now = LoadRecorder()

    def update(
        self,
        *,
        cpu_utilization: float | None = None,
        mem_utilization: float | None = None,
        application_utilization: float | None = None,
        rps_fractional: float | None = None,
        eps: float | None = None,
        utilization: Mapping[str, float] | None = None,
        named_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Say something anew; what is left out stays as it was said, and 0 or an empty mapping takes it back.

        Raises:
            ValueError: A number is negative, or not finite.
        """
        given = {
            "cpu_utilization": cpu_utilization,
            "mem_utilization": mem_utilization,
            "application_utilization": application_utilization,
            "rps_fractional": rps_fractional,
            "eps": eps,
        }
        numbers = {name: value for name, value in given.items() if value is not None}
        for name, value in numbers.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}: it is at least 0, and finite")
        with self._lock:
            now = self._now
            known = {name: getattr(now, name) for name in _NUMBERS}
            self._now = LoadRecorder(
                **{**known, **numbers},
                utilization=dict(now.utilization if utilization is None else utilization),
                named_metrics=dict(now.named_metrics if named_metrics is None else named_metrics),
            )

    def report(self) -> LoadRecorder:
        """What is said now; not to be changed."""
        return self._now
