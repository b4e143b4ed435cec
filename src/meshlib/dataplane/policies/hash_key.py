"""The 64-bit key of consistent hashing, from what a route's policies name.

Sources that give a value are combined in order, ``rotate left by one, then xor``; when none does there is no key and
any endpoint will do. A cookie that is missing is made when the policy gives it a time to live: the answer then carries
``Set-Cookie``, so that a client with a cookie jar sticks; and it is remembered here where the policy says so, so that
clients without one stick too.

Source: Envoy ``hash_policy``; Istio ``ConsistentHashLB``. Every value is hashed by XXH64, seed 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.matchers import query_value
from meshlib.dataplane.policies.cookie import cookie_value
from meshlib.dataplane.policies.cookie_jar import CookieJar, generated
from meshlib.dataplane.request import Request
from meshlib.model.policy import HashKey

__all__ = ["Key", "Maker", "hash_key"]

_MASK = (1 << 64) - 1
_LOCAL = "127.0.0.1"
"""The source address of a caller that does not know its own."""


class Key(NamedTuple):
    """A key, or None, and the ``Set-Cookie`` values that make it last."""

    value: int | None
    cookies: tuple[bytes, ...] = ()


class Maker:
    """Makes the cookies that one request comes without; the same for all policies that name it.

    Args:
        rng: Where values are drawn.
        jar: What is remembered, None remembers nothing.
        host: Of the request.
        now: Seconds on the mesh's clock.
    """

    __slots__ = ("_host", "_jar", "_made", "_now", "_rng")

    def __init__(self, rng: random.Random, jar: CookieJar | None = None, host: str = "", now: float = 0.0) -> None:
        self._rng, self._jar, self._host, self._now = rng, jar, host, now
        self._made: dict[tuple[str, str], str] = {}

    def make(self, key: HashKey, path: str) -> tuple[str, bool]:
        """The value of a missing cookie, and whether it has just been made."""
        known = self._made.get((key.name, key.path))
        if known is not None:
            return known, False
        if key.kept and self._jar is not None:
            value, fresh = self._jar.make(self._host, key, path, self._now, self._rng)
        else:
            value, fresh = generated(self._rng), True
        self._made[key.name, key.path] = value
        return value, fresh


def hash_key(keys: Sequence[HashKey], request: Request, maker: Maker) -> Key:
    """The key of a request under these policies."""
    combined: int | None = None
    cookies: list[bytes] = []
    for key in keys:
        text = _read(key, request)
        if text is None and key.source == "cookie" and key.ttl is not None:
            text, fresh = maker.make(key, request.path)
            if fresh:
                cookies.append(_set_cookie(key, text))
        if text is None:
            continue
        value = xxh64(text.encode())
        combined = value if combined is None else ((combined << 1 | combined >> 63) & _MASK) ^ value
        if key.terminal:
            break
    return Key(combined, tuple(cookies))


def _read(key: HashKey, request: Request) -> str | None:
    if key.source == "header":
        return request.header(key.name)
    if key.source == "query":
        return query_value(request.path, key.name)
    if key.source == "cookie":
        return cookie_value(request.header("cookie") or "", key.name)
    return key.name or _LOCAL


def _set_cookie(key: HashKey, value: str) -> bytes:
    parts = [f'{key.name}="{value}"']
    if key.ttl:
        parts.append(f"Max-Age={round(key.ttl)}")
    if key.path:
        parts.append(f"Path={key.path}")
    parts.extend(f"{name}={text}" if text else name for name, text in key.attributes)
    return "; ".join([*parts, "HttpOnly"]).encode("latin-1", "replace")
