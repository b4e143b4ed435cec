"""Load reports behind a body, as gRPC sends them: read off real trailers, by the short way and by the full one."""

from __future__ import annotations

import socketserver
import threading

import httpx
import pytest

from meshlib import MeshClient
from meshlib.httpx import MeshTransport
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

POLICY = """
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {name: p}
spec: {hosts: [svc], loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, loadReports: {blackoutPeriod: 0s}}}
"""
ANSWER = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: endpoint-load-metrics\r\n\r\n"
    b"2\r\nok\r\n0\r\nendpoint-load-metrics: TEXT cpu_utilization=0.5,rps_fractional=100\r\n\r\n"
)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.wfile.write(ANSWER)


@pytest.fixture
def port():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("short", [True, False])
def test_a_report_in_the_trailers_counts(port, short):
    mesh = mesh_of(service("svc", 80), endpoint_slice("svc", "v1", ("127.0.0.1", port)), POLICY, telemetry=False)
    with mesh, MeshClient(mesh) if short else httpx.Client(transport=MeshTransport(mesh)) as client:
        assert client.get("http://svc/").text == "ok"
        (cluster,) = mesh.state.clusters()
        (state,) = cluster.endpoints.values()
        assert state.reported is not None
        assert state.reported.weight == 200.0
