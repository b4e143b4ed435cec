"""Consistent hashing: Envoy's ring and Maglev table, entry for entry.

Source: Envoy ``ring_hash`` and ``maglev``; gRFC A42. Hosts are hashed by ``address:port``.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState

__all__ = ["Maglev", "Ring", "maglev_table", "ring_entries"]

MAX_RING = 8 * 1024 * 1024


def ring_entries(
    hosts: Sequence[tuple[str, int]], minimum: int = 1024, maximum: int = MAX_RING
) -> list[tuple[int, int]]:
    """The ring of weighted hosts, as (hash, index of the host) in order of the hash.

    Each host gets entries in proportion to its weight; the ring is as small as that allows, at least ``minimum``.
    """
    total = sum(weight for _, weight in hosts)
    smallest = min(weight for _, weight in hosts) / total
    scale = min(math.ceil(smallest * minimum) / smallest, float(maximum))
    entries: list[tuple[int, int]] = []
    current = target = 0.0
    for index, (key, weight) in enumerate(hosts):
        target += scale * weight / total
        number = 0
        while current < target:
            entries.append((xxh64(f"{key}_{number}".encode()), index))
            number += 1
            current += 1
    entries.sort()
    return entries


def maglev_table(hosts: Sequence[tuple[str, int]], size: int = 65537) -> list[int]:
    """Maglev's table of ``size`` (a prime) entries, each the index of a weighted host.

    Every host walks its own permutation of the slots and takes the next free one when its turn has come; a host of
    the greatest weight takes a turn in every round, the others in proportion.
    """
    order = sorted(range(len(hosts)), key=lambda index: hosts[index][0])
    greatest = max(weight for _, weight in hosts)
    offsets = [xxh64(key.encode()) % size for key, _ in hosts]
    skips = [xxh64(key.encode(), 1) % (size - 1) + 1 for key, _ in hosts]
    nexts, targets = [0] * len(hosts), [0.0] * len(hosts)
    table, filled, turn = [-1] * size, 0, 0
    while filled < size:
        turn += 1
        for index in order:
            if filled == size:
                break
            if turn * hosts[index][1] < targets[index]:
                continue
            targets[index] += greatest
            slot = (offsets[index] + skips[index] * nexts[index]) % size
            while table[slot] >= 0:
                nexts[index] += 1
                slot = (offsets[index] + skips[index] * nexts[index]) % size
            table[slot] = index
            nexts[index] += 1
            filled += 1
    return table


def _hosts(members: Sequence[EndpointState]) -> list[tuple[str, int]]:
    return [(state.key, state.endpoint.weight) for state in members]


class Ring:
    """The first entry at or after the hash, going round; without a key any hash will do."""

    __slots__ = ("_hashes", "_members", "_owners")

    def __init__(self, members: Sequence[EndpointState], minimum: int) -> None:
        entries = ring_entries(_hosts(members), minimum)
        self._hashes = [value for value, _ in entries]
        self._owners = [index for _, index in entries]
        self._members = members

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """The owner of the hash."""
        key = rng.getrandbits(64) if hash_key is None else hash_key
        return self._members[self._owners[bisect_left(self._hashes, key) % len(self._hashes)]]


class Maglev:
    """The entry at the hash modulo the table's size."""

    __slots__ = ("_members", "_table")

    def __init__(self, members: Sequence[EndpointState], size: int) -> None:
        self._members = members
        self._table = maglev_table(_hosts(members), size)

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """The owner of the hash."""
        key = rng.getrandbits(64) if hash_key is None else hash_key
        return self._members[self._table[key % len(self._table)]]
