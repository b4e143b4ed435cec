"""The handle on a control plane in another process."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meshlib.xds.ads.kinds import Kind

ROOT = Path(__file__).resolve().parents[2]


class ControlPlane:
    """A process that serves ADS on loopback; ended by its own handle.

    Args:
        port: To listen at; 0 takes any.
        tls: Files of its certificate, its key and, where clients need one too, of their roots; none is plaintext.
    """

    def __init__(self, port: int = 0, tls: tuple[str, ...] | None = None) -> None:
        self._tls = tls
        self._served: dict[str, dict[str, str]] = {}
        self._version = 0
        self.port = port
        self.start()

    def start(self) -> None:
        """Begin, again at the same port, with nothing to serve."""
        command = [sys.executable, "-m", "tests.xds.control_plane", str(self.port), *(self._tls or ())]
        environ = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = self._answer()["port"]

    @property
    def uri(self) -> str:
        return f"127.0.0.1:{self.port}"

    def bootstrap(self, **node: Any) -> dict[str, Any]:
        """For clients of it."""
        node = {"id": "test", "cluster": "test", "locality": {}, **node}
        return {
            "xds_servers": [
                {"server_uri": self.uri, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
            ],
            "node": node,
        }

    def serve(self, *messages: Any, version: str | None = None, order: Iterable[Kind] = ()) -> None:
        """Serve these; of the types that are among them, no others, and of other types what was served before."""
        found: dict[str, dict[str, str]] = {}
        for message in messages:
            url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
            name = message.cluster_name if url == Kind.ENDPOINT.url else message.name
            found.setdefault(url, {})[name] = _text(message)
        self._do("set", resources=found, version=version or self._next(), order=[kind.url for kind in order] or None)

    def serve_nothing(self, *kinds: Kind) -> None:
        """Serve none of these types."""
        self._do("set", resources={kind.url: {} for kind in kinds or Kind}, version=self._next())

    def patch(self, message: Any) -> None:
        """Serve one resource anew and tell of it alone."""
        url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
        name = message.cluster_name if url == Kind.ENDPOINT.url else message.name
        self._do("patch", url=url, name=name, value=_text(message), version=self._next())

    def flap(self, messages: list[Any], times: int) -> None:
        """Tell of these forms of one resource in turn."""
        url = f"type.googleapis.com/{messages[0].DESCRIPTOR.full_name}"
        name = messages[0].cluster_name if url == Kind.ENDPOINT.url else messages[0].name
        self._do("flap", url=url, name=name, values=[_text(each) for each in messages], times=times)

    def send(self, kind: Kind, *packed: Any) -> None:
        """Send these packed messages once, as they are."""
        values = [base64.b64encode(each.value).decode() for each in packed]
        self._do("send", url=kind.url, values=values, types=[each.type_url for each in packed])

    def repeat(self, times: int = 1) -> None:
        self._do("repeat", times=times)

    def end_streams(self) -> None:
        self._do("end")

    def withhold(self, *kinds: Kind) -> None:
        self._do("withhold", urls=[kind.url for kind in kinds])

    def requests(self) -> list[dict[str, Any]]:
        """What was asked since the last call, stream headers included (``metadata``)."""
        return self._do("log")

    def loads(self) -> list[dict[str, Any]]:
        return self._do("loads")

    def streams(self) -> int:
        return self._do("count")

    def fall_silent(self) -> None:
        """Neither answer nor hang up."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake_up(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End at once."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """End politely."""
        if self.process.poll() is None:
            self.wake_up()
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._end()

    def _end(self) -> None:
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _do(self, command: str, **arguments: Any) -> Any:
        self.process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()["answer"]

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the control plane ended with {self.process.wait(10)}")
        return json.loads(line)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()
