"""The context in force, and how a block of code tightens it or leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from meshlib.clock import SYSTEM_CLOCK, Clock
from meshlib.dataplane.request import Request
from meshlib.dataplane.trace_headers import spoken_for

__all__ = ["NOTHING", "Context", "Deadline", "current", "deadline", "detached", "entered", "remaining"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """When everything must be over.

    Attributes:
        at: The moment, on ``clock``.
        seconds: How long it was when it was set.
        source: Who set it, in words; errors tell it.
        clock: What ``at`` is a moment of.
    """

    at: float
    seconds: float
    source: str
    clock: Clock = SYSTEM_CLOCK

    def remaining(self) -> float:
        """Seconds left; not above 0 when it has passed."""
        return self.at - self.clock.now()


@dataclass(frozen=True, slots=True)
class Context:
    """What calls inherit.

    Attributes:
        deadline: None sets no bound.
        headers: Sent along unless the call has them itself, names in lower case.
    """

    deadline: Deadline | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def lend(self, request: Request) -> None:
        """Give a call, before it is routed, what it inherits: its rules see the headers as if it had set them."""
        if self.headers:
            own = spoken_for(request.raw_headers)
            lent = [pair for pair in self.headers if pair[0] not in own]
            if lent:
                request.add(lent)
        if self.deadline is not None:
            left = self.deadline.remaining()
            if request.timeout is None or left < request.timeout:
                request.timeout = left
                request.timeout_of = f"the deadline of {self.deadline.seconds:g} s {self.deadline.source}"


NOTHING = Context()
_current: ContextVar[Context] = ContextVar("meshlib", default=NOTHING)


def current() -> Context:
    """The context in force."""
    return _current.get()


def remaining() -> float | None:
    """Seconds until the deadline in force, not above 0 when it has passed; None when there is none."""
    limit = _current.get().deadline
    return None if limit is None else limit.remaining()


@contextmanager
def entered(context: Context) -> Iterator[Context]:
    """A context for a block of code, in place of the one in force."""
    before = _current.get()
    _current.set(context)
    try:
        yield context
    finally:
        _current.set(before)


@contextmanager
def deadline(seconds: float, name: str = "", *, clock: Clock = SYSTEM_CLOCK) -> Iterator[Deadline]:
    """Calls made in the block, and below it, must be over in time; where one is in force already, the tighter counts.

    The block itself is not interrupted. In coroutines too it is a plain ``with``.

    Args:
        seconds: From now on; 0 or less has passed already.
        name: Told by errors.
        clock: For tests.
    """
    before = _current.get()
    source = f"set by {name}" if name else "set by deadline()"
    limit = Deadline(clock.now() + seconds, seconds, source, clock)
    outer = before.deadline
    if outer is not None and outer.remaining() <= limit.remaining():
        limit = outer
    with entered(replace(before, deadline=limit)):
        yield limit


@contextmanager
def detached(*, headers: bool = True) -> Iterator[None]:
    """Work in the block may outlive the request that is served: no deadline holds for it.

    What is started in the block inherits that: ``with detached(): asyncio.create_task(...)``.

    Args:
        headers: False leaves the ids and routing headers behind as well.
    """
    with entered(Context(None, _current.get().headers if headers else ())):
        yield
