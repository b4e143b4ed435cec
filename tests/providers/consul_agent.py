"""A Consul agent on loopback, as its HTTP API is documented: indexes, waiting, consistency, ACLs; and everything that
goes wrong with one. State is changed by the methods; each is one write of the cluster's log."""

from __future__ import annotations

import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

CHECKS = "/"
"""Stands for the checks of all services where a service is meant; no service is called so."""


class Registry:
    """What the servers of a cluster know, and under which index."""

    def __init__(self, datacenter="dc1", index=10):
        self.datacenter = datacenter
        self.lock = threading.RLock()
        self.waiting = {}
        self.index = index
        self.services = {}
        self.touched = {}
        self.extinct = index
        self.listed = index

    def register(self, service, identity, address="10.0.0.1", port=8080, *, status="passing", node=None, **more):
        """An instance; ``more`` are fields of the service (Tags, Meta, Weights, TaggedAddresses, Kind, Locality)."""
        nodes = {"Node": "n1", "Address": "10.9.9.9", "Datacenter": self.datacenter, "Meta": {}, "TaggedAddresses": {}}
        entry = {
            "Node": nodes | (node or {}),
            "Service": {"ID": identity, "Service": service, "Address": address, "Port": port, "Kind": ""}
            | {"Tags": [], "Meta": {}, "Weights": {"Passing": 1, "Warning": 1}, "TaggedAddresses": {}}
            | more,
            "Checks": [
                {"Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
                {"Node": "n1", "CheckID": f"service:{identity}", "Status": status, "ServiceID": identity},
            ],
        }
        with self.lock:
            of = self.services.setdefault(service, {})
            same = identity in of and all(of[identity][part] == entry[part] for part in ("Node", "Service"))
            of[identity] = entry
            self._wrote(service, only_checks=same)

    def deregister(self, service, identity=None):
        with self.lock:
            if identity is None:
                self.services.pop(service, None)
            else:
                self.services[service].pop(identity)
                if not self.services[service]:
                    del self.services[service]
            self._wrote(service)
            if service not in self.services:
                self.touched.pop(service)
                self.extinct = self.index

    def lose_everything(self, index=1):
        """The servers come back without their data."""
        with self.lock:
            self.services, self.touched = {}, {}
            self.index = self.extinct = self.listed = index
            self._wake(*self.waiting)

    def set_index(self, index):
        """Nothing changes but the index, which may fall."""
        with self.lock:
            self.index = self.extinct = self.listed = index
            self.touched = dict.fromkeys(self.touched, index)
            self._wake(*self.waiting)

    def _wrote(self, service, only_checks=False):
        """The list of services has an index that a change of health does not move."""
        self.index += 1
        self.touched[service] = self.index
        self.listed = self.listed if only_checks else self.index
        self._wake(service, CHECKS, *([] if only_checks else [None]))

    def changed(self, service):
        """Is notified when a service changes; for None, whenever anything does. Held, it holds the lock."""
        with self.lock:
            return self.waiting.setdefault(service, threading.Condition(self.lock))

    def _wake(self, *services):
        for service in services:
            if service in self.waiting:
                self.waiting[service].notify_all()

    def read(self, service=None):
        """The answer and its index; of all names without a service; for ``CHECKS`` what tells of them."""
        if service is None:
            return {name: _tags(of) for name, of in self.services.items()}, self.listed
        if service == CHECKS:
            return self.checks, self.index
        return list(self.services.get(service, {}).values()), self.touched.get(service, self.extinct)

    def checks(self, expression):
        """All checks; ``Status != "passing"`` is the one filter that is understood."""
        with self.lock:
            return [
                check | {"ServiceName": each["Service"]["Service"] if check["ServiceID"] else "", "Output": "..."}
                for of in self.services.values()
                for each in of.values()
                for check in each["Checks"]
                if not expression or check["Status"] != "passing"
            ]


class ConsulAgent(ThreadingHTTPServer):
    """One agent.

    Attributes:
        registry: What the leader knows.
        lagging: What the server that answers stale and default reads knows; None for the same.
        tokens: Those that may read everything; None lets everybody.
        blind: Tokens that are valid and may see nothing.
        failing: Status and text that every read gets, or None.
        behaviour: ``""``, ``silent``, ``garbage``, ``drip``, ``cut``.
        asked: Every query: time, path, parameters, token.
    """

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, registry=None, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.registry = registry or Registry()
        self.others = {}
        self.lagging = None
        self.tokens = None
        self.blind = set()
        self.failing = None
        self.behaviour = ""
        self.asked = []
        self.gone = threading.Event()
        self.sockets = set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def finish_request(self, request, client_address):
        self.sockets.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.sockets.discard(request)

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""

    def stop(self):
        """The process ends: every connection breaks."""
        self.gone.set()
        self.shutdown()
        self.server_close()
        self.hang_up()

    def hang_up(self):
        for each in list(self.sockets):
            try:
                each.shutdown(2)
            except OSError:
                pass

    def queries(self, part):
        return [query for _, path, query, _ in list(self.asked) if part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        token = self.headers.get("X-Consul-Token", "")
        agent = self.server
        agent.asked.append((time.monotonic(), url.path, query, token))
        if agent.behaviour == "silent":
            agent.gone.wait()
            return
        if agent.failing:
            self.answer(*agent.failing)
        elif agent.tokens is not None and token not in agent.tokens | agent.blind:
            self.answer(403, "ACL not found" if token else "Permission denied: anonymous token")
        elif "stale" in query and "consistent" in query:
            self.answer(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
        else:
            self.read(url.path, query, token in agent.blind)

    def read(self, path, query, blind):
        agent = self.server
        registry = agent.registry
        if agent.lagging is not None and "consistent" not in query:
            registry = agent.lagging
        if "dc" in query and query["dc"] != registry.datacenter:
            if query["dc"] not in agent.others:
                self.answer(500, "No path to datacenter")
                return
            registry = agent.others[query["dc"]]
        if path == "/v1/catalog/services":
            service = None
        elif path == "/v1/health/state/any":
            service = CHECKS
        elif path.startswith("/v1/health/service/"):
            service = unquote(path.removeprefix("/v1/health/service/"))
        else:
            self.answer(404, "")
            return
        value, index = self.wait(registry, service, query)
        if service == CHECKS:
            value = value(query.get("filter", ""))
        elif service and "tag" in query:
            value = [each for each in value if query["tag"] in each["Service"]["Tags"]]
        if blind:
            value = type(value)()
        headers = {"X-Consul-Index": index, "X-Consul-KnownLeader": "true", "X-Consul-LastContact": 0}
        if blind:
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        self.answer(200, json.dumps(value), headers, "application/json")

    def wait(self, registry, service, query):
        """Block as the leader does: until the index passes the one given, or the time is over."""
        index = int(query.get("index", 0))
        limit = _seconds(query.get("wait", "5m"))
        ends = time.monotonic() + limit + random.random() * limit / 16
        changed = registry.changed(service)
        with changed:
            while index and not self.server.gone.is_set():
                _, now = registry.read(service)
                # a fall of the index wakes those who wait only in part; the answer says it then
                left = ends - time.monotonic()
                if now > index or (now < index and now <= registry.index) or left <= 0:
                    break
                changed.wait(min(left, 2.0))
            return registry.read(service)

    def answer(self, status, text, headers=None, kind="text/plain; charset=utf-8"):
        body = text.encode()
        behaviour = self.server.behaviour
        if behaviour == "garbage":
            body = b"<html>\x00\xff not what was asked for" + body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif behaviour == "drip":
            for number in range(len(body)):
                self.wfile.write(body[number : number + 1])
                self.wfile.flush()
                if self.server.gone.wait(0.2):
                    return
        else:
            self.wfile.write(body)


def _tags(instances):
    return sorted({tag for each in instances.values() for tag in each["Service"]["Tags"] or ()})


def _seconds(text):
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)
