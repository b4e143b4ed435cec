"""One real channel for each endpoint and way to it, shared by all mesh channels of the process.

A subchannel is made when it is first picked. It is closed when its endpoint has left or nobody holds it any more, once
the last RPC on it has ended. In a forked child there are none: the parent's are neither used nor closed there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from meshlib.model.hosts import is_ip, join_host_port
from meshlib.model.policy import ConnectionPool

__all__ = ["Key", "Subchannel", "Subchannels", "arguments", "dialled"]

Option = tuple[str, Any]


class Key(NamedTuple):
    """What makes two ways to an endpoint the same.

    Attributes:
        address: IP address, DNS name or ``unix:///path``.
        port: 0 for a unix socket.
        authority: What RPCs name as their service.
        security: TLS with the state of its files, or the caller's credentials; None for plaintext.
        options: Channel arguments.
        addresses: What ``address``, a name, stood for when the channel was made; empty leaves that to grpcio.
    """

    address: str
    port: int
    authority: str
    security: Any
    options: tuple[Option, ...]
    addresses: tuple[str, ...] = ()


class Subchannel:
    """A real channel, and who needs it.

    Attributes:
        key: The way.
        channel: grpcio's.
        retired: Nobody is to be sent there any more.
        active: RPCs under way.
        holders: Mesh channels that have used it and are open.
        watched: Endpoints whose load is listened to over it.
    """

    __slots__ = ("_close", "_closed", "_lock", "_stubs", "active", "channel", "holders", "key", "retired", "watched")

    def __init__(self, key: Key, channel: Any, close: Callable[[Any], None]) -> None:
        self.key = key
        self.channel = channel
        self.retired = False
        self.active = self.holders = 0
        self.watched: set[Any] = set()
        self._close = close
        self._closed = False
        self._stubs: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()

    def stub(self, kind: str, method: str, registered: bool) -> Any:
        """What invokes ``method``, of that kind, with bytes in and bytes out."""
        try:
            return self._stubs[kind, method]
        except KeyError:
            made = getattr(self.channel, kind)(method, _registered_method=registered)
            return self._stubs.setdefault((kind, method), made)

    def enter(self) -> bool:
        """One more RPC; False when it was closed meanwhile."""
        with self._lock:
            if self._closed:
                return False
            self.active += 1
            return True

    def leave(self) -> None:
        """An RPC is over."""
        with self._lock:
            self.active -= 1
            if not self.retired or self.active:
                return
        self._end()

    def retire(self, at_once: bool = False) -> None:
        """Close as soon as no RPC is under way, or now."""
        with self._lock:
            self.retired = True
            if self.active and not at_once:
                return
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._stubs.clear()
        self._close(self.channel)


class Subchannels:
    """Those of the process, or for ``grpc.aio`` of one event loop.

    Args:
        make: Makes a real channel.
        close: Closes one.
    """

    def __init__(self, make: Callable[[Key, Any], Any], close: Callable[[Any], None]) -> None:
        self._make = make
        self._close = close
        self._known: dict[Key, Subchannel] = {}
        self._lost: list[Any] = []
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def hold(self, key: Key, credentials: Any) -> Subchannel:
        """The subchannel of that way, for one more holder."""
        with self._lock:
            if self._pid != os.getpid():
                self._forget()
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = Subchannel(key, self._make(key, credentials), self._close)
            found.holders += 1
            return found

    def keep(self, held: Subchannel) -> None:
        """One more holder of what is open."""
        with self._lock:
            held.holders += 1

    def release(self, held: Subchannel, at_once: bool = False) -> None:
        """A holder is done with it; the last one may cut off what is under way."""
        with self._lock:
            held.holders -= 1
            if held.holders > 0:
                return
            if self._known.get(held.key) is held:
                del self._known[held.key]
        held.retire(at_once)

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """These addresses have left: whoever is sent there again gets a new channel."""
        with self._lock:
            gone = [key for key in self._known if (key.address, key.port) in addresses]
            retired = [self._known.pop(key) for key in gone]
        for each in retired:
            each.retire()

    def replace(self, held: Subchannel) -> None:
        """Whoever takes this way again gets a new channel."""
        with self._lock:
            if self._known.get(held.key) is held:
                del self._known[held.key]
        held.retire()

    def listing(self) -> list[Subchannel]:
        """All that are open, for status pages and tests."""
        with self._lock:
            return list(self._known.values())

    def after_fork(self) -> None:
        """In a forked child: the parent's channels stay untouched, and are not collected either."""
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lost += [each.channel for each in self._known.values()]
        self._known = {}


def dialled(key: Key) -> str:
    """The address as grpcio names it; of several those of the first one's IP version, which it tries in turn."""
    if key.address.startswith("unix:"):
        return key.address
    addresses = key.addresses or (key.address,)
    if not is_ip(addresses[0]):
        return f"dns:///{key.address}:{key.port}"
    alike = [each for each in addresses if (":" in each) is (":" in addresses[0])]
    return f"{'ipv6' if ':' in addresses[0] else 'ipv4'}:{','.join(join_host_port(each, key.port) for each in alike)}"


def arguments(pool: ConnectionPool, name: str, given: tuple[Option, ...]) -> tuple[Option, ...]:
    """Channel arguments: what the mesh decides is not decided by grpcio as well; the caller's own come last and win.

    Args:
        pool: Connection settings of the cluster.
        name: The name that a certificate has to carry; ``""`` for plaintext.
        given: The caller's.
    """
    found: list[Option] = [
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.min_reconnect_backoff_ms", max(100, round(pool.connect_timeout * 1000))),
    ]
    if pool.idle_timeout is not None:
        found.append(("grpc.client_idle_timeout_ms", round(pool.idle_timeout * 1000)))
    if pool.http2_keepalive is not None:
        found.append(("grpc.keepalive_time_ms", round(pool.http2_keepalive.interval * 1000)))
        found.append(("grpc.keepalive_timeout_ms", round(pool.http2_keepalive.timeout * 1000)))
    if name:
        found.append(("grpc.ssl_target_name_override", name))
    return (*found, *given)
