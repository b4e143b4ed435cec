"""Subsets of a cluster by what a route asks of its endpoints, and what happens when there are none.

Source: Envoy ``lb_subset_config``. Istio's subsets are clusters of their own and need none of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshlib.dataplane.balancing.plan import Group
from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import SubsetFallback, Subsets

__all__ = ["chosen", "narrowed"]


def chosen(subsets: Subsets, members: Sequence[EndpointState], wanted: Mapping[str, str]) -> list[EndpointState]:
    """The endpoints among which a request that wants these values is balanced; empty is none at all."""
    selector = next((each for each in subsets.selectors if set(each.keys) == set(wanted)), None)
    if selector is None:
        return _fallen_back(subsets, members, subsets.fallback)
    found = _with(members, wanted.items())
    if found:
        return found
    fallback = subsets.fallback if selector.fallback is None else selector.fallback
    if fallback is SubsetFallback.KEYS_SUBSET:
        fewer = {key: wanted[key] for key in selector.fallback_keys}
        return chosen(subsets, members, fewer) if len(fewer) < len(wanted) else []
    return _fallen_back(subsets, members, fallback)


def _fallen_back(subsets: Subsets, members: Sequence[EndpointState], fallback: SubsetFallback) -> list[EndpointState]:
    if fallback is SubsetFallback.ANY_ENDPOINT:
        return list(members)
    return _with(members, subsets.default) if fallback is SubsetFallback.DEFAULT_SUBSET else []


def _with(members: Sequence[EndpointState], pairs: Iterable[tuple[str, str]]) -> list[EndpointState]:
    wanted = list(pairs)
    return [state for state in members if all(state.endpoint.labels.get(key) == value for key, value in wanted)]


def narrowed(subsets: Subsets, groups: Sequence[Group], wanted: Iterable[tuple[str, str]]) -> list[Group]:
    """The groups with the chosen endpoints alone; health and shares are then those of the subset (Envoy)."""
    everybody = [state for _, states in groups for state in states]
    members = set(chosen(subsets, everybody, dict(wanted)))
    fewer = [(group, [state for state in states if state in members]) for group, states in groups]
    return [pair for pair in fewer if pair[1]]
