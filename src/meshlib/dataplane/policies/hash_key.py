"""The 64-bit key of consistent hashing, from what a route's policies name.

Sources that give a value are combined in order, ``rotate left by one, then xor``; when none does there is no key and
any endpoint will do. A cookie that is missing is made when the policy gives it a time to live: the answer then carries
``Set-Cookie``, so that a client with a cookie jar sticks.

Source: Envoy ``hash_policy``; Istio ``ConsistentHashLB``. Every value is hashed by XXH64, seed 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.matchers import query_value
from meshlib.dataplane.policies.cookie import cookie_value
from meshlib.dataplane.request import Request
from meshlib.model.policy import HashKey

__all__ = ["Key", "hash_key"]

_MASK = (1 << 64) - 1
_LOCAL = "127.0.0.1"
"""The source address of calls that begin in this process; the same for all, as behind a sidecar."""


class Key(NamedTuple):
    """A key, or None, and the ``Set-Cookie`` values that make it last."""

    value: int | None
    cookies: tuple[bytes, ...] = ()


def hash_key(keys: Sequence[HashKey], request: Request, rng: random.Random) -> Key:
    """The key of a request under these policies."""
    combined: int | None = None
    cookies: list[bytes] = []
    for key in keys:
        text = _read(key, request)
        if text is None and key.source == "cookie" and key.ttl is not None:
            text = f"{rng.getrandbits(64):016x}"
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
    return _LOCAL


def _set_cookie(key: HashKey, value: str) -> bytes:
    parts = [f'{key.name}="{value}"']
    if key.ttl:
        parts.append(f"Max-Age={round(key.ttl)}")
    if key.path:
        parts.append(f"Path={key.path}")
    parts.extend(f"{name}={text}" if text else name for name, text in key.attributes)
    return "; ".join([*parts, "HttpOnly"]).encode("latin-1", "replace")
