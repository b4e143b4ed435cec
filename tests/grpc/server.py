"""A gRPC server in a process of its own, which does what the metadata of a call asks for.

``python -m tests.grpc.server NAME`` prints its port, then answers commands on standard input, a line for a line, until
there is no more input. Methods of any service named ``test.*`` exist in all four shapes, by the name of the method;
their messages are bytes, and every response is JSON that tells who answered and what it saw.

Metadata: ``only`` (names of servers that the rest is for), ``until`` (for attempts up to this number), ``code`` and
``details``, ``delay`` (seconds before anything), ``messages`` (responses of a stream), ``after`` (messages before the
code), ``pause`` (seconds between messages), ``orca`` (a load report for the trailers), ``cancel`` (by the server),
``trailer`` (a value for the trailers), ``gate`` (before the code, wait for the command ``open``).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshlib.grpc.server import LoadReports, ServerContext, ServerLoad, call_load, drain, load_service
from tests.grpc.interop import Interop
from tests.grpc.messages import services

SHAPES = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Scripted(grpc.GenericRpcHandler):
    """The methods of services ``test.*``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[dict[str, Any]] = []
        self.active = 0
        self.gate = threading.Event()
        self.lock = threading.Lock()

    def service(self, details: Any) -> Any:
        """See ``grpc.GenericRpcHandler``."""
        service, _, method = details.method.lstrip("/").partition("/")
        if not service.startswith("test.") or method not in SHAPES:
            return None
        metadata = dict(details.invocation_metadata)

        def one(requests: Any, context: Any) -> bytes:
            return next(self._answers(requests, context, details.method, metadata, 1))

        def many(requests: Any, context: Any) -> Iterator[bytes]:
            yield from self._answers(requests, context, details.method, metadata, int(metadata.get("messages", "1")))

        if method == "UnaryUnary":
            return grpc.unary_unary_rpc_method_handler(one)
        if method == "UnaryStream":
            return grpc.unary_stream_rpc_method_handler(many)
        if method == "StreamUnary":
            return grpc.stream_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many)

    def _answers(self, requests: Any, context: Any, method: str, asked: dict[str, Any], count: int) -> Iterator[bytes]:
        read = [requests] if isinstance(requests, bytes) else list(requests)
        told = {
            "name": self.name,
            "method": method,
            "metadata": {name: value for name, value in asked.items() if isinstance(value, str)},
            "read": [len(each) for each in read],
            "left": context.time_remaining(),
        }
        with self.lock:
            self.seen.append(told)
            self.active += 1
            told["active"] = self.active
        ended = threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        if not context.add_callback(self._over):
            self._over()
        asked = asked if self._concerned(asked) else {}
        ended.wait(float(asked.get("delay", 0)))
        if "trailer" in asked:
            context.set_trailing_metadata((("trailer", asked["trailer"]),))
        if "orca" in asked:
            report = call_load()
            assert report is not None
            report.cpu_utilization, report.rps_fractional = (float(part) for part in asked["orca"].split("/"))
        if "cancel" in asked:
            context.cancel()
        after = int(asked.get("after", 0))
        for number in range(after if "code" in asked else count):
            yield json.dumps({**told, "number": number}).encode()
            time.sleep(float(asked.get("pause", 0)))
        if "gate" in asked:
            self.gate.wait(60)
        if "code" in asked:
            context.abort(CODES[int(asked["code"])], asked.get("details", f"as asked of {self.name}"))

    def _concerned(self, asked: dict[str, Any]) -> bool:
        """Whether this server and this attempt are meant."""
        attempt = int(asked.get("x-envoy-attempt-count", "1"))
        return self.name in asked.get("only", self.name).split(",") and attempt <= int(asked.get("until", "1000"))

    def _over(self) -> None:
        with self.lock:
            self.active -= 1


def main(name: str) -> None:
    """Serve until there is no more input."""
    scripted = Scripted(name)
    load = ServerLoad(min_interval=0.05)
    server = grpc.server(ThreadPoolExecutor(64), interceptors=[ServerContext(), LoadReports(load)])
    checks = health.HealthServicer()
    server.add_generic_rpc_handlers((scripted, load_service(load)))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    services.add_TestServiceServicer_to_server(Interop(name), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        answer: Any = None
        if command == "seen":
            answer = scripted.seen
        elif command == "forget":
            scripted.seen = []
            scripted.gate.clear()
        elif command == "open":
            scripted.gate.set()
        elif command == "active":
            answer = scripted.active
        elif command == "load":
            load.update(cpu_utilization=float(words[0]), rps_fractional=float(words[1]))
        elif command == "health":
            checks.set("", getattr(health_pb2.HealthCheckResponse, words[0]))
        elif command == "drain":
            answer = drain(server, grace=float(words[0]), health=checks)
        print(json.dumps(answer), flush=True)
    server.stop(None).wait(5)


if __name__ == "__main__":
    main(sys.argv[1])
