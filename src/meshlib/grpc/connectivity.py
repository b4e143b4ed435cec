"""The connectivity of a mesh channel: the best of its real channels.

READY before CONNECTING before IDLE before TRANSIENT_FAILURE, as gRPC's balancers tell it; IDLE without any. A mesh
channel connects when RPCs are sent, or when somebody subscribes and asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import grpc

from meshlib.dataplane.drivers.workers import Workers
from meshlib.errors import MeshError, NotYet
from meshlib.grpc.subchannels import Subchannel
from meshlib.grpc.ways import Ways

__all__ = ["Connectivity", "best"]

States = grpc.ChannelConnectivity
_ORDER = (States.READY, States.CONNECTING, States.IDLE, States.TRANSIENT_FAILURE)
_workers = Workers("meshlib-grpc-state")


def best(states: Iterable[Any]) -> Any:
    """What several real channels come to."""
    found = set(states)
    return next((state for state in _ORDER if state in found), States.IDLE)


class Connectivity:
    """Tells subscribers, one change after the other, from a thread of its own."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[Any], None]] = []
        self._states: dict[Subchannel, Any] = {}
        self._watching: dict[Subchannel, Callable[[Any], None]] = {}
        self._told: Any = None
        self._pending: list[tuple[Callable[[Any], None], Any]] = []
        self._busy = False

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool) -> None:
        """See ``grpc.Channel.subscribe``."""
        with self._lock:
            self._callbacks.append(callback)
            self._told = best(self._states.values())
            self._tell([callback])
        self._ways.opened = self._watch
        try:
            held = self._ways.connect() if try_to_connect else self._ways.held()
        except NotYet as asked:
            _workers.run(partial(self._connect_later, asked))
            return
        for subchannel in held:
            self._watch(subchannel, try_to_connect)

    def _connect_later(self, asked: NotYet) -> None:
        """Once it is known where to, if that comes to be known."""
        try:
            self._ways.mesh.wait_known(asked)
            held = self._ways.connect()
        except MeshError:
            return
        for subchannel in held:
            self._watch(subchannel, True)

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        """See ``grpc.Channel.unsubscribe``."""
        with self._lock:
            self._callbacks = [each for each in self._callbacks if each is not callback and each != callback]
            if self._callbacks:
                return
        self._stop()

    def close(self) -> None:
        """The channel is closed: that is the last that is told."""
        with self._lock:
            told, self._told = self._told, States.SHUTDOWN
            if told is not None:
                self._tell(self._callbacks)
            self._callbacks = []
        self._stop()

    def _stop(self) -> None:
        self._ways.opened = None
        with self._lock:
            watching, self._watching, self._states = self._watching, {}, {}
        for subchannel, callback in watching.items():
            subchannel.channel.unsubscribe(callback)

    def _watch(self, subchannel: Subchannel, try_to_connect: bool = False) -> None:
        with self._lock:
            known = self._watching.get(subchannel)
            if known is not None and not try_to_connect:
                return
            callback = self._watching[subchannel] = partial(self._changed, subchannel)
        if known is not None:
            subchannel.channel.unsubscribe(known)
        subchannel.channel.subscribe(callback, try_to_connect)

    def _changed(self, subchannel: Subchannel, state: Any) -> None:
        with self._lock:
            self._states[subchannel] = state
            if state is States.SHUTDOWN:
                del self._states[subchannel]
                self._watching.pop(subchannel, None)
            now = best(self._states.values())
            if now is not self._told and self._told is not States.SHUTDOWN:
                self._told = now
                self._tell(self._callbacks)

    def _tell(self, callbacks: Iterable[Callable[[Any], None]]) -> None:
        """Have callbacks told, in order; the lock is held."""
        self._pending += [(callback, self._told) for callback in callbacks]
        if self._pending and not self._busy:
            self._busy = True
            _workers.run(self._deliver)

    def _deliver(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._busy = False
                    return
                callback, state = self._pending.pop(0)
            callback(state)
