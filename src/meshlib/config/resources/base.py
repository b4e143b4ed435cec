"""What every kind is made of: Istio's spelling of fields, durations, and the object around a spec."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from meshlib.config.resources.yaml_lines import Lines

__all__ = [
    "Duration",
    "Int32",
    "Message",
    "ObjectMeta",
    "Origin",
    "Resource",
    "UInt32",
    "duration",
    "numbered",
    "one_of",
]

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 315_576_000_000.0
"""Seconds. Source: protobuf ``duration.proto``."""
_CAPS = re.compile(r"_([a-z0-9])")


def camel(name: str) -> str:
    """``per_try_timeout`` -> ``perTryTimeout``; digits stay where they are (``http2_max_requests``)."""
    return _CAPS.sub(lambda hit: hit.group(1).upper(), name)


def duration(value: object) -> float:
    """Seconds of ``1.5s``, ``200ms`` or ``1h30m``.

    Raises:
        ValueError: Not a text, a text without a unit, or longer than protobuf's ten thousand years.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration: write a text with a unit, for example '{value}s'")
    negative, body = value.startswith("-"), value.removeprefix("-" if value.startswith("-") else "+")
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        if body == "0":
            return 0.0
        hint = f": a unit is missing, for example '{value}s'" if re.fullmatch(r"[\d.]+", body) else ""
        raise ValueError(f"{value!r} is not a duration such as '1.5s', '200ms' or '1h30m'{hint}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"{value[:40]!r} is longer than {_LONGEST:.0f}s, which is the most that protobuf knows")
    return -seconds if negative else seconds


Duration = Annotated[float, BeforeValidator(duration)]
"""Seconds inside, a text with a unit outside."""


Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""protobuf's ``int32``."""
UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""protobuf's ``uint32``."""


class Message(BaseModel):
    """A message of Istio's API: fields in snake_case here, in lowerCamelCase in YAML; frozen."""

    model_config = ConfigDict(alias_generator=camel, populate_by_name=True, extra="allow", frozen=True)


def numbered(*values: StrEnum) -> BeforeValidator:
    """Lets an enum field take numbers (the index in ``values``) beside names, as protobuf JSON does."""

    def read(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(values):
            return values[value]
        return value

    return BeforeValidator(read)


def one_of(*names: str) -> Any:
    """A protobuf ``oneof``: refuses a message that sets more than one of these fields. Assign it in the class body."""

    def check(self: Message) -> Message:
        given = [name for name in names if name in self.model_fields_set and getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"only one of {' and '.join(map(camel, given))} may be set")
        return self

    return model_validator(mode="after")(check)


class ObjectMeta(Message):
    """Kubernetes ``metadata``."""

    name: str = ""
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    generate_name: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was read.

    Attributes:
        source: File name, or a name for objects given in code.
        lines: Where its fields stand; None for objects given in code.
    """

    source: str = ""
    lines: Lines | None = None

    def line(self, path: str) -> int | None:
        """The line of ``path``, or of the nearest field around it; None when nothing is known."""
        return self.lines.find(path) if self.lines is not None else None


SpecT = TypeVar("SpecT")


@dataclass(frozen=True, slots=True)
class Resource(Generic[SpecT]):
    """One configuration object.

    Attributes:
        api_version: For example ``networking.istio.io/v1``.
        kind: For example ``VirtualService``.
        metadata: Name, namespace, labels.
        spec: The kind's own message; a plain dict for kinds that are not modelled.
        status: As given, or None.
        origin: Where it was read.
    """

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: SpecT
    status: dict[str, Any] | None = None
    origin: Origin = field(default=Origin(), compare=False)

    @property
    def id(self) -> str:
        """``VirtualService default/reviews``; without a namespace ``VirtualService reviews``."""
        space = f"{self.metadata.namespace}/" if self.metadata.namespace else ""
        return f"{self.kind} {space}{self.metadata.name}"

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace, name: its identity."""
        return (self.kind, self.metadata.namespace or "", self.metadata.name)
