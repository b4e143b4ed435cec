"""Endpoint subsetting: each process keeps connections to a few of very many endpoints.

Source: gRFC A68, random subsetting by rendezvous: of the endpoints that may be picked, those whose address hashes
lowest under the process's own seed. Which endpoints come and go moves a process by those alone, and one that is ejected
is replaced by the next in rank until it is back.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState

__all__ = ["kept", "seed_of"]


def seed_of(worker: str) -> int:
    """The seed of a process that has a name, the same after every restart."""
    return xxh64(worker.encode())


def kept(members: Sequence[EndpointState], size: int, seed: int) -> list[EndpointState]:
    """At most ``size`` of ``members``, in their order; all of them when ``size`` is 0."""
    if not size or len(members) <= size:
        return list(members)
    chosen = set(heapq.nsmallest(size, members, key=lambda state: (_rank(state, seed), state.key)))
    return [state for state in members if state in chosen]


def _rank(state: EndpointState, seed: int) -> int:
    """Remembered at the endpoint: hashing a thousand addresses at each change would be most of the work."""
    known = state.rank
    if known is None or known[0] != seed:
        known = state.rank = (seed, xxh64(state.key.encode(), seed))
    return known[1]
