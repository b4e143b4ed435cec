"""Consistent hashing: Envoy's ring and Maglev table, entry for entry.

Source: Envoy ``ring_hash`` and ``maglev``; gRFC A42. Hosts are hashed by ``address:port``. Tables are remembered by
what they are made of, so that an endpoint that is ejected and comes back costs no second computation.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState

__all__ = ["MAX_RING", "Maglev", "Ring", "WeightedMember", "maglev_table", "ring_entries"]

MAX_RING = 8 * 1024 * 1024
_MASK = (1 << 64) - 1

WeightedMember = tuple[EndpointState, float]
"""An endpoint, and its weight relative to the others."""


def _normalized(hosts: Sequence[tuple[str, float]]) -> list[float]:
    total = sum(weight for _, weight in hosts)
    return [weight / total for _, weight in hosts]


@lru_cache(maxsize=16_384)
def _point(key: str, number: int) -> int:
    return xxh64(f"{key}_{number}".encode())


def ring_entries(
    hosts: Sequence[tuple[str, float]], minimum: int = 1024, maximum: int = MAX_RING
) -> list[tuple[int, int]]:
    """The ring of weighted hosts, as (hash, index of the host) in order of the hash.

    Each host gets entries in proportion to its weight; the ring is as small as that allows, at least ``minimum``.
    """
    weights = _normalized(hosts)
    smallest = min(weights)
    scale = min(math.ceil(smallest * minimum) / smallest, float(maximum))
    entries: list[tuple[int, int]] = []
    current = target = 0.0
    for index, (key, _) in enumerate(hosts):
        target += scale * weights[index]
        number = 0
        while current < target:
            entries.append((_point(key, number), index))
            number += 1
            current += 1
    entries.sort()
    return entries


@lru_cache(maxsize=16)
def _ring(hosts: tuple[tuple[str, float], ...], minimum: int, maximum: int) -> tuple[array[int], array[int]]:
    entries = ring_entries(hosts, minimum, maximum)
    return array("Q", [value for value, _ in entries]), array("L", [index for _, index in entries])


def maglev_table(hosts: Sequence[tuple[str, float]], size: int = 65537) -> list[int]:
    """Maglev's table of ``size`` (a prime) entries, each the index of a weighted host.

    Every host walks its own permutation of the slots and takes the next free one when its turn has come; a host of
    the greatest weight takes a turn in every round, the others in proportion.
    """
    order = sorted(range(len(hosts)), key=lambda index: hosts[index][0])
    weights = _normalized(hosts)
    greatest = max(weights)
    slots = [xxh64(key.encode()) % size for key, _ in hosts]
    skips = [xxh64(key.encode(), 1) % (size - 1) + 1 for key, _ in hosts]
    targets = [0.0] * len(hosts)
    table, filled, turn = [-1] * size, 0, 0
    while True:
        turn += 1
        for index in order:
            if turn * weights[index] < targets[index]:
                continue
            targets[index] += greatest
            slot, skip = slots[index], skips[index]
            while table[slot] >= 0:
                slot += skip
                if slot >= size:
                    slot -= size
            table[slot] = index
            slots[index] = slot
            filled += 1
            if filled == size:
                return table


@lru_cache(maxsize=16)
def _maglev(hosts: tuple[tuple[str, float], ...], size: int) -> array[int]:
    return array("L", maglev_table(hosts, size))


def _hosts(members: Sequence[WeightedMember]) -> tuple[tuple[str, float], ...]:
    return tuple((state.key, weight) for state, weight in members)


class Ring:
    """The first entry at or after the hash, going round; without a key any hash will do."""

    __slots__ = ("_hashes", "_members", "_owners")

    def __init__(self, members: Sequence[WeightedMember], minimum: int, maximum: int = MAX_RING) -> None:
        self._hashes, self._owners = _ring(_hosts(members), minimum, maximum)
        self._members = [state for state, _ in members]

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """The owner of the hash; after an endpoint was turned down, that of the next entry."""
        key = rng.getrandbits(64) if hash_key is None else hash_key
        return self._members[self._owners[(bisect_left(self._hashes, key) + attempt) % len(self._hashes)]]


class Maglev:
    """The entry at the hash modulo the table's size."""

    __slots__ = ("_members", "_table")

    def __init__(self, members: Sequence[WeightedMember], size: int) -> None:
        self._members = [state for state, _ in members]
        self._table = _maglev(_hosts(members), size)

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """The owner of the hash; after an endpoint was turned down, that of the hash with other bits."""
        key = rng.getrandbits(64) if hash_key is None else hash_key
        if attempt:
            key ^= (_MASK - attempt + 1) & _MASK
        return self._members[self._table[key % len(self._table)]]
