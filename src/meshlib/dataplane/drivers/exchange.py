"""What a driver needs of a face: how to send an attempt and how to read what came of it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.rate_limit import Question, Verdict
from meshlib.dataplane.reply import LocalReply

__all__ = ["AsyncExchange", "Exchange"]

ReplyT = TypeVar("ReplyT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)


class _Reading(Protocol[ReplyT, ResponseT_co]):
    """The part of an exchange that never waits."""

    pool_timeout: float | None
    """Seconds the caller allows for waiting for a connection; None is unbounded."""

    def classify(self, attempt: Attempt, reply: ReplyT) -> Outcome:
        """The outcome of a reply whose headers are there."""
        ...

    def failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        """The outcome of an attempt that raised."""
        ...

    def error(self, call: Call, outcome: Outcome) -> BaseException:
        """What to raise for a failure that stands: the host library's type, with the mesh's facts."""
        ...

    def accept(self, call: Call, reply: ReplyT) -> ResponseT_co:
        """Hand a reply to the caller; from here on its body owns the call and closes it."""
        ...

    def answer_injected(self, answer: LocalReply) -> ReplyT:
        """The reply of an endpoint that an injected fault stands for."""
        ...

    def answer(self, call: Call) -> ResponseT_co:
        """The response that the configuration asks for (``call.answer``)."""
        ...


class Exchange(_Reading[ReplyT, ResponseT_co], Protocol):
    """An exchange on the blocking path."""

    def send(self, call: Call, attempt: Attempt) -> ReplyT:
        """Send; return when the response headers are there, at the latest at ``attempt.deadline``."""
        ...

    def ask(self, question: Question, seconds: float) -> Verdict:
        """Ask a rate limit service; its failure within ``seconds`` is a verdict too."""
        ...

    def branch(self) -> Exchange[ReplyT, ResponseT_co]:
        """An exchange of the same call, for one of several attempts side by side."""
        ...

    def break_off(self) -> None:
        """End ``send`` from another thread where that can be done; what it returns is thrown away."""
        ...

    def discard(self, reply: ReplyT) -> None:
        """Close a reply that is given up for a retry."""
        ...


class AsyncExchange(_Reading[ReplyT, ResponseT_co], Protocol):
    """An exchange on the cooperative path; the driver bounds ``send`` by a cancel scope where it must."""

    @property
    def keeps_deadlines(self) -> bool:
        """``send`` ends at ``attempt.deadline`` by itself, with a failure that says so."""
        ...

    def send(self, call: Call, attempt: Attempt) -> Coroutine[Any, Any, ReplyT]:
        """Send; return when the response headers are there."""
        ...

    def ask(self, question: Question, seconds: float) -> Coroutine[Any, Any, Verdict]:
        """Ask a rate limit service; its failure within ``seconds`` is a verdict too."""
        ...

    def branch(self) -> AsyncExchange[ReplyT, ResponseT_co]:
        """An exchange of the same call, for one of several attempts side by side."""
        ...

    def discard(self, reply: ReplyT) -> Coroutine[Any, Any, None]:
        """Close a reply that is given up for a retry, even when cancelled meanwhile."""
        ...
