"""What is known of each resource: its last good value, and what came after that.

A value is kept through everything that can befall it, a lost stream, a bad update, a deletion, so that requests go on
as before; ``fail_on_data_errors`` of a server asks for the contrary. Source: gRFCs A53, A57, A88; A40 for the statuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from meshlib.xds.ads.kinds import Kind, decoded
from meshlib.xds.decode.filters import OPEN, HttpFilters
from meshlib.xds.decode.findings import Decoded, Profile

__all__ = ["Cache", "Entry", "Status"]


class Status(Enum):
    """How it stands with a resource; numbers are those of ``ClientResourceStatus``."""

    REQUESTED = 1
    DOES_NOT_EXIST = 2
    ACKED = 3
    NACKED = 4
    RECEIVED_ERROR = 5
    TIMEOUT = 6


@dataclass(slots=True)
class Entry:
    """One name that is asked for, or came.

    Attributes:
        status: See ``Status``.
        value: The last good one, decoded; None when there is none.
        packed: Its bytes.
        version: Its version, as the server says.
        updated: Seconds on the client's clock when the value came.
        error: Why what came last was not taken, ``""`` for nothing.
        failed_version: Version of what was not taken.
        failed_at: When that was.
        not_honoured: Paths of its fields that are set and have no effect here.
        filters: Of a route table: the chain it was read for.
    """

    status: Status = Status.REQUESTED
    value: Any = None
    packed: bytes = b""
    version: str = ""
    updated: float = 0.0
    error: str = ""
    failed_version: str = ""
    failed_at: float = 0.0
    not_honoured: tuple[str, ...] = ()
    filters: HttpFilters = OPEN

    @property
    def is_secret(self) -> bool:
        """Whether a private key stands in it, so that its contents are nobody else's to see."""
        return b"PRIVATE KEY" in self.packed

    @property
    def settled(self) -> bool:
        """Whether there is a value, or word that there is none."""
        return self.value is not None or self.status is not Status.REQUESTED


class Cache:
    """All entries, by type and canonical name.

    Attributes:
        profile: Whose rules of validation hold.
        changed: What became different since ``take_changes`` was called; a name may be gone.
        failing: What cannot be had, or came last in a form that cannot be used.
        revision: Grows with what changes.
    """

    def __init__(self, profile: Profile = Profile.HTTP) -> None:
        self.profile = profile
        self._entries: dict[Kind, dict[str, Entry]] = {kind: {} for kind in Kind}
        self.changed: set[tuple[Kind, str]] = set()
        self.failing: set[tuple[Kind, str]] = set()
        self.revision = 0

    def entries(self, kind: Kind) -> dict[str, Entry]:
        """All of a type, by name."""
        return self._entries[kind]

    def get(self, kind: Kind, name: str) -> Entry | None:
        """What is known of a name; None when it was never asked for and never came."""
        return self._entries[kind].get(name)

    def has_value(self, kind: Kind, name: str) -> bool:
        """Whether there is something to use."""
        entry = self._entries[kind].get(name)
        return entry is not None and entry.value is not None

    def settled(self, kind: Kind, name: str) -> bool:
        """Whether waiting for this name has an end: it is there, or known not to be."""
        entry = self._entries[kind].get(name)
        return entry is not None and entry.settled

    def with_values(self, kind: Kind) -> Iterator[tuple[str, Any]]:
        """Names and values of a type."""
        return ((name, entry.value) for name, entry in self._entries[kind].items() if entry.value is not None)

    def take_changes(self) -> set[tuple[Kind, str]]:
        """What changed since the last call."""
        changed, self.changed = self.changed, set()
        self.revision += bool(changed)
        return changed

    def retain(self, kind: Kind, names: Collection[str], *, everything: bool = False) -> None:
        """``names`` are asked for; forget what is not, unless all of the type is asked for."""
        entries = self._entries[kind]
        for name in names:
            entries.setdefault(name, Entry())
        if not everything:
            for name in [name for name in entries if name not in names]:
                self.remove(kind, name)

    def read(self, kind: Kind, name: str, made: Any, packed: bytes) -> Decoded[Any] | None:
        """The value of a message; None when it is the one that is here.

        Raises:
            InvalidResource: With everything that is wrong.
        """
        entry = self._entries[kind].get(name)
        if entry is not None and entry.value is not None and entry.packed == packed:
            return None
        return decoded(kind, made, self.profile, self._filters(name) if kind is Kind.ROUTE else OPEN)

    def _filters(self, table: str) -> HttpFilters:
        for _, listener in self.with_values(Kind.LISTENER):
            if listener.manager is not None and listener.manager.table_name == table:
                return listener.manager.filters  # type: ignore[no-any-return]
        return OPEN

    def accept(
        self, kind: Kind, name: str, found: Decoded[Any] | None, packed: bytes, version: str, now: float
    ) -> None:
        """A good value came; ``found`` is None for the one that is here already."""
        entry = self._entries[kind].setdefault(name, Entry())
        mended = entry.status is not Status.ACKED
        self.failing.discard((kind, name))
        entry.status, entry.version, entry.error, entry.failed_version = Status.ACKED, version, "", ""
        if found is None or found.value == entry.value:
            if mended:
                self.changed.add((kind, name))
            return
        entry.value, entry.packed, entry.not_honoured = found.value, packed, found.not_honoured
        entry.updated = now
        if kind is Kind.ROUTE:
            entry.filters = self._filters(name)
        self.changed.add((kind, name))

    def refuse(self, kind: Kind, name: str, error: str, version: str, now: float, *, drop: bool = False) -> None:
        """A bad value came; the good one stays, unless ``drop``."""
        self.fail(kind, name, Status.NACKED, error, now, drop=drop)
        self._entries[kind][name].failed_version = version

    def fail(self, kind: Kind, name: str, status: Status, error: str, now: float, *, drop: bool = False) -> None:
        """It does not exist, did not come in time, or the server says that it cannot be had."""
        entry = self._entries[kind].setdefault(name, Entry())
        entry.status, entry.error, entry.failed_at = status, error, now
        if drop:
            entry.value, entry.packed = None, b""
        self.failing.add((kind, name))
        self.changed.add((kind, name))

    def remove(self, kind: Kind, name: str) -> None:
        """Nobody has it any more, or asks for it."""
        self.failing.discard((kind, name))
        if self._entries[kind].pop(name, None) is not None:
            self.changed.add((kind, name))
