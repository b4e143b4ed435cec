"""Cookies that were made here for consistent hashing, so that later calls of this process stick without further ado.

A sidecar makes such a cookie anew for each request that comes without it, and sticks only to clients that send it
back. Here the client is this process: what it was given once it goes on using, per host, until the cookie's time to
live is over, or for as long as the process runs when it has none. A caller's own cookie goes first, always.
"""

from __future__ import annotations

import math
import random
import threading

from meshlib.model.policy import HashKey

__all__ = ["CookieJar"]


class CookieJar:
    """Values by host, cookie name and path."""

    LIMIT = 1024
    """Cookies remembered before the oldest is forgotten."""

    __slots__ = ("_lock", "_values")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str, str], tuple[str, float]] = {}

    def value(self, host: str, key: HashKey, path: str, now: float) -> str | None:
        """What is remembered for a request to ``path`` of ``host``; None when nothing is, or its time is over."""
        known = self._values.get((host, key.name, key.path))
        if known is None or now >= known[1] or not path_matches(key.path, path):
            return None
        return known[0]

    def make(self, host: str, key: HashKey, path: str, now: float, rng: random.Random) -> tuple[str, bool]:
        """The value for a request that came without the cookie, and whether it was made for this request."""
        known = self.value(host, key, path, now)
        if known is not None:
            return known, False
        with self._lock:
            known = self.value(host, key, path, now)
            if known is not None:  # another thread was faster
                return known, False
            made = generated(rng)
            if path_matches(key.path, path):
                while len(self._values) >= self.LIMIT:
                    del self._values[next(iter(self._values))]
                self._values[host, key.name, key.path] = (made, now + key.ttl if key.ttl else math.inf)
            return made, True

    def after_fork(self) -> None:
        """In a forked child: it is a client of its own."""
        self._lock = threading.Lock()
        self._values = {}


def generated(rng: random.Random) -> str:
    """A new value: 16 hexadecimal digits, as Envoy's."""
    return f"{rng.getrandbits(64):016x}"


def path_matches(cookie: str, path: str) -> bool:
    """Whether a client would send a cookie with that path (RFC 6265, section 5.1.4); one without goes everywhere."""
    if not cookie:
        return True
    asked = path.partition("?")[0]
    return asked == cookie or (asked.startswith(cookie) and (cookie.endswith("/") or asked[len(cookie)] == "/"))
