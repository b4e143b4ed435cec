"""Follows what stands under one prefix: a list, then a watch from the next revision on, again and again.

A watch that hears nothing for a while is begun anew where it was, so that a connection that is dead without a word
costs that while and no event. Before each watch the cluster is asked who it is: another one, or one that lost its
history, would keep a watch on a future revision waiting for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.providers.backoff import backoff
from meshlib.providers.etcd.gateway import Gateway, bytes_of, end_of, number, text_of
from meshlib.providers.etcd.keyspace import Keyspace
from meshlib.providers.http import TROUBLE, BadAnswer
from meshlib.transport.base import WireError

__all__ = ["Follow"]

_PAGE = 1000
"""Keys of one answer to a list."""
_STEADY = 5.0
"""Seconds that a watch must last for its end to count as the first failure."""


class Follow:
    """One prefix.

    Args:
        gateway: To ask.
        prefix: Of the keys.
        take: Gets the keys that came, changed or went.
        tell: Gets what is wrong now, ``""`` when nothing is.
        alive: Called at each sign of life.
        idle: Seconds without an event after which a watch is begun anew.
        lease: Seconds for which keys are kept that a cluster does not have which lost its history.

    Attributes:
        keys: What is known.
    """

    def __init__(
        self,
        gateway: Gateway,
        prefix: str,
        take: Callable[[set[bytes]], None],
        tell: Callable[[str], None],
        alive: Callable[[], None],
        idle: float,
        lease: float,
    ) -> None:
        self.keys = Keyspace()
        self._gateway = gateway
        self._prefix = prefix.encode()
        self._range = {"key": text_of(self._prefix or b"\0"), "range_end": text_of(end_of(self._prefix))}
        self._take = take
        self._tell = tell
        self._alive = alive
        self._idle = idle
        self._lease = lease
        self._ends: asyncio.TimerHandle | None = None

    async def list(self) -> None:
        """Take everything there is.

        Raises:
            WireError: No server answers.
            BadAnswer: etcd refuses.
        """
        answer = await self._gateway.call("/v3/kv/range", {**self._range, "limit": str(_PAGE)})
        header, kvs = answer.get("header") or {}, _kvs(answer)
        while answer.get("more") and kvs:
            following = text_of(bytes_of(kvs[-1].get("key")) + b"\0")
            at = {"key": following, "revision": str(header.get("revision")), "limit": str(_PAGE)}
            answer = await self._gateway.call("/v3/kv/range", {**self._range, **at})
            kvs += _kvs(answer)
        self._alive()
        self._take(self.keys.listed(kvs, header))

    async def run(self) -> None:
        """Follow until cancelled; ``list`` has been called before."""
        try:
            await self._forever()
        finally:
            if self._ends is not None:
                self._ends.cancel()

    async def _forever(self) -> None:
        failures = 0
        while True:
            began = monotonic()
            try:
                await self._check()
                began = monotonic()
                await self._watch()
            except TROUBLE as error:
                if isinstance(error, WireError) and error.failure is Failure.READ_TIMEOUT:
                    continue  # silence: see whether anybody is there
                failures = 1 if monotonic() - began > _STEADY else failures + 1
                self._gateway.next_server()
                self._tell(f"{error}; what was known before stays in force")
                await asyncio.sleep(backoff(failures))

    async def _check(self) -> None:
        """See to it that a watch can go on where the last one ended."""
        answer = await self._gateway.call("/v3/kv/range", {"key": self._range["key"], "count_only": True})
        self._alive()
        if self.keys.is_other(answer.get("header") or {}):
            await self.list()
            self._keep()

    def _keep(self) -> None:
        """The cluster is another one: what it lacks stays for the lease, in which it may be announced again."""
        if self._ends is not None:
            self._ends.cancel()
        self._ends = asyncio.get_running_loop().call_later(self._lease, self._release)

    def _release(self) -> None:
        self._take(self.keys.release())
        self._tell("")

    def _doubts(self) -> str:
        count = len(self.keys.kept)
        return f"etcd lost its history, and {count} keys that it had before; they are held for a while" if count else ""

    async def _watch(self) -> None:
        """Hear events; returns where the history that it needs was compacted and a list took its place."""
        start = {"start_revision": str(self.keys.revision + 1), "progress_notify": True}
        request = {"create_request": {**self._range, **start}}
        async with aclosing(self._gateway.stream("/v3/watch", request, self._idle)) as results:
            async for result in results:
                self._alive()
                if result.get("canceled"):
                    if number(result.get("compact_revision")):
                        return await self.list()
                    raise BadAnswer(200, str(result.get("cancel_reason") or "etcd ended the watch"))
                changed = self.keys.heard(result)
                if changed:
                    self._take(changed)
                self._tell(self._doubts())
        raise BadAnswer(200, "the watch ended")


def _kvs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    kvs = answer.get("kvs") or []
    if not isinstance(kvs, list) or not all(isinstance(kv, dict) for kv in kvs):
        raise BadAnswer(200, "keys are no list of objects")
    return kvs
