"""redis-py over a mesh: two Redis servers behind one name, one of them dies, and no command is lost.

Uses ``redis-server`` where it is installed (``apt-get install redis-server``), else a server of ten lines below that
speaks enough of the protocol. Needs ``pip install redis``.
"""

import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

import redis

from meshlib import Mesh
from meshlib.providers import StaticProvider


class MeshConnection(redis.Connection):
    """A redis-py connection that the mesh opens; ``host`` and ``port`` are the service's."""

    mesh: Mesh

    def _connect(self):
        sock = self.mesh.open_tcp(self.host, self.port, timeout=self.socket_connect_timeout, attempts=2)
        sock.settimeout(self.socket_timeout)
        return sock


class SmallRedis(socketserver.StreamRequestHandler):
    """PING, SET, GET, and ``+OK`` to the rest."""

    values: dict[bytes, bytes] = {}  # noqa: RUF012 - shared on purpose

    def handle(self):
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.wfile.write(self.answer(words[0].upper(), words[1:]))

    def answer(self, command, words):
        if command == b"PING":
            return b"+PONG\r\n"
        if command == b"SET":
            self.values[words[0]] = words[1]
        if command == b"GET":
            value = self.values.get(words[0])
            return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
        return b"-ERR unknown command\r\n" if command == b"HELLO" else b"+OK\r\n"


class Server:
    """A Redis on a port of its own, which can be made to die."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        program = shutil.which("redis-server")
        self.real = program is not None
        if program is not None:
            folder = tempfile.mkdtemp()
            words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            self.process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
        else:
            socketserver.ThreadingTCPServer.allow_reuse_address = True
            self.small = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), SmallRedis)
            self.small.daemon_threads = True
            threading.Thread(target=self.small.serve_forever, args=(0.02,), daemon=True).start()
        self.wait()

    def wait(self):
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the server did not start")

    def die(self):
        if self.real:
            self.process.kill()
            self.process.wait()
        else:
            self.small.shutdown()
            self.small.server_close()


one, two = Server(), Server()
CONFIG = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: redis}}
spec:
  hosts: [redis.shop]
  ports: [{{number: 6379, name: redis, protocol: REDIS}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints:
  - {{address: 127.0.0.1, ports: {{redis: {one.port}}}}}
  - {{address: 127.0.0.1, ports: {{redis: {two.port}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: redis}}
spec:
  host: redis.shop
  trafficPolicy:
    connectionPool: {{tcp: {{maxConnections: 16, connectTimeout: 1s}}}}
    outlierDetection: {{consecutive5xxErrors: 2, maxEjectionPercent: 50}}
"""

with Mesh(StaticProvider(CONFIG)) as mesh:
    MeshConnection.mesh = mesh
    pool = redis.ConnectionPool(MeshConnection, host="redis.shop", port=6379, protocol=2)
    client = redis.Redis(connection_pool=pool)

    def commands(count):
        """So many commands, each on a connection of its own; how many failed."""
        failed = 0
        for number in range(count):
            try:
                client.set(f"key-{number}", number)
                assert client.ping()
            except redis.ConnectionError:
                failed += 1
            pool.disconnect()
        return failed

    assert commands(20) == 0
    [cluster] = mesh.state.clusters()
    print(f"{'redis-server' if one.real else 'small servers'} on {one.port} and {two.port}: 20 commands, none failed")

    one.die()
    before = failed = 0
    while not any(state.ejected_at is not None for state in cluster.members):
        failed, before = failed + commands(1), before + 1
        assert before < 200, "nobody was ejected"
    assert [state.endpoint.port for state in cluster.members if state.ejected_at is not None] == [one.port]
    print(f"{one.port} died: ejected after two refused connections; of {before} commands meanwhile {failed} failed")

    assert commands(200) == 0
    print("after that: 200 commands, none failed")
    client.close()
    assert cluster.active == 0, "every connection was given back"
two.die()
