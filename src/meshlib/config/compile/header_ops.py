"""Header operations of a rule and its destinations, and the authority that they set.

Source: Istio ``route.go``: ``host`` and pseudo headers are taken out of the operations; for a single destination both
levels are run as one, with the destination's values on top; for several the destination's level runs first.
"""

from __future__ import annotations

from meshlib.config.resources.virtual_service import HeaderOperations, Headers
from meshlib.model.route import NO_HEADERS, HeaderOps

__all__ = ["authority_of", "joined", "request_ops", "response_ops"]


def request_ops(headers: Headers | None) -> HeaderOps:
    """Operations on requests."""
    return _ops(headers.request) if headers is not None else NO_HEADERS


def response_ops(headers: Headers | None) -> HeaderOps:
    """Operations on responses."""
    return _ops(headers.response) if headers is not None else NO_HEADERS


def _ops(given: HeaderOperations | None) -> HeaderOps:
    if given is None:
        return NO_HEADERS
    return HeaderOps(
        tuple(sorted((n, v) for n, v in given.set.items() if _is_plain(n))),
        tuple((n, v) for n, v in sorted(given.add.items()) if _is_plain(n)),
        tuple(n for n in given.remove if _is_plain(n)),
    )


def _is_plain(name: str) -> bool:
    return not name.startswith(":") and name.lower() != "host"


def joined(rule: HeaderOps, destination: HeaderOps) -> HeaderOps:
    """Both levels as one: the destination's values come last and win; removes cannot undo the other's sets."""
    sets = {name.lower(): (name, value) for name, value in (*rule.set, *destination.set)}
    return HeaderOps(tuple(sets.values()), (*rule.add, *destination.add), (*rule.remove, *destination.remove))


def authority_of(headers: Headers | None) -> str | None:
    """The host that ``headers.request`` sets or adds."""
    if headers is None or headers.request is None:
        return None
    for operations in (headers.request.set, headers.request.add):
        for name, value in operations.items():
            if name.lower() in ("host", ":authority"):
                return value
    return None
