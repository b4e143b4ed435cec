"""What is asked of a resolver, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

__all__ = ["Answer", "LookupFailed", "Question", "Resolver", "Target"]


class Question(NamedTuple):
    """A name and what is wanted of it: ``ADDRESS`` (A and AAAA) or ``SRV``."""

    name: str
    kind: str = "ADDRESS"


class Target(NamedTuple):
    """One SRV record: where a service runs; of targets the lowest priority number is used first."""

    host: str
    port: int
    priority: int = 0
    weight: int = 0


class LookupFailed(Exception):
    """No answer: nobody answered in time, or nobody could. It says nothing about the name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name stands for.

    Attributes:
        values: Addresses as text, or targets; empty when the name does not exist or stands for nothing of the kind.
        ttl: Seconds for which it holds, the shortest of all records on the way; None where nobody said.
        missing: IP versions (4, 6) that nobody could tell of; what was known of them stays.
    """

    values: tuple[Any, ...]
    ttl: float | None = None
    missing: frozenset[int] = frozenset()


class Resolver(Protocol):
    """Whom to ask; called in an asyncio event loop."""

    async def addresses(self, name: str) -> Answer:
        """Every address of a name, of both IP versions where this machine has both.

        Raises:
            LookupFailed: There is no answer.
        """
        ...

    async def targets(self, name: str) -> Answer:
        """The SRV records of a name, as ``Target``.

        Raises:
            LookupFailed: There is no answer.
        """
        ...
