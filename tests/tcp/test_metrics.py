"""Istio's metrics of raw connections, and what counts while they last."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from meshlib import errors
from meshlib.telemetry.otel import OpenTelemetry
from meshlib.telemetry.tcp_metrics import TcpMetrics
from meshlib.testing import ManualClock, mesh_of
from tests.tcp.worlds import Server, closed_port, entry, policy, servers
from tests.telemetry.test_otel import points

PREFIX = "istio_tcp_"


@pytest.fixture
def counted():
    """A function that gives a mesh an observer of its own, and one that reads the counters."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])

    def observe(mesh):
        mesh.observer = otel = OpenTelemetry(mesh.client)
        otel._connections = TcpMetrics(meters.get_meter("test"), mesh.client)

    def values():
        found = points(reader)
        return {
            (name.removeprefix(PREFIX), point.attributes["response_flags"]): point.value
            for name, all_of in found.items()
            for point in all_of
        }

    yield SimpleNamespace(observe=observe, values=values, points=lambda: points(reader))
    meters.shutdown()


def test_opened_closed_and_bytes_with_istios_labels(counted):
    server, clock = Server("one"), ManualClock()
    with servers(server), mesh_of(entry(server.port), clock=clock, labels={"app": "web"}) as mesh:
        counted.observe(mesh)
        with mesh.open_tcp("db.example", 6379) as sock:
            sock.sendall(b"12345")
            assert sock.recv(100) == b"one:12345"
            assert counted.values() == {("connections_opened_total", "-"): 1}
            mesh.connector.watch.sweep(clock.now())
            during = counted.values()
            assert during["sent_bytes_total", "-"] == 9, "bytes count while the connection lasts"
            assert during["received_bytes_total", "-"] == 5
            sock.sendall(b"1")
            with sock.makefile("rb") as file:
                assert file.read(5) == b"one:1"
        assert counted.values() == {
            ("connections_opened_total", "-"): 1,
            ("connections_closed_total", "-"): 1,
            ("sent_bytes_total", "-"): 14,
            ("received_bytes_total", "-"): 6,
        }
        [point] = counted.points()["istio_tcp_connections_closed_total"]
        labels = dict(point.attributes)
        assert labels["destination_service"] == "db.example"
        assert (labels["reporter"], labels["request_protocol"], labels["source_app"]) == ("source", "tcp", "web")
        assert not {"response_code", "grpc_response_status"} & set(labels), "a connection has none"


def test_what_never_stood_is_opened_and_closed_with_its_flag(counted):
    pool = "connectionPool: {tcp: {maxConnections: 1}}"
    texts = [entry(closed_port()), policy(pool)]
    with mesh_of(*texts, clock=ManualClock()) as mesh:
        counted.observe(mesh)
        with pytest.raises(errors.ConnectFailure):
            mesh.open_tcp("db.example", 6379)
        with mesh.pick("db.example", 6379), pytest.raises(errors.Overflow):
            mesh.pick("db.example", 6379)
        values = counted.values()
        assert values["connections_opened_total", "UF"] == values["connections_closed_total", "UF"] == 1
        assert values["connections_opened_total", "UO"] == values["connections_closed_total", "UO"] == 1


def test_idle_time_and_age_by_a_clock_of_our_own():
    server, clock = Server("one"), ManualClock()
    pool = "connectionPool: {tcp: {idleTimeout: 10s, maxConnectionDuration: 25s}}"
    with servers(server), mesh_of(entry(server.port), policy(pool), clock=clock, telemetry=False) as mesh:
        watch = mesh.connector.watch
        quiet, busy = (mesh.open_tcp("db.example", 6379) for _ in range(2))
        started = clock.now()
        assert watch.sweep(started) == started + 5, "bytes are counted every five seconds"
        clock.advance(8)
        busy.sendall(b"x")
        assert watch.sweep(clock.now()) == started + 10
        clock.advance(2)
        watch.sweep(clock.now())
        assert (quiet.lease.ended, busy.lease.ended) == (True, False)
        assert quiet.recv(1) == b""
        for _ in range(3):
            clock.advance(5)
            busy.sendall(b"x")
            watch.sweep(clock.now())
        assert busy.lease.ended, "25 seconds are over, whatever it does"
        assert len(watch) == 0
        quiet.close()
        busy.close()
