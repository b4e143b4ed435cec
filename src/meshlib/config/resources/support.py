"""What becomes of a field, said where the field is declared: ``Annotated[int, Ignored("why")]``.

A field without a mark is honoured, and a test holds that: the code that compiles or selects reads every field without
mark, and none that is marked as ignored; the data plane reads every value of the model that no mark names. A mark
covers all that stands below its field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Approximated", "Carried", "Field", "Ignored", "Mark", "ServerSide", "fields_of", "mark_of", "messages_in"]


@dataclass(frozen=True)
class Mark:
    """Why a field is not honoured as Istio's data plane would.

    Attributes:
        note: The reason, or what is done instead; for people.
        values: The mark holds for these values only; empty means any value.
    """

    word: ClassVar[str] = ""
    note: str
    values: tuple[Any, ...] = ()

    def covers(self, value: Any) -> bool:
        """Whether it holds for a value."""
        return not self.values or value in self.values


class Ignored(Mark):
    """Nothing reads the field; ``note`` says why."""

    word = "ignored"


@dataclass(frozen=True)
class Carried(Ignored):
    """The field is compiled into the model, and no call obeys it yet.

    Attributes:
        into: Where the model holds it, for example ``policy.SlowStart.window``; nothing reads that but ``explain``.
    """

    into: str = ""


class Approximated(Mark):
    """The field is read, and what it asks for is done in part or in another way; ``note`` says how."""

    word = "approximated"


class ServerSide(Mark):
    """Not for clients: somebody else acts on the field; ``note`` says who."""

    word = "server-side"


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        name: Python's name.
        spelled: Istio's spelling.
        mark: None when it is honoured.
        below: Messages that stand in it.
        info: As pydantic knows it.
    """

    name: str
    spelled: str
    mark: Mark | None
    below: tuple[type[BaseModel], ...]
    info: FieldInfo


@cache
def fields_of(message: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a message, in the order of their declaration."""
    return tuple(
        Field(name, info.alias or name, mark_of(info), tuple(dict.fromkeys(messages_in(info.annotation))), info)
        for name, info in message.model_fields.items()
    )


def mark_of(info: FieldInfo) -> Mark | None:
    """The mark of a field."""
    return next((each for each in info.metadata if isinstance(each, Mark)), None)


def messages_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every message inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from messages_in(argument)
