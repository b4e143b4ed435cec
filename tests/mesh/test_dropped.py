"""A mesh that nobody closes: collected it ends what it began, and at the end of the process it says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

WORLD = """
import asyncio, gc, http.server, sys, threading, time
from meshlib import AsyncMeshClient, Mesh, MeshClient

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = 0
    def do_GET(self):
        Answers.served += 1
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
server.daemon_threads, server.handle_error = True, lambda *peer: None
threading.Thread(target=server.serve_forever, daemon=True, name="server").start()
port = server.server_address[1]
OBJECTS = [
    {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": {
        "hosts": ["a.example"], "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 81, "name": "tcp", "protocol": "TCP"}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": port, "tcp": port}}]}},
    {"apiVersion": "meshlib.dev/v1alpha1", "kind": "ClientPolicy", "metadata": {"name": "a"}, "spec": {
        "hosts": ["a.example"], "healthCheck": {"path": "/", "interval": "1s"}}},
]
URL = "http://a.example/"

def until(condition):
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends, [thread.name for thread in threading.enumerate()]
        time.sleep(0.01)
"""

LEFT = {
    "a client of threads": "client = MeshClient(Mesh(*OBJECTS)); assert client.get(URL).text == 'ok'",
    "a response that is still open": """
        client = MeshClient(Mesh(*OBJECTS))
        response = client.send(client.build_request("GET", URL), stream=True)
    """,
    "a client of tasks in one loop after the other": """
        client = AsyncMeshClient(Mesh(*OBJECTS))
        async def main():
            assert (await client.get(URL)).text == "ok"
        asyncio.run(main())
        asyncio.run(main())
    """,
    "tasks in the middle of a call": """
        async def main():
            client = AsyncMeshClient(Mesh(*OBJECTS))
            calls = [asyncio.create_task(client.get(URL)) for _ in range(5)]
            await calls[0]
        asyncio.run(main())
    """,
    "a task of trio": """
        import trio
        async def main():
            assert (await AsyncMeshClient(Mesh(*OBJECTS)).get(URL)).text == "ok"
        trio.run(main)
    """,
    "threads in the middle of calls": """
        client = MeshClient(Mesh(*OBJECTS))
        def work():
            while True:
                client.get(URL)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
    """,
    "raw connections": """
        mesh = Mesh(*OBJECTS)
        sock, lease = mesh.open_tcp("a.example", 81), mesh.pick("a.example", 81)
        lease.connected()
        async def main():
            global stream
            stream = await mesh.aopen_tcp("a.example", 81)
        asyncio.run(main())
    """,
    "a mesh that was only started": "mesh = Mesh(*OBJECTS); mesh.start()",
}


def outcome_of(script: str) -> tuple[int, str]:
    """Exit code and what was said on stderr, by a process that runs ``script``."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", WORLD + textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("what", LEFT)
def test_a_process_that_closes_nothing_ends_without_a_word(what):
    code, said = outcome_of(LEFT[what])
    assert code == 0, said
    assert said == ""


def test_a_mesh_that_is_collected_takes_its_thread_its_checks_and_its_connections_along():
    code, said = outcome_of("""
        client = MeshClient(Mesh(*OBJECTS))
        assert client.get(URL).text == "ok"
        mesh = client.mesh
        until(lambda: mesh.status().clusters[0]["endpoints"][0]["healthy"] is True)
        assert "meshlib" in [thread.name for thread in threading.enumerate()]
        del client, mesh
        gc.collect()
        until(lambda: {thread.name for thread in threading.enumerate()} == {"MainThread", "server"})
    """)
    assert (code, said) == (0, ""), said


def test_one_that_is_collected_leaves_the_others_running():
    code, said = outcome_of("""
        kept, dropped = MeshClient(Mesh(*OBJECTS)), MeshClient(Mesh(*OBJECTS))
        assert kept.get(URL).text == dropped.get(URL).text == "ok"
        del dropped
        gc.collect()
        before = Answers.served
        until(lambda: Answers.served > before + 1)  # health checks go on
        assert kept.get(URL).text == "ok"
        kept.close()
        kept.mesh.close()
        until(lambda: "meshlib" not in [thread.name for thread in threading.enumerate()])
        again = MeshClient(Mesh(*OBJECTS))
        assert again.get(URL).text == "ok"
    """)
    assert (code, said) == (0, ""), said
