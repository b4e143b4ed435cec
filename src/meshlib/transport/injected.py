"""The body of an answer that an injected fault gives in an endpoint's place; it is there, whole, from the beginning."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

__all__ = ["InjectedBody"]


class InjectedBody:
    """A ``Body`` and an ``AsyncBody`` of given bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def whole(self) -> bytes:
        """All of it."""
        return self._content

    def __iter__(self) -> Iterator[bytes]:
        """One chunk, or none."""
        if self._content:
            yield self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same."""
        for chunk in self:
            yield chunk

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    abandon = close
