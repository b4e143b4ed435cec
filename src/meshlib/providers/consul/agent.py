"""What is asked of a Consul agent: reads, blocking or not, as its HTTP API documents them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from meshlib.providers.consul.changes import FILTER
from meshlib.providers.http import BadAnswer, HttpServer

__all__ = ["Agent", "Reading", "Token"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer.

    Attributes:
        value: The JSON.
        body: The same as it came.
        index: ``X-Consul-Index``, None where there is none.
        filtered: The token may not see all of it.
    """

    value: Any
    body: bytes
    index: str | None
    filtered: bool


class Token:
    """An ACL token: as given, or as its file holds it now, so that a renewed one is used without a restart."""

    def __init__(self, text: str = "", file: str = "") -> None:
        self._text = text
        self._file = file

    def headers(self) -> dict[str, str]:
        """The header that carries it.

        Raises:
            OSError: The file cannot be read.
        """
        text = self._text or (Path(self._file).read_text("utf-8").strip() if self._file else "")
        return {"X-Consul-Token": text} if text else {}


class Agent:
    """One agent.

    Args:
        server: Where it is.
        token: Who asks.
        given: Query parameters of every read, for example ``ns``.
        stale: Let any server of the cluster answer, not the leader alone.
        limit: Seconds that an answer may take, beside the waiting for a change.
    """

    def __init__(
        self, server: HttpServer, token: Token, given: Sequence[tuple[str, str]], *, stale: bool, limit: float
    ) -> None:
        self._server = server
        self._token = token
        self._given = tuple(given)
        self._stale = stale
        self._limit = limit

    async def services(self, datacenter: str, **how: Any) -> Reading:
        """The names of all services, each with its tags; see ``read``."""
        return await self.read("/v1/catalog/services", datacenter, dict, **how)

    async def unhealthy(self, datacenter: str, **how: Any) -> Reading:
        """The checks that do not pass, of all services and nodes; see ``read``."""
        return await self.read("/v1/health/state/any", datacenter, list, [("filter", FILTER)], **how)

    async def instances(self, service: str, datacenter: str, more: Sequence[tuple[str, str]], **how: Any) -> Reading:
        """The instances of a service with their checks; see ``read``."""
        return await self.read(f"/v1/health/service/{quote(service, safe='')}", datacenter, list, more, **how)

    async def read(
        self,
        path: str,
        datacenter: str,
        kind: type,
        more: Sequence[tuple[str, str]] = (),
        *,
        index: int = 0,
        wait: float = 0.0,
        consistent: bool = False,
    ) -> Reading:
        """One read.

        Args:
            path: Of the endpoint.
            datacenter: To ask; ``""`` is the agent's own.
            kind: What the JSON must be.
            more: Further query parameters.
            index: Wait for a change beyond this; 0 answers at once.
            wait: Seconds to wait for it; the server adds up to a sixteenth.
            consistent: Have the leader make sure that it is the leader.

        Raises:
            BadAnswer: A status other than 200, or no such JSON.
            WireError: The connection broke, or nothing came in time.
        """
        asked = [*self._given, *more]
        if datacenter:
            asked.append(("dc", datacenter))
        if index:
            asked += [("index", str(index)), ("wait", f"{round(wait * 1000)}ms")]
        text = urlencode(asked)
        if consistent or self._stale:
            text = "&".join(part for part in (text, "consistent" if consistent else "stale") if part)
        limit = self._limit + (wait * 17 / 16 if index else 0.0)
        answer = await self._server.ask("GET", f"{path}?{text}" if text else path, headers=self._headers(), limit=limit)
        return Reading(
            _json(answer.body, kind),
            answer.body,
            answer.headers.get("x-consul-index"),
            answer.headers.get("x-consul-results-filtered-by-acls", "").lower() == "true",
        )

    def _headers(self) -> Mapping[str, str]:
        return {"Accept": "application/json", **self._token.headers()}


def _json(body: bytes, kind: type) -> Any:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(200, f"the answer is no JSON: {error}") from None
    if value is None:  # Go's empty list
        return kind()
    if not isinstance(value, kind):
        raise BadAnswer(200, f"the answer is {type(value).__name__}, not {kind.__name__}")
    return value
