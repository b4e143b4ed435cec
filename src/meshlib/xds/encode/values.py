"""Small values on the wire: durations, wrapped numbers, shares, metadata, extensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib.xds.messages import any_pb2, duration_pb2, percent_pb2, struct_pb2, wrappers_pb2

__all__ = ["duration", "extension", "optional_duration", "optional_uint32", "share", "struct", "uint32"]


def duration(seconds: float) -> Any:
    """``google.protobuf.Duration``, to the nanosecond."""
    whole, nanos = divmod(round(seconds * 1_000_000_000), 1_000_000_000)
    return duration_pb2.Duration(seconds=whole, nanos=nanos)


def optional_duration(seconds: float | None) -> Any:
    """As ``duration``; None leaves the field unset."""
    return None if seconds is None else duration(seconds)


def uint32(value: int) -> Any:
    """``google.protobuf.UInt32Value``, which tells 0 from unset."""
    return wrappers_pb2.UInt32Value(value=value)


def optional_uint32(value: int | None) -> Any:
    """As ``uint32``; None leaves the field unset."""
    return None if value is None else uint32(value)


def share(numerator: int, denominator: int = 1_000_000) -> Any:
    """``envoy.type.v3.FractionalPercent``; the denominator is 100, 10,000 or 1,000,000."""
    names = {100: "HUNDRED", 10_000: "TEN_THOUSAND", 1_000_000: "MILLION"}
    return percent_pb2.FractionalPercent(
        numerator=numerator, denominator=percent_pb2.FractionalPercent.DenominatorType.Value(names[denominator])
    )


def struct(values: Mapping[str, Any]) -> Any:
    """``google.protobuf.Struct`` of plain values."""
    made = struct_pb2.Struct()
    made.update(values)
    return made


def extension(message: Any) -> Any:
    """``google.protobuf.Any`` around ``message``."""
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed
