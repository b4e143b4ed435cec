"""From settings and a set of endpoints to the balancer over them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshlib.dataplane.balancing.algorithms import Balancer, RandomChoice, RoundRobin, Turns, Weigh, plain_weight
from meshlib.dataplane.balancing.bounded_load import BoundedLoad
from meshlib.dataplane.balancing.client_weights import ClientWeights
from meshlib.dataplane.balancing.consistent import Maglev, Ring, WeightedMember
from meshlib.dataplane.balancing.least_request import LeastRequest, weight_by_load
from meshlib.dataplane.balancing.peak_ewma import LeastLatency
from meshlib.dataplane.balancing.slow_start import next_step, ramped
from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import BalancerKind, LoadBalancer

__all__ = ["Moment", "balancer_over", "hash_balancer"]

_WARMED = (BalancerKind.ROUND_ROBIN, BalancerKind.LEAST_REQUEST)


@dataclass(frozen=True, slots=True)
class Moment:
    """What balancers are made with.

    Attributes:
        rng: For random starts.
        now: Seconds on the mesh's clock.
        active: How many requests of the cluster are under way.
        seed: Of this process, for its choice among very many endpoints.
    """

    rng: random.Random
    now: float = 0.0
    active: Callable[[], int] = int
    seed: int = 0


def balancer_over(
    settings: LoadBalancer, members: Sequence[EndpointState], moment: Moment
) -> tuple[Balancer, float | None]:
    """The balancer of a kind that does not hash, and when it is to be made anew (None is never)."""
    kind, rng, now = settings.kind, moment.rng, moment.now
    if kind is BalancerKind.RANDOM:
        return RandomChoice(members), None
    if kind is BalancerKind.PEAK_EWMA:
        return LeastLatency(members, settings.peak_ewma), None
    if kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        return ClientWeights(members, settings.load_reports, settings.slow_start, rng, now), None
    weigh = plain_weight if kind is BalancerKind.ROUND_ROBIN else weight_by_load(settings.active_request_bias)
    slow_start = settings.slow_start if kind in _WARMED else None
    step = next_step(slow_start, members, now) if slow_start is not None else None
    if slow_start is not None and step is not None:
        return Turns(members, ramped(slow_start, weigh), rng, now), step
    return _settled(settings, members, weigh, moment), None


def _settled(settings: LoadBalancer, members: Sequence[EndpointState], weigh: Weigh, moment: Moment) -> Balancer:
    """Endpoints of full weight: turns where weights differ."""
    first = members[0].endpoint.weight
    if any(state.endpoint.weight != first for state in members):
        return Turns(members, weigh, moment.rng, moment.now)
    if settings.kind is BalancerKind.ROUND_ROBIN:
        return RoundRobin(members, moment.rng)
    return LeastRequest(members, settings.choice_count)


def hash_balancer(settings: LoadBalancer, members: Sequence[WeightedMember], moment: Moment) -> Balancer:
    """The ring or table, with bounded load where that is asked for."""
    inner: Ring | Maglev
    if settings.kind is BalancerKind.MAGLEV:
        inner = Maglev(members, settings.table_size)
    else:
        inner = Ring(members, settings.min_ring_size, settings.max_ring_size)
    if not settings.hash_balance_factor:
        return inner
    return BoundedLoad(inner, members, settings.hash_balance_factor, moment.active)
