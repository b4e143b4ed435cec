"""Connections of threads between two exchanges, of which no thread thinks: the mesh's background sees to them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
from h2.events import ConnectionTerminated, PingReceived, StreamEnded

from meshlib import MeshClient
from meshlib.model.policy import Http2KeepAlive
from meshlib.testing import mesh_of
from meshlib.transport.blocking import BlockingPools
from tests.conftest import endpoint_slice, service
from tests.transport import http2_peer
from tests.transport.test_http1 import ask, at
from tests.transport.test_pools import OK, head, script

__all__ = ["script"]


class Ends:
    """Counts the connections that the client closed; ``then`` is done after each answer."""

    def __init__(self, then: Callable[[socket.socket], None] = lambda sock: None) -> None:
        self.count = 0
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, sock: socket.socket) -> None:
        """As a script: answer, until the client is gone."""
        try:
            while True:
                head(sock)
                sock.sendall(OK)
                self._then(sock)
        except OSError:
            with self._lock:
                self.count += 1


def until(is_so: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Whether it comes true within a time that no machine needs."""
    ends = time.monotonic() + 20
    while not is_so() and time.monotonic() < ends:
        meanwhile()
        time.sleep(0.01)
    return is_so()


def burst(pools: BlockingPools, target, count: int) -> None:
    together = threading.Barrier(count)

    def one() -> None:
        together.wait(10)
        b"".join(pools.send(target, ask()).body)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)


def test_what_a_burst_left_behind_is_closed_though_another_connection_stays_in_use(script):
    ends = Ends(lambda sock: time.sleep(0.02))
    server = script(ends)
    target, pools = at(server, idle_timeout=0.3), BlockingPools()
    burst(pools, target, 4)

    def use() -> None:
        b"".join(pools.send(target, ask()).body)
        pools.tend()

    assert until(lambda: ends.count >= server.connections - 1, use)
    pools.close()


def test_connections_that_may_rest_are_left_alone(script):
    ends = Ends()
    server = script(ends)
    target, pools = at(server, idle_timeout=60), BlockingPools()
    for _ in range(5):
        b"".join(pools.send(target, ask()).body)
        pools.tend()
    assert (server.connections, ends.count) == (1, 0)
    pools.close()


def test_a_connection_whose_peer_said_goodbye_is_closed_before_anybody_calls(script):
    ends = Ends(lambda sock: sock.shutdown(socket.SHUT_WR))
    server, pools = script(ends), BlockingPools()
    b"".join(pools.send(at(server), ask()).body)
    assert until(lambda: ends.count == 1, pools.tend)
    pools.close()


class Peer:
    """An HTTP/2 peer that answers requests; ``then`` is done after each, and ``events`` are what came."""

    def __init__(self, then: Callable[[http2_peer.Wire], None] = lambda wire: None) -> None:
        self.ended = threading.Event()
        self.events: list[object] = []
        self._then = then

    def __call__(self, sock: socket.socket) -> None:
        wire = http2_peer.Wire(sock)
        try:
            for event in wire.come():
                self.events.append(event)
                if isinstance(event, StreamEnded):
                    wire.answer(event.stream_id)
                    self._then(wire)
        finally:
            self.ended.set()

    def saw(self, kind: type) -> bool:
        return any(isinstance(event, kind) for event in self.events)


def test_an_http2_connection_is_asked_while_no_thread_calls(script):
    peer, pools = Peer(), BlockingPools()
    server = script(peer)
    target = http2_peer.at(server, http2_keepalive=Http2KeepAlive(interval=0.05, timeout=30))
    b"".join(pools.send(target, http2_peer.ask()).body)
    assert until(lambda: sum(isinstance(each, PingReceived) for each in peer.events) >= 3, pools.tend)
    b"".join(pools.send(target, http2_peer.ask()).body)
    assert server.connections == 1
    pools.close()


def test_an_http2_peer_that_is_silent_is_given_up_while_no_thread_calls(script):
    ended = threading.Event()

    def handle(sock: socket.socket) -> None:
        wire = http2_peer.Wire(sock)
        [stream] = wire.until(StreamEnded)
        wire.answer(stream.stream_id)
        while sock.recv(65536):  # no PING is answered
            pass
        ended.set()

    target = http2_peer.at(script(handle), http2_keepalive=Http2KeepAlive(interval=0.05, timeout=0.05))
    pools = BlockingPools()
    b"".join(pools.send(target, http2_peer.ask()).body)
    assert until(ended.is_set, pools.tend)
    pools.close()


@pytest.mark.parametrize("settings", [{"idle_timeout": 0.05}, {"max_connection_duration": 0.05}])
def test_an_http2_connection_that_rested_too_long_is_closed(settings, script):
    peer, pools = Peer(), BlockingPools()
    b"".join(pools.send(http2_peer.at(script(peer), **settings), http2_peer.ask()).body)
    assert until(peer.ended.is_set, pools.tend)
    pools.close()


def test_an_http2_connection_whose_peer_goes_away_is_closed(script):
    def leave(wire: http2_peer.Wire) -> None:
        wire.h2.close_connection()
        wire.flush()

    peer, pools = Peer(leave), BlockingPools()
    b"".join(pools.send(http2_peer.at(script(peer)), http2_peer.ask()).body)
    assert until(peer.ended.is_set, pools.tend)
    assert not peer.saw(ConnectionTerminated)
    pools.close()


def test_a_mesh_sees_to_connections_at_rest_by_itself(script):
    ends = Ends()
    server = script(ends)
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
        "spec: {host: svc, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0.1s}}}}\n"
    )
    objects = service("svc", 80), endpoint_slice("svc", "v1", ("127.0.0.1", server.port)), rule
    with mesh_of(*objects, telemetry=False) as mesh, MeshClient(mesh) as client:
        assert client.get("http://svc/").text == "ok"
        assert until(lambda: ends.count == 1)
