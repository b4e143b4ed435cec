"""The bookshop: ordinary HTTP servers on loopback that call each other through a ``MeshClient``.

Nothing here knows of routes, weights or retries: a server asks ``http://reviews:9080/`` and the mesh does the rest.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from meshlib.client import MeshClient

__all__ = ["Bookshop", "Server"]

Answer = Callable[[dict[str, str]], tuple[int, dict[str, Any]]]


class Server:
    """One instance of one version of a service.

    Attributes:
        service: For example ``reviews``.
        version: For example ``v2``.
        failing: While True every answer is a 503.
        served: Requests that came in.
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, service: str, version: str, answer: Answer) -> None:
        self.service = service
        self.version = version
        self.failing = False
        self.served = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._http = _Listener(self)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def respond(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and JSON body for a request."""
        with self._lock:
            self.served += 1
        if self.failing:
            return 503, {"service": self.service, "version": self.version, "error": "out of order"}
        return self._answer(headers)

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served_by = server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        served_by = cast("_Listener", self.server).served_by
        status, body = served_by.respond({name.lower(): value for name, value in self.headers.items()})
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Bookshop:
    """All servers: one product page, details and two ratings; reviews v1, two of v2, v3.

    Args:
        folder: Configuration that the servers' own clients use.
    """

    def __init__(self, client: MeshClient) -> None:
        self._client = client
        self.flaky = 0
        """While above 0, one call in so many gets a 503 from ratings at its first try."""
        self._first_tries = itertools.count(1)
        self.servers = [
            Server("productpage", "v1", self._product_page),
            Server("details", "v1", lambda _: (200, {"title": "The Comedy of Errors", "pages": 200})),
            *(Server("ratings", "v1", self._ratings) for _ in range(2)),
            Server("reviews", "v1", lambda _: (200, {"version": "v1", "stars": None})),
            *(Server("reviews", "v2", self._reviews("v2")) for _ in range(2)),
            Server("reviews", "v3", self._reviews("v3")),
        ]

    def _ratings(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        first = headers.get("x-envoy-attempt-count") == "1"
        if self.flaky and first and next(self._first_tries) % self.flaky == 0:
            return 503, {"error": "out of paper"}
        return 200, {"stars": 5}

    def _reviews(self, version: str) -> Answer:
        def answer(headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
            reply = self._client.get("http://ratings:9080/ratings/0")
            stars = reply.json()["stars"] if reply.status_code == 200 else None
            return 200, {"version": version, "stars": stars, "ratings_status": reply.status_code}

        return answer

    def _product_page(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        forwarded = {"end-user": headers["end-user"]} if "end-user" in headers else {}
        details = self._client.get("http://details:9080/details/0", headers=forwarded)
        reviews = self._client.get("http://reviews:9080/reviews/0", headers=forwarded)
        return 200, {
            "details": details.status_code,
            "reviews": reviews.status_code,
            **(reviews.json() if reviews.status_code == 200 else {}),
        }

    def endpoint_slices(self) -> str:
        """EndpointSlices for all servers, as YAML."""
        return "---\n".join(
            f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {server.service}-{server.version}-{number}
  labels: {{kubernetes.io/service-name: {server.service}, app: {server.service}, version: {server.version}}}
addressType: IPv4
ports: [{{name: http, port: {server.port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"""
            for number, server in enumerate(self.servers)
        )

    def instances(self, service: str, version: str) -> list[Server]:
        """The servers of one version of a service."""
        return [s for s in self.servers if s.service == service and s.version == version]

    def close(self) -> None:
        """Stop all servers."""
        for server in self.servers:
            server.close()
