"""What is read off a request that is served: its deadline and the headers that go on.

A server that is asked with a time limit has that much less for its own calls. Of several limits the tightest counts;
one that cannot be read is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from meshlib.clock import SYSTEM_CLOCK, Clock
from meshlib.context.current import Context, Deadline, entered
from meshlib.dataplane.timeout_headers import read_grpc_timeout, read_milliseconds
from meshlib.dataplane.trace_headers import TRACE_HEADERS

__all__ = ["Incoming"]

Pairs = Iterable[tuple[str | bytes, str | bytes]]
Read = Callable[[str], float | None]

_UNFIT = b"\r\n\0"


class Incoming:
    """How requests that are served become contexts.

    Args:
        headers: Names of further headers to hand on, such as those that routing rules match on; before trace context
            where not all fit. They are whatever the peer says: at the edge name none that grants anything.
        timeouts: Which headers set a deadline, and how each is read; empty sets none.
        max_bytes: Bound of names and values together; a header that does not fit is left out whole.
        clock: For tests.
    """

    TIMEOUTS: Mapping[str, Read] = {
        "grpc-timeout": read_grpc_timeout,
        "x-envoy-expected-rq-timeout-ms": read_milliseconds,
        "x-envoy-upstream-rq-timeout-ms": read_milliseconds,
    }
    """Header -> how its value is read: seconds, or None for no limit."""

    def __init__(
        self,
        headers: Sequence[str] = (),
        *,
        timeouts: Mapping[str, Read] = TIMEOUTS,
        max_bytes: int = 16384,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if isinstance(headers, str):
            raise TypeError(f"headers is a sequence of names, not the text {headers!r}")
        own = [name.lower().encode("ascii") for name in headers]
        self._order = {name: number for number, name in enumerate(dict.fromkeys([*own, *TRACE_HEADERS]))}
        self._timeouts = {name.lower().encode("ascii"): read for name, read in timeouts.items()}
        self._max_bytes = max_bytes
        self._clock = clock

    @contextmanager
    def received(self, headers: Mapping[str, str] | Pairs, what: str = "the received message") -> Iterator[Context]:
        """Serve something in the block: its context is what the headers say, and nothing of the surrounding one.

        Args:
            headers: Names in any case.
            what: What is served, told by errors.
        """
        with entered(self.read(headers, what)) as context:
            yield context

    def read(self, headers: Mapping[str, str] | Pairs, what: str, seconds: float | None = None) -> Context:
        """The context that a request asks for.

        Args:
            headers: Of the request.
            what: The request, in words.
            seconds: What is left of a deadline that the server knows by itself, None for none.
        """
        pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
        kept: list[tuple[int, bytes, bytes]] = []
        source = f"of {what}"
        for given, value in pairs:
            name = _raw(given).lower()
            if name in self._order:
                kept.append((self._order[name], name, _raw(value)))
            read = self._timeouts.get(name)
            limit = read(_raw(value).decode("latin-1")) if read is not None else None
            if limit is not None and (seconds is None or limit < seconds):
                seconds, source = limit, f"of {what} ({name.decode()})"
        now = self._clock.now() if seconds is not None else 0.0
        end = None if seconds is None else Deadline(now + seconds, seconds, source, self._clock)
        return Context(end, tuple(self._fitting(kept)))

    def _fitting(self, found: list[tuple[int, bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """The most wanted headers that fit, lines of one header in their order."""
        room = self._max_bytes
        for _, name, value in sorted(found, key=lambda each: each[0]):
            size = len(name) + len(value)
            if size <= room and not any(byte in value for byte in _UNFIT):
                room -= size
                yield name, value


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")
