"""Small values off the wire: resources in any form, durations, shares, metadata, extensions.

A resource may come as a message, as protobuf JSON (text or plain values), or packed into an ``Any``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib.xds.decode.findings import InvalidResource, Place
from meshlib.xds.messages import any_pb2, json_format, message, typed_struct_pb2, udpa_typed_struct_pb2

__all__ = [
    "denominator",
    "duration",
    "metadata",
    "optional_duration",
    "optional_uint",
    "parts_per_million",
    "read",
    "unpack",
]

_DENOMINATORS = (100, 10_000, 1_000_000)
_LONGEST = 315_576_000_000


def read(resource: Any, kind: Any) -> Any:
    """``resource`` as a message of ``kind``.

    Raises:
        InvalidResource: It is something else, or no protobuf JSON of that kind.
    """
    if isinstance(resource, kind):
        return resource
    made = kind()
    try:
        if isinstance(resource, any_pb2.Any):
            if not resource.Unpack(made):
                raise InvalidResource(f"{resource.type_url} is not {kind.DESCRIPTOR.full_name}")
        elif isinstance(resource, Mapping):
            without_type = {key: value for key, value in resource.items() if key != "@type"}
            json_format.ParseDict(without_type, made)
        else:
            json_format.Parse(resource, made)
    except (json_format.ParseError, message.DecodeError) as error:
        raise InvalidResource(f"no {kind.DESCRIPTOR.full_name}", [str(error)]) from error
    return made


def duration(value: Any, at: Place) -> float:
    """Seconds."""
    if not 0 <= value.seconds <= _LONGEST or not 0 <= value.nanos < 1_000_000_000:
        at.error(f"duration of {value.seconds} s {value.nanos} ns is out of range")
    return float((value.seconds * 1_000_000_000 + value.nanos) / 1_000_000_000)


def optional_duration(value: Any, name: str, at: Place) -> float | None:
    """Seconds of that field of a message, None when it is not set."""
    return duration(getattr(value, name), at.field(name)) if value.HasField(name) else None


def optional_uint(value: Any, name: str) -> int | None:
    """The number in that wrapper field of a message, None when it is not set."""
    return int(getattr(value, name).value) if value.HasField(name) else None


def parts_per_million(value: Any) -> int:
    """A ``FractionalPercent``; more than all of it is all of it."""
    return min(1_000_000, int(value.numerator) * 1_000_000 // denominator(value))


def denominator(value: Any) -> int:
    """What a ``FractionalPercent`` counts in."""
    return _DENOMINATORS[value.denominator]


def metadata(value: Any, key: str) -> dict[str, Any]:
    """The plain values that stand under ``key`` of a message's metadata."""
    if not value.HasField("metadata"):
        return {}
    found = value.metadata.filter_metadata.get(key)
    return {} if found is None else {name: _plain(each) for name, each in found.fields.items()}


def _plain(value: Any) -> Any:
    """A ``Value``; texts, of which there are as many as endpoints, the short way."""
    return value.string_value if value.HasField("string_value") else json_format.MessageToDict(value)


def unpack(packed: Any, kinds: Mapping[str, Any], at: Place) -> Any:
    """The message in an ``Any``, one of ``kinds`` (by full name); None for any other type.

    A ``TypedStruct`` is taken for what it says it is.
    """
    for struct in (typed_struct_pb2.TypedStruct, udpa_typed_struct_pb2.TypedStruct):
        if packed.Is(struct.DESCRIPTOR):
            inner = struct()
            packed.Unpack(inner)
            kind = kinds.get(inner.type_url.rpartition("/")[2])
            return None if kind is None else _from_struct(inner.value, kind, at)
    kind = kinds.get(packed.TypeName())
    if kind is None:
        return None
    made = kind()
    packed.Unpack(made)
    return made


def _from_struct(value: Any, kind: Any, at: Place) -> Any:
    made = kind()
    try:
        json_format.ParseDict(json_format.MessageToDict(value), made)
    except json_format.ParseError as error:
        at.error(f"no {kind.DESCRIPTOR.full_name}: {error}")
    return made
