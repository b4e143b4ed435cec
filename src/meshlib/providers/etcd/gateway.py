"""etcd's v3 API by its JSON gateway: what is asked, of which server, as whom.

Source: etcd's documentation, "Why gRPC gateway" and "API reference": 64-bit numbers are texts, keys and values base64,
absent fields zero; errors are gRPC statuses as HTTP statuses; streams are lines of JSON.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from meshlib.providers.http import BadAnswer, HttpServer
from meshlib.transport.base import WireError

__all__ = ["Gateway", "bytes_of", "end_of", "number", "text_of"]

_STALE = ("invalid auth token", "auth store is old", "user name is empty")
"""What etcd says of a token that was good once, or is missing."""
_ELSEWHERE = frozenset({500, 502, 503, 504})
"""Statuses that another server may not have: no leader, not started, shutting down."""


def text_of(value: bytes) -> str:
    """Bytes as they are sent."""
    return b64encode(value).decode("ascii")


def bytes_of(text: object) -> bytes:
    """Bytes as they came.

    Raises:
        BadAnswer: They are none.
    """
    try:
        return b64decode(str(text or ""), validate=True)
    except ValueError:
        raise BadAnswer(200, f"{text!r} is not base64") from None


def number(value: object) -> int:
    """A 64-bit number as it came; 0 where it is absent."""
    try:
        return int(str(value or 0))
    except ValueError:
        raise BadAnswer(200, f"{value!r} is not a number") from None


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with ``prefix``; for the empty prefix, NUL, which means all."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


class Gateway:
    """The servers of one cluster.

    Args:
        servers: They are asked in turn, beginning anywhere, until one answers.
        user: Name to authenticate as; ``""`` does not.
        password: Of the user.
        limit: Seconds for one answer.
    """

    def __init__(self, servers: Sequence[HttpServer], user: str = "", password: str = "", limit: float = 5.0) -> None:
        self._servers = tuple(servers)
        self._at = random.randrange(len(self._servers))  # noqa: S311 - not for secrets
        self._user = user
        self._password = password
        self._limit = limit
        self._token = ""

    async def call(self, path: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Ask once, of the next server where one cannot answer; with a new token where the old ran out.

        Raises:
            BadAnswer: etcd refuses, or answers what nobody can read.
            WireError: No server answers.
        """
        for left in reversed(range(len(self._servers))):
            try:
                return await self._authenticated(path, message)
            except (WireError, BadAnswer) as error:
                if not left or (isinstance(error, BadAnswer) and error.status not in _ELSEWHERE):
                    raise
                self.next_server()
        raise AssertionError("there is at least one server")

    def next_server(self) -> None:
        """Turn to another server."""
        self._at = (self._at + 1) % len(self._servers)

    async def stream(
        self, path: str, message: Mapping[str, Any], silence: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The results of an answer that goes on; see ``HttpServer.lines``."""
        await self._authenticate()
        body = json.dumps(message).encode()
        lines = self._servers[self._at].lines(path, headers=self._headers(), body=body, silence=silence)
        async with aclosing(lines):
            async for line in lines:
                if line:
                    yield self._result(line)

    async def aclose(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.aclose()

    # As whom --------------------------------------------------------------------------------------------------------

    async def _authenticated(self, path: str, message: Mapping[str, Any]) -> dict[str, Any]:
        await self._authenticate()
        try:
            return await self._ask(path, message)
        except BadAnswer as error:
            if not self._user or not self._is_stale(error):
                raise
        await self._authenticate()
        return await self._ask(path, message)

    async def _authenticate(self) -> None:
        """Get a token, unless there is one."""
        if self._user and not self._token:
            answer = await self._ask("/v3/auth/authenticate", {"name": self._user, "password": self._password})
            self._token = str(answer.get("token", ""))

    def _is_stale(self, error: BadAnswer) -> bool:
        stale = error.status == 401 or any(words in error.text for words in _STALE)
        if stale:
            self._token = ""
        return stale

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **({"Authorization": self._token} if self._token else {})}

    # One exchange ---------------------------------------------------------------------------------------------------

    async def _ask(self, path: str, message: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(message).encode()
        server = self._servers[self._at]
        answer = await server.ask("POST", path, headers=self._headers(), limit=self._limit, body=body)
        return _object(answer.body)

    def _result(self, line: bytes) -> dict[str, Any]:
        message = _object(line)
        error = message.get("error")
        if error is not None:
            words = str(error.get("message") or error) if isinstance(error, dict) else str(error)
            raise BadAnswer(200, words)
        result = message.get("result")
        if not isinstance(result, dict):
            raise BadAnswer(200, f"a line holds no result: {line[:100]!r}")
        if result.get("canceled") and self._is_stale(BadAnswer(200, str(result.get("cancel_reason", "")))):
            raise BadAnswer(200, "the token ran out")
        return result


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(200, f"the answer is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadAnswer(200, f"the answer is {type(value).__name__}, not an object")
    return value
