"""Forks at every moment, and gunicorn: a child serves at once, on connections of its own, and counts from zero."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from meshlib import AsyncMeshClient, Mesh, MeshClient
from meshlib.providers import StaticProvider
from tests.conftest import endpoint_slice, service

SOURCE = str(Path(__file__).parents[2] / "src")
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE}
PRELUDE = """
import os, sys, time
def in_children(work, count=2):
    pids = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            try:
                work()
            except BaseException:
                import traceback; traceback.print_exc()
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count
def first_call(client):
    started = time.monotonic()
    assert client.get("http://svc/").status_code == 200
    took = time.monotonic() - started
    assert took < 1.0, f"the first call took {took:.2f} s"
"""
MOMENTS = {
    "before the import": """
        def work():
            from meshlib import MeshClient
            with MeshClient(FOLDER) as client:
                client.get("http://svc/")
                first_call(client)
        in_children(work)
    """,
    "after the import": """
        from meshlib import MeshClient
        client = MeshClient(FOLDER)
        in_children(lambda: first_call(client))
        first_call(client)
        client.close()
    """,
    "after the first call": """
        from meshlib import MeshClient
        client = MeshClient(FOLDER)
        client.get("http://svc/")
        in_children(lambda: first_call(client))
        first_call(client)
        client.close()
    """,
    "with an answer and a socket open": """
        from meshlib import MeshClient
        client = MeshClient(FOLDER)
        client.get("http://svc/")
        request = client.build_request("POST", "http://svc/", content=b"x" * 1_000_000)  # not all of it is read at once
        response = client.send(request, stream=True)
        sock = client.mesh.open_tcp("svc", 80)
        def active():
            return [(c.active, [e.active for e in c.endpoints.values()]) for c in client.mesh.state.clusters()]
        assert active() == [(2, [2])], active()
        def work():
            assert active() == [(0, [0])], active()
            response.close()
            sock.close()
            assert active() == [(0, [0])], active()
            first_call(client)
            assert active() == [(0, [0])], active()
        in_children(work)
        assert response.read()
        sock.close()
        assert active() == [(0, [0])], active()
        client.close()
    """,
    "during a watch callback": """
        from meshlib import Mesh, MeshClient
        from meshlib.providers import StaticProvider
        text = open(os.path.join(FOLDER, "mesh.yaml")).read()
        provider = StaticProvider(text)
        mesh = Mesh(provider, telemetry=False)
        client = MeshClient(mesh)
        client.get("http://svc/")
        import threading
        inside, forked = threading.Event(), threading.Event()
        publish = mesh._feed.publish
        def held():
            inside.set()
            forked.wait(10)
            return publish()
        mesh._feed.publish = held
        provider.replace(text + "---\\n" + text.replace("svc", "other"))
        assert inside.wait(10)
        def work():
            forked.set()  # the child's own watch goes on
            first_call(client)
        in_children(work)
        forked.set()
        first_call(client)
        mesh.close()
    """,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_child_serves_at_once_whenever_it_was_forked(moment, echo, tmp_path):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    (tmp_path / "mesh.yaml").write_text(yaml)
    program = f"FOLDER = {str(tmp_path)!r}\n{PRELUDE}\n{textwrap.dedent(MOMENTS[moment])}"
    run = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=50, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


APPLICATION = """
import os, threading
from meshlib import AsyncMeshClient, MeshClient
client = MeshClient({folder!r})
client.get("http://svc/")  # in the master, before it forks
aclient = AsyncMeshClient(client.mesh)
def wsgi(environ, start_response):
    text = client.get("http://svc/").json()["name"]
    start_response("200 OK", [("content-type", "text/plain")])
    return [f"{{text}} {{os.getpid()}}".encode()]
async def asgi(scope, receive, send):
    text = (await aclient.get("http://svc/")).json()["name"]
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": f"{{text}} {{os.getpid()}}".encode()}})
"""


@pytest.mark.parametrize(
    ("kind", "application"),
    [("sync", "wsgi"), ("gthread", "wsgi"), ("uvicorn_worker.UvicornWorker", "asgi")],
)
def test_workers_of_gunicorn_with_preload_serve_and_say_who_they_are(kind, application, echo, tmp_path):
    pytest.importorskip("gunicorn")
    if "." in kind:
        pytest.importorskip("uvicorn_worker")
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    (tmp_path / "mesh.yaml").write_text(yaml)
    (tmp_path / "application.py").write_text(APPLICATION.format(folder=str(tmp_path / "mesh.yaml")))
    listener = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(listener.fileno(), True)
    words = [
        "--preload",
        "--workers",
        "2",
        "--threads",
        "2",
        "--worker-class",
        kind,
        "--bind",
        f"fd://{listener.fileno()}",
    ]
    run = [sys.executable, "-W", "ignore", "-m", "gunicorn", *words, f"application:{application}"]
    process = subprocess.Popen(
        run, cwd=tmp_path, env=ENVIRONMENT, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        seen = set()
        ends = time.monotonic() + 40
        while len(seen) < 2 and time.monotonic() < ends:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            with urllib.request.urlopen(url, timeout=20) as response:
                name, pid = response.read().decode().split()
            assert name == "s"
            seen.add(pid)
        assert len(seen) == 2, "both workers answered"
        assert str(process.pid) not in seen
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
        listener.close()
    assert b"Traceback" not in errors, errors.decode()


def test_sixty_four_racing_first_calls_build_one_pool_and_one_watcher(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    runs = []

    class Counting(StaticProvider):
        async def run(self, publish):
            runs.append(threading.current_thread().name)
            await super().run(publish)

    barrier, failures = threading.Barrier(64), []
    with Mesh(Counting(yaml), telemetry=False) as mesh, MeshClient(mesh) as client:

        def first():
            barrier.wait(20)
            try:
                assert client.get("http://svc/").status_code == 200
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=first) for _ in range(64)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert failures == []
        assert len(mesh.blocking._pools) == 1
        assert runs == ["meshlib"]


def test_eight_threads_with_three_loops_each_and_a_plain_client_share_one_watcher(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    failures = []
    with Mesh(StaticProvider(yaml), telemetry=False) as mesh, MeshClient(mesh) as plain:
        shared = AsyncMeshClient(mesh)

        async def calls():
            found = await asyncio.gather(*(shared.get("http://svc/") for _ in range(4)))
            assert [each.status_code for each in found] == [200] * 4
            async with await mesh.aopen_tcp("svc", 80) as stream:
                await stream.send(b"GET / HTTP/1.0\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.")
            await mesh.cooperative.aclose()

        def loops():
            try:
                for _ in range(3):
                    asyncio.run(calls())
                    assert plain.get("http://svc/").status_code == 200
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=loops) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(40)
        assert failures == []
        assert sum(thread.name == "meshlib" for thread in threading.enumerate()) == 1
        assert [(c.active, [e.active for e in c.members]) for c in mesh.state.clusters()] == [(0, [0])]
