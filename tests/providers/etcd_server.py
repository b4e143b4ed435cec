"""A real etcd on loopback, and a wire to it that can be cut, frozen or made to talk nonsense."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

ETCD = shutil.which("etcd")
ABSENT = "etcd is not installed: it is Debian's package etcd-server"


def coded(text):
    return b64encode(text.encode()).decode()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class EtcdServer:
    """One server of a cluster of one.

    Args:
        flags: Further flags.
        scheme: ``http`` or ``https``.
    """

    def __init__(self, *flags, scheme="http"):
        fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="etcd-", dir=fast))
        self.port, self.peer = free_port(), free_port()
        self.scheme = scheme
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.flags = flags
        self.token = ""
        self.start()

    def start(self, data="data"):
        peer = f"http://127.0.0.1:{self.peer}"
        command = [ETCD, "--name=one", f"--data-dir={self.folder / data}", *self.flags]
        command += [f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=one={peer}", f"--initial-cluster-token={data}", "--heartbeat-interval=20"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([*command, "--election-timeout=200"], stdout=log, stderr=log)
        log.close()
        ends = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < ends, "etcd did not start in time"
            time.sleep(0.02)

    def answers(self):
        """Whether it serves: over TLS only that it listens is asked."""
        try:
            if self.scheme == "https":
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return "ready to serve client requests" in (self.folder / "log").read_text()
            self.ask("/v3/maintenance/status", {})
        except OSError as error:
            return getattr(error, "code", 0) in (400, 401)
        return True

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What a user of it does -----------------------------------------------------------------------------------------

    def ask(self, path, message):
        headers = {"Authorization": self.token} if self.token else {}
        request = urllib.request.Request(self.url + path, json.dumps(message).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            raise

    def put(self, key, value, **more):
        text = value if isinstance(value, str) else json.dumps(value)
        return self.ask("/v3/kv/put", {"key": coded(key), "value": coded(text), **more})

    def put_all(self, values):
        """Many keys, as few transactions as may be."""
        pairs = list(values.items())
        for start in range(0, len(pairs), 128):
            puts = [{"request_put": {"key": coded(k), "value": coded(v)}} for k, v in pairs[start : start + 128]]
            self.ask("/v3/kv/txn", {"success": puts})

    def delete(self, key):
        return self.ask("/v3/kv/deleterange", {"key": coded(key)})

    def grant(self, seconds):
        return self.ask("/v3/lease/grant", {"TTL": str(seconds)})["ID"]

    def compact(self):
        revision = self.ask("/v3/kv/range", {"key": coded("-")})["header"]["revision"]
        self.ask("/v3/kv/compaction", {"revision": revision, "physical": True})


class Wire:
    """Carries bytes between clients and a server.

    Attributes:
        accepts: New connections are carried; else they are taken and nothing is said.
        frozen: What is carried stands still, whatever comes.
        nonsense: What new connections are told instead of the server's words; None for nothing of the sort.
        opened: Connections so far.
    """

    def __init__(self, port):
        self._to = port
        self.accepts, self.frozen, self.nonsense, self.opened = True, False, None, 0
        self._pairs, self._threads = [], []
        self._closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def cut(self):
        """Break what is carried now."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _end(sock)

    def freeze_old(self):
        """What is carried now falls silent for ever; new connections are carried."""
        for pair in self._pairs:
            pair[2].clear()

    def close(self):
        self._closed.set()
        self._socket.close()
        self.cut()
        for each in self._threads:
            each.join(5)

    def _accept(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.opened += 1
            nonsense = self.nonsense
            if self._closed.is_set():
                _end(client)
            elif nonsense is not None:
                self._threads.append(threading.Thread(target=self._babble, args=(client, nonsense), daemon=True))
                self._threads[-1].start()
            elif not self.accepts:
                self._pairs.append(_Pair(client, client, threading.Event()))
            else:
                self._carry(client)

    def _babble(self, client, nonsense):
        try:
            client.recv(65536)
            for piece in nonsense:
                client.sendall(piece)
                self._closed.wait(0.05)
        except OSError:
            pass
        _end(client)

    def _carry(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self._to), 5)
        except OSError:
            _end(client)
            return
        flowing = threading.Event()
        flowing.set()
        self._pairs.append(_Pair(client, server, flowing))
        if self._closed.is_set():
            self.cut()
        for one, other in ((client, server), (server, client)):
            self._threads.append(threading.Thread(target=self._pump, args=(one, other, flowing), daemon=True))
            self._threads[-1].start()

    def _pump(self, one, other, flowing):
        try:
            while data := one.recv(65536):
                while self.frozen or not flowing.is_set():
                    if self._closed.wait(0.01):
                        break
                other.sendall(data)
        except OSError:
            pass
        if self._closed.is_set() or (flowing.is_set() and not self.frozen):
            _end(one)
            _end(other)


class _Pair(tuple):
    """Client, server, and whether bytes flow."""

    def __new__(cls, client, server, flowing):
        return super().__new__(cls, (client, server, flowing))

    def __iter__(self):
        return iter((self[0], self[1]))


def _end(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
