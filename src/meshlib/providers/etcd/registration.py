"""Puts an instance into etcd for as long as its process lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from meshlib import background
from meshlib.errors import ConfigError
from meshlib.providers.backoff import backoff
from meshlib.providers.etcd.gateway import Gateway, number, text_of
from meshlib.providers.etcd.provider import gateway_of
from meshlib.providers.etcd.registry import instance_of
from meshlib.providers.http import TROUBLE, BadAnswer

__all__ = ["EtcdRegistration"]

_LOG = logging.getLogger("meshlib")
_FAREWELL = 2.0
"""Seconds that taking the key away may take; the lease ends by itself otherwise."""


class EtcdRegistration:
    """An instance of a service, announced under a lease that is kept alive, taken away at the end.

        with EtcdRegistration("web", "10.0.0.1", 8080, labels={"version": "v1"}):
            serve()

    It runs in the background thread; ``run`` is the same as a coroutine, for a task group of one's own. When etcd was
    away for longer than the lease, or lost its data, the instance is announced anew.

    Args:
        service: Name; see ``docs/etcd.md`` for the hosts that come of it.
        address: To be called at.
        port: To be called at.
        urls: Servers of one cluster, for example ``("http://127.0.0.1:2379",)``; else the environment of ``etcdctl``.
        labels: For subsets.
        weight: Among the instances of the service.
        locality: ``region/zone/subzone``.
        protocol: What is spoken, in Istio's words.
        instance: Last part of the key; ``ADDRESS:PORT`` by default.
        registry: Prefix of all keys.
        ttl: Seconds after which the instance is gone when its process died.
        user: Name to authenticate as.
        password: Of the user.
        timeout: Seconds for one answer.

    Raises:
        ConfigError: The instance is one that nobody could read.
    """

    def __init__(
        self,
        service: str,
        address: str,
        port: int,
        *,
        urls: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
        weight: int = 1,
        locality: str = "",
        protocol: str = "http",
        instance: str = "",
        registry: str = "/meshlib/services/",
        ttl: int = 15,
        user: str = "",
        password: str = "",
        timeout: float = 5.0,
        **tls: Any,
    ) -> None:
        given: dict[str, Any] = {"address": address, "port": port, "protocol": protocol, "weight": weight}
        given |= {"labels": dict(labels or {})} | ({"locality": locality} if locality else {})
        self._value = json.dumps(given).encode()
        try:
            instance_of(self._value)
        except ValueError as error:
            raise ConfigError(f"an instance of {service}: {error}") from None
        self._key = f"{registry}{service}/{instance or f'{address}:{port}'}".encode()
        self._urls, self._user, self._password = urls, user, password
        self._timeout, self._tls = timeout, tls
        self._ttl = ttl
        self._announced, self._over = threading.Event(), threading.Event()
        self._running: Future[None] | None = None
        self._pid = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the instance has been announced; whether it has."""
        return self._announced.wait(timeout)

    def start(self) -> None:
        """Announce it from the background thread."""
        if self._running is None:
            self._over.clear()
            self._pid = os.getpid()
            self._running = background.shared.start(self.run)

    def close(self) -> None:
        """Take it away, and wait for that a moment."""
        running, self._running = self._running, None
        if running is not None and self._pid == os.getpid():  # in a forked child it is the parent's
            running.cancel()
            self._over.wait(_FAREWELL + 1.0)
            background.shared.release()

    def __enter__(self) -> EtcdRegistration:
        """See ``start``."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See ``close``."""
        self.close()

    async def run(self) -> None:
        """Announce it until cancelled."""
        gateway = gateway_of(self._urls, self._user, self._password, self._timeout, **self._tls)
        lease, failures = 0, 0
        try:
            while True:
                try:
                    lease = await self._hold(gateway, lease)
                    failures = 0
                    await asyncio.sleep(self._ttl / 3)
                except TROUBLE as error:
                    failures += 1
                    gateway.next_server()
                    _LOG.warning("etcd does not hold %s: %s", self._key.decode(), error)
                    await asyncio.sleep(min(backoff(failures), self._ttl / 3))
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_FAREWELL):
                    await self._take_away(gateway, lease)
            await gateway.aclose()
            self._over.set()

    async def _hold(self, gateway: Gateway, lease: int) -> int:
        """Renew the lease, or announce the instance under a new one; the lease."""
        if lease:
            answer = await gateway.call("/v3/lease/keepalive", {"ID": str(lease)})
            if number((answer.get("result") or {}).get("TTL")) > 0:
                return lease
        granted = await gateway.call("/v3/lease/grant", {"TTL": str(self._ttl)})
        lease = number(granted.get("ID"))
        if not lease:
            raise BadAnswer(200, f"no lease was granted: {granted}")
        message = {"key": text_of(self._key), "value": text_of(self._value), "lease": str(lease)}
        await gateway.call("/v3/kv/put", message)
        self._announced.set()
        return lease

    async def _take_away(self, gateway: Gateway, lease: int) -> None:
        if lease:
            await gateway.call("/v3/lease/revoke", {"ID": str(lease)})
