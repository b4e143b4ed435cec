"""Role-based access control as a value: who may do what (Envoy ``config.rbac.v3.RBAC``).

A policy holds when one of its permissions and one of its principals hold. ``ALLOW`` permits what some policy covers,
``DENY`` refuses it, ``LOG`` decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from meshlib.model.match import HeaderMatch, StringMatch

__all__ = [
    "Action",
    "Address",
    "AllOf",
    "AnyOf",
    "Anything",
    "AuthenticatedAs",
    "DestinationPort",
    "HeaderIs",
    "MetadataIs",
    "Not",
    "PathIs",
    "Policy",
    "Rbac",
    "Rule",
    "ServerNameIs",
    "Tables",
    "ValueMatch",
]


class Action(Enum):
    """What a policy that holds means."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    LOG = "LOG"


@dataclass(frozen=True, slots=True)
class Anything:
    """Always holds."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one holds."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One holds."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class HeaderIs:
    """A condition on a header of the request."""

    match: HeaderMatch


@dataclass(frozen=True, slots=True)
class PathIs:
    """A condition on the path without its query."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class Address:
    """An address lies in a network.

    Attributes:
        which: ``destination``, ``direct_remote`` (the connection's peer), or ``remote`` (after forwarding headers).
        network: For example ``10.0.0.0/8``.
    """

    which: str
    network: str


@dataclass(frozen=True, slots=True)
class DestinationPort:
    """The server's port is within ``start`` to below ``end``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ServerNameIs:
    """A condition on the TLS server name that the client asked for, ``""`` when it asked for none."""

    match: StringMatch


@dataclass(frozen=True, slots=True)
class AuthenticatedAs:
    """The peer showed a certificate; with ``match`` one of its names (URI, DNS, subject) meets the condition."""

    match: StringMatch | None = None


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A condition on a value of metadata.

    Attributes:
        text: On a text.
        number: Equal to it.
        boolean: Equal to it.
        present: True asks for presence, False for absence.
        is_null: The value is null.
        item: Some item of a list meets this.
        either: One of these is met.
    """

    text: StringMatch | None = None
    number: tuple[float, float] | None = None
    boolean: bool | None = None
    present: bool | None = None
    is_null: bool = False
    item: ValueMatch | None = None
    either: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataIs:
    """A condition on what an earlier filter found out, for example on a token's claims.

    Attributes:
        filter: Whose metadata.
        path: Keys from the outside in.
        value: None never holds.
        invert: Turns the answer round.
    """

    filter: str
    path: tuple[str, ...]
    value: ValueMatch | None
    invert: bool = False


Rule = (
    Anything
    | AllOf
    | AnyOf
    | Not
    | HeaderIs
    | PathIs
    | Address
    | DestinationPort
    | ServerNameIs
    | AuthenticatedAs
    | MetadataIs
)


@dataclass(frozen=True, slots=True)
class Policy:
    """One named policy."""

    name: str
    permissions: tuple[Rule, ...]
    principals: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """An action and its policies, by name in alphabetical order."""

    action: Action = Action.ALLOW
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True)
class Rbac:
    """One RBAC filter.

    Attributes:
        rules: What it enforces; None lets everything pass.
        shadow_rules: What it only records.
    """

    rules: Tables | None = None
    shadow_rules: Tables | None = None
