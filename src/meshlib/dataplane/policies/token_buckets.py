"""Token buckets, one for each key, that never wait: a bucket starts full and is filled at fixed intervals.

A bucket that has been left alone for long enough is full again and therefore as good as none. Of the keys only so many
are remembered; the one that was not used for the longest time is forgotten first, and would begin anew.

Source: Envoy ``TokenBucket`` and ``local_ratelimit`` (``max_tokens``, ``tokens_per_fill``, ``fill_interval``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

__all__ = ["Taken", "TokenBuckets"]

_HAIR = 1e-9
"""Times are floats: what is due in a billionth of an interval is due."""


class Taken(NamedTuple):
    """What asking for a token came to.

    Attributes:
        granted: Whether there was one.
        remaining: How many there are now.
        reset: Seconds until the bucket is filled next, 0 while it is full.
    """

    granted: bool
    remaining: int
    reset: float


class TokenBuckets:
    """Buckets of one size. Shared by threads and event loops.

    Args:
        max_tokens: Size of a bucket, at least 1.
        tokens_per_fill: Tokens added at each interval, at least 1.
        fill_interval: Seconds, above 0.
        keys: How many buckets are remembered.
    """

    __slots__ = ("_buckets", "_fill", "_interval", "_keys", "_lock", "_size")

    def __init__(self, max_tokens: int, tokens_per_fill: int, fill_interval: float, keys: int = 10_000) -> None:
        self._size = max_tokens
        self._fill = tokens_per_fill
        self._interval = fill_interval
        self._keys = keys
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)

    def resize(self, max_tokens: int, tokens_per_fill: int, fill_interval: float) -> None:
        """Other limits from now on; what is in the buckets stays, as far as it has room."""
        with self._lock:
            self._size, self._fill, self._interval = max_tokens, tokens_per_fill, fill_interval

    def take(self, key: Hashable, now: float) -> Taken:
        """Take a token out of the bucket of ``key``; ``now`` never goes back."""
        with self._lock:
            tokens, filled_at = self._filled(self._buckets.pop(key, (self._size, now)), now)
            granted = tokens > 0
            if granted:
                tokens -= 1
            self._buckets[key] = tokens, filled_at
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
            reset = 0.0 if tokens >= self._size else max(0.0, filled_at + self._interval - now)
            return Taken(granted, tokens, reset)

    def _filled(self, bucket: tuple[int, float], now: float) -> tuple[int, float]:
        """Tokens and the moment of the last fill, as they are at ``now``; a full bucket waits for its next taker."""
        tokens, filled_at = bucket
        fills = int((now - filled_at) / self._interval + _HAIR)
        tokens += fills * self._fill
        if tokens >= self._size:
            return self._size, now
        return tokens, filled_at + fills * self._interval

    def after_fork(self) -> None:
        """In a forked child: nobody holds the lock."""
        self._lock = threading.Lock()
