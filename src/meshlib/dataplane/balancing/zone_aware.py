"""Zone-aware routing inside priority 0: stay in the caller's zone as far as its endpoints can take that.

Source: Envoy ``regenerateLocalityRoutingStructures``. Shares count in ten-thousandths, as Envoy's do: where a zone has
at least as large a share of the endpoints as of the callers, its callers stay; elsewhere as many stay as the zone can
take, and the rest goes to the zones with room, in proportion to their room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Zone", "zone_weights"]

_WHOLE = 10_000


class Zone(NamedTuple):
    """One locality: healthy endpoints, healthy workloads of the caller's kind, and whether the caller is there."""

    endpoints: int
    callers: int | None
    near: bool


def zone_weights(zones: Sequence[Zone], min_cluster_size: int) -> list[float] | None:
    """How the traffic of one caller is spread over the zones; None when all endpoints are to be taken for alike.

    That is: there are fewer than two zones, fewer than ``min_cluster_size`` healthy endpoints, no endpoint in the
    caller's zone, or the callers of a zone are not known.
    """
    upstream = sum(zone.endpoints for zone in zones)
    callers = sum(zone.callers or 0 for zone in zones)
    known = all(zone.callers is not None for zone in zones)
    if len(zones) < 2 or upstream < max(1, min_cluster_size) or not known or not callers:
        return None
    if not any(zone.near for zone in zones):
        return None
    shares = [(_WHOLE * zone.endpoints // upstream, _WHOLE * (zone.callers or 0) // callers) for zone in zones]
    near = [zone.near for zone in zones]
    own, wanted = shares[near.index(True)]
    if own and own >= wanted:
        return [float(each) for each in near]
    return _spread(shares, near, _WHOLE * own // wanted if wanted else 0)


def _spread(shares: Sequence[tuple[int, int]], near: Sequence[bool], stays: int) -> list[float]:
    room = [0 if own else max(0, has - wants) for (has, wants), own in zip(shares, near, strict=True)]
    total = sum(room)
    if not total:  # only roundings are left: any other zone will do
        room = [0 if own else has for (has, _), own in zip(shares, near, strict=True)]
        total = sum(room)
    left = _WHOLE - stays
    return [float(stays) if own else left * each / total for each, own in zip(room, near, strict=True)]
