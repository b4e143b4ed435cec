"""Starts gRPC servers in other processes, and makes meshes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import endpoint_slice, service

ROOT = Path(__file__).parents[2]
HOST, PORT = "reviews", 9080


class Peer:
    """A server in another process.

    Args:
        name: Who it says it is.
        module: The server.
    """

    def __init__(self, name: str, module: str = "tests.grpc.server") -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        command = [sys.executable, "-m", module, name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, env=environment, text=True)

    @property
    def port(self) -> int:
        """Where it listens; waits until it does."""
        if not hasattr(self, "_port"):
            assert self.process.stdout is not None
            self._port = int(self.process.stdout.readline())
        return self._port

    def ask(self, command: str) -> Any:
        """Have it do something."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.port
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The scripted calls that it saw."""
        seen: list[dict[str, Any]] = self.ask("seen")
        return seen

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()


def world(*peers: Peer, host: str = HOST, port: int = PORT) -> str:
    """A service of these servers, each a version of its own."""
    slices = [endpoint_slice(host, peer.name, ("127.0.0.1", peer.port), protocol="grpc") for peer in peers]
    return "---\n".join([service(host, port, "grpc"), *slices])
