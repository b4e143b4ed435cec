"""A long sequence in chunks, of which a new version shares all that did not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar, overload

__all__ = ["Parts"]

T = TypeVar("T")


class Parts(Sequence[T]):
    """Frozen, and equal by identity: two of them are compared chunk by chunk (``config.difference``).

    Args:
        chunks: The parts in their order; hand the very tuples of before over again where they did not change.
    """

    __slots__ = ("_length", "chunks")

    def __init__(self, chunks: tuple[tuple[T, ...], ...]) -> None:
        self.chunks = chunks
        self._length = sum(map(len, chunks))

    def __len__(self) -> int:
        """How many there are in all chunks."""
        return self._length

    def __iter__(self) -> Iterator[T]:
        """All of them."""
        return chain.from_iterable(self.chunks)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """As of a tuple, by way of one."""
        return tuple(self)[index]
