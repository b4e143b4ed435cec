"""One conversation with one control plane, whichever way it is held: what both ways have in common.

A session outlives its streams: versions last, nonces do not. It is told the time, and leaves what is to be sent in its
``outbox``; its driver sends that after each call, in order, and reads no further answer before.

A value that came is not given up lightly. Two answers are held back for a while: one that says at the beginning of a
stream that there is nothing at all any more, and endpoints that are suddenly none at the beginning of a stream. A
control plane that has just started says so before it has read its own sources. The same answer a second time, or the
time itself, confirms it.

Source: gRFCs A27, A46, A53, A57, A88.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from meshlib.xds.ads.cache import Cache, Status
from meshlib.xds.ads.kinds import EVERYTHING, Kind, named, unwrapped
from meshlib.xds.decode.findings import Decoded, InvalidResource
from meshlib.xds.messages import status_pb2
from meshlib.xds.names import authority_of, canonical

__all__ = ["Rules", "Session", "Wanted"]

Wanted = Mapping[Kind, frozenset[str]]
"""Names to ask for; ``EVERYTHING`` among them asks for all of the type."""

INVALID_ARGUMENT = 3
_DATA_ERRORS = (5, 7)
"""NOT_FOUND and PERMISSION_DENIED: they say something about the resource, and not about the server."""
_TOLD = 100


class Rules(NamedTuple):
    """What a server's features and the client's settings make of its answers.

    Attributes:
        patience: Seconds after which a name that was not answered is taken not to exist; 0 waits for ever.
        hold: Seconds for which a first answer that takes everything away is held back; 0 takes it at once.
        drops_on_errors: A deletion or a bad update takes the value away (``fail_on_data_errors``).
        keeps_deleted: What is deleted stays, also where all of a type is asked for (``ignore_resource_deletion``).
        timer_is_transient: A name that was not answered may come yet (``resource_timer_is_transient_error``).
        authority: Whose ``xdstp`` names the server may speak of; ``""`` for plain names.
    """

    patience: float = 15.0
    hold: float = 30.0
    drops_on_errors: bool = False
    keeps_deleted: bool = False
    timer_is_transient: bool = False
    authority: str = ""

    @classmethod
    def of(cls, features: Iterable[str], hold: float = 30.0, authority: str = "") -> Rules:
        """The rules of a server with these features of the bootstrap."""
        known = frozenset(features)
        transient = "resource_timer_is_transient_error" in known
        return cls(
            30.0 if transient else 15.0,
            hold,
            "fail_on_data_errors" in known,
            "ignore_resource_deletion" in known,
            transient,
            authority,
        )


class Good(NamedTuple):
    """A resource of an answer that can be used; ``found`` is None for the one that is known."""

    name: str
    version: str
    packed: bytes
    found: Decoded[Any] | None


class Session(ABC):
    """What both protocols share.

    Args:
        cache: Where values go; shared by all sessions of a client.
        node: The ``Node`` message; sent once on each stream.
        rules: See ``Rules``.

    Attributes:
        outbox: Requests to send, in order; the driver empties it.
        answered: Whether the running stream brought any answer.
        is_open: Whether there is a stream.
        control_plane: What the server calls itself.
        version: What the server called its last answer.
    """

    METHOD: ClassVar[str]
    """The RPC's full name."""
    ANSWER: ClassVar[Any]
    """The message of an answer."""

    def __init__(self, cache: Cache, node: Any, rules: Rules | None = None) -> None:
        self.cache = cache
        self.rules = rules or Rules()
        self.outbox: list[Any] = []
        self.answered = False
        self.is_open = False
        self.control_plane = ""
        self.version = ""
        self._node: Any = node
        self._introduced = False
        self._wanted: dict[Kind, frozenset[str]] = {kind: frozenset() for kind in Kind}
        self._heard: set[tuple[Kind, str]] = set()
        self._timers: dict[tuple[Kind, str], float] = {}
        self._held: dict[tuple[Kind, str], float] = {}
        self._held_values: dict[str, Good] = {}
        self._held_gone: dict[Kind, set[str]] = {}

    # What the driver tells ------------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """A stream stands: ask for everything that is wanted."""
        self.outbox.clear()
        self._heard.clear()
        self._timers.clear()
        self._introduced, self.answered, self.is_open = False, False, True
        for kind in Kind:
            if self._wanted[kind]:
                self._begin(kind)
                self._arm(kind, self._wanted[kind], now)

    def close(self) -> None:
        """The stream is gone: what is missing is not known to be missing, and nothing confirms what was held back."""
        self.is_open = False
        self.outbox.clear()
        self._timers.clear()
        self._held.clear()
        self._held_values.clear()
        self._held_gone.clear()

    def want(self, wanted: Wanted, now: float) -> None:
        """From now on these names are wanted, and no others."""
        for kind in Kind:
            names, before = wanted.get(kind, frozenset()), self._wanted[kind]
            self._wanted[kind] = names
            for name in before - names:
                self._timers.pop((kind, name), None)
            if self.is_open and names != before:
                self._change(kind, before, names)
                self._arm(kind, names - before, now)

    @abstractmethod
    def receive(self, answer: Any, now: float) -> None:
        """Take an answer: update the cache, acknowledge or refuse. Answers of unknown types are passed over."""

    @property
    def deadline(self) -> float | None:
        """When ``expire`` has something to do; None for never."""
        return min([*self._timers.values(), *self._held.values()], default=None)

    def expire(self, now: float) -> None:
        """What should have come by now does not exist; what was held back is so."""
        for key in [key for key, at in self._timers.items() if at <= now]:
            del self._timers[key]
            self._missed(*key, now)
        for kind, name in [key for key, at in self._held.items() if at <= now]:
            self._confirm(kind, name, now)

    # What the protocols tell ----------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, kind: Kind) -> None:
        """Ask for the names of a type for the first time on this stream."""

    @abstractmethod
    def _change(self, kind: Kind, before: frozenset[str], names: frozenset[str]) -> None:
        """Ask for other names than before."""

    def _introduce(self, request: Any) -> Any:
        if not self._introduced:
            request.node.CopyFrom(self._node)
            self._introduced = True
        return request

    def _wants(self, kind: Kind, name: str) -> bool:
        wanted = self._wanted[kind]
        return authority_of(name) == self.rules.authority and (name in wanted or EVERYTHING in wanted)

    def _arm(self, kind: Kind, names: Iterable[str], now: float) -> None:
        """The time runs from when a name was asked for on a stream, and never for what is here."""
        for name in names if self.rules.patience else ():
            if not self.cache.has_value(kind, name):
                self._timers[kind, name] = now + self.rules.patience

    def _missed(self, kind: Kind, name: str, now: float) -> None:
        if name == EVERYTHING:
            self._heard.add((kind, EVERYTHING))
            return
        seconds = f"{self.rules.patience:g} s"
        if self.rules.timer_is_transient:
            self.cache.fail(kind, name, Status.TIMEOUT, f"no answer for {seconds}", now)
        else:
            self.cache.fail(kind, name, Status.DOES_NOT_EXIST, f"does not exist: no answer for {seconds}", now)

    def has_heard(self, kind: Kind) -> bool:
        """Whether all of a type was asked for and told, or not told in time, on this stream."""
        return (kind, EVERYTHING) in self._heard

    def _read(self, kind: Kind, packed: Any, version: str, told: str = "") -> tuple[str, Good | None]:
        """A resource of an answer by its name; None for one that nobody wants.

        Raises:
            InvalidResource: It cannot be used; ``problems`` says why, the first argument the name.
        """
        inner, own = unwrapped(packed)
        name, made = named(kind, inner)
        name = canonical(told or name)
        if not self._wants(kind, name):
            return name, None
        try:
            found = self.cache.read(kind, name, made, inner.value)
        except InvalidResource as error:
            raise Refused(name, "; ".join(map(str, error.problems)) or str(error)) from error
        return name, Good(name, own or version, inner.value, found)

    def _take(self, kind: Kind, good: Good, now: float) -> None:
        key = (kind, good.name)
        first = key not in self._heard
        self._heard.add(key)
        self._timers.pop(key, None)
        self._held_gone.get(kind, set()).discard(good.name)
        if kind is Kind.ENDPOINT:
            if first and self._empties(good):
                self._held[key], self._held_values[good.name] = now + self.rules.hold, good
                return
            self._held.pop(key, None)
            self._held_values.pop(good.name, None)
        self.cache.accept(kind, good.name, good.found, good.packed, good.version, now)

    def _empties(self, good: Good) -> bool:
        """Whether it takes all endpoints away from a cluster that has some."""
        entry = self.cache.get(Kind.ENDPOINT, good.name)
        if not self.rules.hold or good.found is None or entry is None or entry.value is None:
            return False
        return _count(entry.value) > 0 and _count(good.found.value) == 0

    def _confirm(self, kind: Kind, name: str, now: float) -> None:
        del self._held[kind, name]
        if name == EVERYTHING:
            for each in self._held_gone.pop(kind, set()):
                self._gone(kind, each, now)
            return
        good = self._held_values.pop(name)
        self.cache.accept(kind, good.name, good.found, good.packed, good.version, now)

    def _hold(self, kind: Kind, gone: Iterable[str], now: float) -> None:
        """All of a type is gone, it is said; see whether it is so."""
        self._held[kind, EVERYTHING] = now + self.rules.hold
        self._held_gone[kind] = set(gone)

    def _gone(self, kind: Kind, name: str, now: float) -> None:
        """The server does not have it, or not any more."""
        self._timers.pop((kind, name), None)
        entry = self.cache.get(kind, name)
        asked = name in self._wanted[kind]
        if entry is None or (entry.value is not None and self.rules.keeps_deleted):
            return
        if not asked:
            self.cache.remove(kind, name)
            return
        told = "was deleted by the server" if entry.value is not None else "does not exist"
        self.cache.fail(kind, name, Status.DOES_NOT_EXIST, told, now, drop=self.rules.drops_on_errors)

    def _hear_errors(self, kind: Kind, errors: Iterable[Any], now: float) -> None:
        """Word of the server about single names (``resource_errors``)."""
        for each in errors:
            name = canonical(each.resource_name.name)
            if not self._wants(kind, name):
                continue
            self._timers.pop((kind, name), None)
            drop = self.rules.drops_on_errors and each.error_detail.code in _DATA_ERRORS
            text = f"the server says: {each.error_detail.message or each.error_detail.code}"
            self.cache.fail(kind, name, Status.RECEIVED_ERROR, text, now, drop=drop)

    def _refuse(self, kind: Kind, refused: Mapping[str, str], version: str, now: float) -> None:
        for name, why in refused.items():
            if name and self._wants(kind, name):
                self._timers.pop((kind, name), None)
                self.cache.refuse(kind, name, why, version, now, drop=self.rules.drops_on_errors)


class Refused(InvalidResource):
    """A resource that cannot be used, by name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


def _count(assigned: Any) -> int:
    return sum(len(group.endpoints) for group in assigned.assignment)


def error_detail(kind: Kind, refused: Iterable[tuple[int, str, str]], total: int) -> Any:
    """What a refusal says: each bad resource by its place in the answer, its name, and the fields that are wrong."""
    entries = [f"[{number}] {name or 'unnamed'}: {why}" for number, name, why in refused]
    more = f"; and {len(entries) - _TOLD} more" if len(entries) > _TOLD else ""
    short = kind.value.rpartition(".")[2]
    text = f"{len(entries)} of {total} {short} resources cannot be used: {'; '.join(entries[:_TOLD])}{more}"
    return status_pb2.Status(code=INVALID_ARGUMENT, message=text)
