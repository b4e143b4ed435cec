"""Which faults befall a request: delay first, then abort, each by a draw of its own.

A filter is passed over when its conditions do not hold or too many faults are under way; one that aborts ends the
chain. Where the configuration leaves time or status to request headers, a request without them, or with nonsense in
them, is spared and nothing is drawn.

Source: Envoy ``HTTPFault``; gRFC A33.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from meshlib.dataplane.matchers import Clause, bind
from meshlib.dataplane.request import Request
from meshlib.model.match import RouteMatch
from meshlib.model.policy import Abort, Delay, Fault

__all__ = ["BoundFault", "Injected", "bind_faults", "inject", "possible"]

DELAY, ABORT = "x-envoy-fault-delay-request", "x-envoy-fault-abort-request"
GRPC_ABORT = "x-envoy-fault-abort-grpc-request"
_SHARES = {
    DELAY: (f"{DELAY}-percentage",),
    ABORT: (f"{ABORT}-percentage", "x-envoy-fault-abort-percentage"),
}
_GRPC_STATUSES = 17
HEADERS = frozenset(
    name.encode() for name in (DELAY, ABORT, GRPC_ABORT, *(name for names in _SHARES.values() for name in names))
)
"""All that a request may say of faults; acted upon and not sent on where the configuration leaves it to them."""


class BoundFault(NamedTuple):
    """One fault filter with its conditions bound."""

    fault: Fault
    clauses: tuple[Clause, ...]


class Injected(NamedTuple):
    """What was drawn: seconds of delay, the abort with its status, and how many faults are under way because of it."""

    delay: float = 0.0
    abort: Abort | None = None
    active: int = 0


NOTHING = Injected()
_UNUSED = random.Random(0)  # noqa: S311 - conditions on headers draw nothing


def bind_faults(fault: Fault | None) -> tuple[BoundFault, ...]:
    """The chain of filters that begins with ``fault``."""
    return tuple(BoundFault(each, bind(RouteMatch(headers=each.headers))) for each in _chain(fault))


def _chain(fault: Fault | None) -> Iterator[Fault]:
    while fault is not None:
        yield fault
        fault = fault.then


def left_to_headers(faults: Iterable[BoundFault]) -> bool:
    """Whether time or status of any of them is left to request headers."""
    delays = (each.fault.delay for each in faults if each.fault.delay is not None)
    aborts = (each.fault.abort for each in faults if each.fault.abort is not None)
    by_header = any(delay.seconds is None for delay in delays)
    return by_header or any(abort.http_status is None and abort.grpc_status is None for abort in aborts)


def inject(
    faults: tuple[BoundFault, ...],
    request: Request,
    cluster: str,
    draw: Callable[[int], int],
    active: Callable[[], int],
) -> Injected:
    """The faults of one request.

    Args:
        faults: The chain.
        request: The request.
        cluster: Where it goes.
        draw: A number from 0 to below its argument, as ``random.Random.randrange``.
        active: How many faults are under way now.
    """
    found = NOTHING
    for bound in faults:
        fault = bound.fault
        if fault.cluster not in ("", cluster) or (fault.max_active is not None and active() >= fault.max_active):
            continue
        if not all(clause.test(request, _UNUSED) for clause in bound.clauses):
            continue
        found = _of_one(fault, request, draw, found)
        if found.abort is not None:
            break
    return found


def _of_one(fault: Fault, request: Request, draw: Callable[[int], int], before: Injected) -> Injected:
    delay = _delay(fault.delay, request, draw) if fault.delay is not None else 0.0
    abort = _abort(fault.abort, request, draw) if fault.abort is not None else None
    active = before.active + (1 if delay or abort is not None else 0)
    return Injected(before.delay + delay, abort, active)


def possible(faults: tuple[BoundFault, ...], request: Request, clusters: Collection[str]) -> list[Fault]:
    """What may befall a request that goes to one of ``clusters``, for ``explain``: nothing is left to its headers."""
    found: list[Fault] = []
    for bound in faults:
        fault = bound.fault
        fits = fault.max_active != 0 and (not fault.cluster or fault.cluster in clusters)
        if fits and all(clause.test(request, _UNUSED) for clause in bound.clauses):
            delay = _named_delay(fault.delay, request) if fault.delay is not None else None
            abort = _named_abort(fault.abort, request) if fault.abort is not None else None
            if delay is not None or abort is not None:
                found.append(Fault(delay, abort))
    return found


def _delay(delay: Delay, request: Request, draw: Callable[[int], int]) -> float:
    named = _named_delay(delay, request)
    if named is None or named.seconds is None:
        return 0.0
    return named.seconds if draw(named.denominator) < _share(named) else 0.0


def _named_delay(delay: Delay, request: Request) -> Delay | None:
    """The delay with the time that the request names where it is left to it; None when the request names none."""
    if delay.seconds is not None:
        return delay
    milliseconds = _number(request, DELAY)
    if milliseconds is None:
        return None
    return replace(delay, seconds=milliseconds / 1000, parts_per_million=_lowered(delay, request, DELAY))


def _abort(abort: Abort, request: Request, draw: Callable[[int], int]) -> Abort | None:
    named = _named_abort(abort, request)
    return named if named is not None and draw(named.denominator) < _share(named) else None


def _named_abort(abort: Abort, request: Request) -> Abort | None:
    """As ``_named_delay``, for the status."""
    if abort.http_status is not None or abort.grpc_status is not None:
        return abort
    named = _named(abort, request)
    return replace(named, parts_per_million=_lowered(abort, request, ABORT)) if named is not None else None


def _named(abort: Abort, request: Request) -> Abort | None:
    """The abort with the status that the request names; HTTP's header goes before gRPC's."""
    status = _number(request, ABORT)
    if status is not None and 200 <= status < 600:
        return replace(abort, http_status=status)
    status = _number(request, GRPC_ABORT)
    return replace(abort, grpc_status=status) if status is not None and status < _GRPC_STATUSES else None


def _share(fault: Delay | Abort) -> int:
    return fault.parts_per_million * fault.denominator // 1_000_000


def _lowered(fault: Delay | Abort, request: Request, what: str) -> int:
    """Parts per million that a header names, never above the configured ones."""
    share = _share(fault)
    wanted = next((n for name in _SHARES[what] if (n := _number(request, name)) is not None), share)
    return min(wanted, share) * 1_000_000 // fault.denominator


def _number(request: Request, name: str) -> int | None:
    text = request.header(name)
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
