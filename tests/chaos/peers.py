"""Starts a process of misbehaving servers, tells it how to behave, and asks what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.conftest import endpoint_slice, service

ROOT = Path(__file__).resolve().parents[2]


class Peers:
    """``count`` endpoints in one process of their own; leave the ``with`` block to end it."""

    def __init__(self, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.peer", str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self.ports: list[int] = self._ask(do="ports")

    def _ask(self, **order: object) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the peer has ended; its stderr says why")
        return json.loads(line)

    def behave(self, endpoint: int, mode: str, value: float = 0.0) -> None:
        """Switch how an endpoint behaves from its next request on; ``value`` is the seconds of ``slow``."""
        self._ask(do="behave", endpoint=endpoint, mode=mode, value=value)

    def facts(self) -> list[dict[str, Any]]:
        """Of each endpoint: ``requests``, ``processed`` (id -> times), ``open`` connections, ``mode``."""
        facts: list[dict[str, Any]] = self._ask(do="facts")
        return facts

    def processed(self) -> Counter[str]:
        """How often each id was acted upon, by any endpoint."""
        total: Counter[str] = Counter()
        for each in self.facts():
            total.update(each["processed"])
        return total

    def open_after(self, seconds: float = 5.0) -> int:
        """Connections still open, asked until there is none, at most ``seconds`` long."""
        ends = time.monotonic() + seconds
        while (left := sum(each["open"] for each in self.facts())) and time.monotonic() < ends:
            time.sleep(0.01)
        return left

    def yaml(self, *rules: str, only: list[int] | None = None, protocol: str = "http") -> str:
        """The service ``svc`` with these endpoints, and rules for it."""
        ports = self.ports if only is None else [self.ports[each] for each in only]
        addresses = [("127.0.0.1", port) for port in ports]
        return "---\n".join(
            [service("svc", 80, protocol), endpoint_slice("svc", "v1", *addresses, protocol=protocol), *rules]
        )

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
