"""What is found while a resource is read: errors, which refuse it, and fields that cannot be honoured.

Every set field of every message is either read or reported: ``Place.only`` names those that a reader knows, and the
rest is reported with its path. That is how nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from meshlib.errors import ConfigError

__all__ = ["Decoded", "Findings", "InvalidResource", "Place", "Profile"]

ValueT = TypeVar("ValueT")


class Profile(Enum):
    """Whose rules of validation hold.

    ``HTTP`` accepts what Envoy accepts; ``GRPC`` refuses what gRPC's clients refuse, and reads headers as they do.
    """

    HTTP = "http"
    GRPC = "grpc"


class InvalidResource(ConfigError):
    """A resource breaks its rules. ``problems`` holds every one found, each as ``path: what is wrong``."""


@dataclass(frozen=True, slots=True)
class Decoded(Generic[ValueT]):
    """A resource in the model's form.

    Attributes:
        value: What it says.
        not_honoured: Paths of fields that are set and have no effect here.
    """

    value: ValueT
    not_honoured: tuple[str, ...] = ()


class Findings:
    """Collects while one resource is read.

    Attributes:
        profile: Whose rules hold.
    """

    __slots__ = ("errors", "not_honoured", "profile")

    def __init__(self, profile: Profile = Profile.HTTP) -> None:
        self.profile = profile
        self.errors: list[str] = []
        self.not_honoured: list[str] = []

    def close(self, kind: str, name: str, value: ValueT) -> Decoded[ValueT]:
        """The value, with what is to be said about it.

        Raises:
            InvalidResource: An error was found.
        """
        if self.errors:
            raise InvalidResource(f"{kind} {name!r} cannot be used", self.errors)
        return Decoded(value, tuple(dict.fromkeys(self.not_honoured)))


class Place:
    """Where in a resource a reader is; its path is written out only where something is to be said of it."""

    __slots__ = ("_key", "_name", "_parent", "findings")

    def __init__(self, findings: Findings, parent: Place | None = None, name: str = "", key: object = None) -> None:
        self.findings = findings
        self._parent = parent
        self._name = name
        self._key = key

    @property
    def path(self) -> str:
        """Fields from the resource on, with dots between; ``""`` for the resource itself."""
        above = self._parent.path if self._parent is not None else ""
        below = self._name if self._key is None else f"{self._name}[{self._key}]"
        return f"{above}.{below}" if above and self._name else above + below

    @property
    def is_grpc(self) -> bool:
        """Whether gRPC's rules hold."""
        return self.findings.profile is Profile.GRPC

    def field(self, name: str, key: object = None) -> Place:
        """A field below, or an item of one."""
        return Place(self.findings, self, name, key)

    def item(self, number: int) -> Place:
        """An item of this list."""
        return Place(self.findings, self, "", number)

    def error(self, why: str) -> None:
        """The resource cannot be used."""
        self.findings.errors.append(f"{self.path}: {why}" if self.path else why)

    def ignored(self, *names: str) -> None:
        """These fields of it are set and have no effect."""
        if names:
            self.findings.not_honoured.extend(self.field(name).path for name in names)

    def has_no_effect(self) -> None:
        """All of it has no effect."""
        self.findings.not_honoured.append(self.path)

    def only(self, message: Any, known: Collection[str]) -> None:
        """Report every field of ``message`` that is set and not among ``known``."""
        unknown = [field.name for field, _ in message.ListFields() if field.name not in known]
        if unknown:
            self.ignored(*unknown)
