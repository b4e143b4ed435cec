"""An xDS control plane of its own process: serves a set of resources over ADS, and misbehaves when it is told to.

Nothing of meshlib is in here: messages are those of ``xds-protos``, the transport is grpcio's. A real Envoy and
grpcio's own ``xds:///`` client are served by the same code. Commands come as JSON lines on standard input, each is
answered by one line on standard output; ``tests.xds.planes`` is the other end.

Run it as ``python -m tests.xds.control_plane [port [chain key [roots of clients]]]``.
"""

from __future__ import annotations

import base64
import json
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from envoy.service.secret.v3 import sds_pb2_grpc
from google.protobuf import any_pb2, json_format

PREFIX = "type.googleapis.com/envoy.config."
CDS, EDS = f"{PREFIX}cluster.v3.Cluster", f"{PREFIX}endpoint.v3.ClusterLoadAssignment"
LDS, RDS = f"{PREFIX}listener.v3.Listener", f"{PREFIX}route.v3.RouteConfiguration"
SDS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
ORDER = (CDS, EDS, SDS, LDS, RDS)
WHOLE = (CDS, LDS)
OPTIONS = (
    ("grpc.so_reuseport", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_send_message_length", -1),
)


class State:
    """What is served, and who listens."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.resources: dict[str, dict[str, tuple[str, Any]]] = {url: {} for url in ORDER}
        self.versions: dict[str, str] = dict.fromkeys(ORDER, "0")
        self.order: tuple[str, ...] = ORDER
        self.streams: list[Stream] = []
        self.log: list[dict[str, Any]] = []
        self.loads: list[dict[str, Any]] = []
        self.withhold: set[str] = set()
        self.nonces = 0

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces}"


class Stream:
    """One client: what it subscribed to and what it was sent; ``outbox`` holds answers, None ends the stream."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.outbox: queue.Queue[Any] = queue.Queue()
        self.names: dict[str, set[str]] = {}
        self.every: set[str] = set()
        self.nonces: dict[str, str] = {}
        self.sent: dict[str, Any] = {}

    def wanted(self, url: str) -> dict[str, tuple[str, Any]]:
        known = self.state.resources[url]
        if url in self.every:
            return known
        return {name: known[name] for name in self.names.get(url, ()) if name in known}

    def push(self, url: str, *, always: bool = False) -> bool:
        """Send what is wanted of a type, if it is not what was sent; whether it was sent."""
        raise NotImplementedError

    def update(self) -> None:
        """The set changed: in the order that Envoy asks for, endpoints after every change of their clusters."""
        pushed = False
        for url in self.state.order:
            if url in self.names:
                fresh = self.push(url, always=url == EDS and pushed)
                pushed = fresh if url == CDS else pushed

    def note(self, request: Any, kind: str) -> None:
        plain = json_format.MessageToDict(request, preserving_proto_field_name=True)
        with self.state.lock:
            self.state.log.append({"stream": id(self), "protocol": kind, **plain})


class SotwStream(Stream):
    def hear(self, request: Any) -> None:
        self.note(request, "sotw")
        url, first = request.type_url, request.type_url not in self.names
        if url not in self.state.resources or (
            request.response_nonce and request.response_nonce != self.nonces.get(url)
        ):
            return
        names = set(request.resource_names) - {"*"}
        if url in WHOLE and ((first and not request.resource_names) or "*" in request.resource_names):
            self.every.add(url)
        news = names - self.names.get(url, set())
        gone = self.names.get(url, set()) - names
        self.names[url] = names
        if first or news:
            self.push(url, always=True)
        elif gone and url in self.sent:
            self.sent[url] = {name: each for name, each in self.sent[url].items() if name in names}

    def push(self, url: str, *, always: bool = False) -> bool:
        found = self.wanted(url)
        versions = {name: version for name, (version, _) in found.items()}
        if url in self.state.withhold or (not always and versions == self.sent.get(url)):
            return False
        if not found and url not in WHOLE:
            return False
        self.sent[url] = versions
        self.send(url, [packed for _, packed in found.values()])
        return True

    def send(self, url: str, resources: list[Any]) -> None:
        self.nonces[url] = self.state.nonce()
        self.outbox.put(
            discovery_pb2.DiscoveryResponse(
                type_url=url, version_info=self.state.versions[url], nonce=self.nonces[url], resources=resources
            )
        )


class DeltaStream(Stream):
    def hear(self, request: Any) -> None:
        self.note(request, "delta")
        url, first = request.type_url, request.type_url not in self.names
        if url not in self.state.resources:
            return
        names = self.names.setdefault(url, set())
        asked = set(request.resource_names_subscribe)
        if url in WHOLE and ((first and not asked) or "*" in asked):
            self.every.add(url)
        asked.discard("*")
        names |= asked
        names -= set(request.resource_names_unsubscribe)
        if first:
            self.sent[url] = dict(request.initial_resource_versions)
        for name in asked:
            self.sent[url].pop(name, None) if not first else None
        for name in request.resource_names_unsubscribe:
            self.sent[url].pop(name, None)
        if first or asked:
            self.push(url, absent={name for name in asked if name not in self.state.resources[url]}, always=first)

    def push(self, url: str, *, always: bool = False, absent: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
        if url in self.state.withhold:
            return False
        found, sent = self.wanted(url), self.sent.setdefault(url, {})
        fresh = {n: each for n, each in found.items() if (always and url == EDS) or sent.get(n) != each[0]}
        gone = ({name for name in sent if name not in self.state.resources[url]}) | absent
        if not (fresh or gone or always):
            return False
        made = discovery_pb2.DeltaDiscoveryResponse(
            type_url=url,
            nonce=self.state.nonce(),
            system_version_info=self.state.versions[url],
            removed_resources=sorted(gone),
        )
        for name, (version, packed) in fresh.items():
            made.resources.add(name=name, version=version, resource=packed)
            sent[name] = version
        for name in gone:
            sent.pop(name, None)
        self.outbox.put(made)
        return bool(fresh)


class Service(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def StreamAggregatedResources(self, requests: Any, context: Any) -> Any:
        return self._serve(SotwStream(self.state), requests, context)

    def DeltaAggregatedResources(self, requests: Any, context: Any) -> Any:
        return self._serve(DeltaStream(self.state), requests, context)

    def _serve(self, stream: Any, requests: Any, context: Any) -> Any:
        context.add_callback(lambda: stream.outbox.put(None))
        with self.state.lock:
            self.state.streams.append(stream)
            metadata = {str(k): str(v) for k, v in context.invocation_metadata()}
            self.state.log.append({"stream": id(stream), "metadata": metadata})
        threading.Thread(target=self._read, args=(stream, requests), daemon=True).start()
        try:
            while (answer := stream.outbox.get()) is not None:
                yield answer
        finally:
            with self.state.lock:
                self.state.streams.remove(stream)

    def _read(self, stream: Any, requests: Any) -> None:
        try:
            for request in requests:
                with self.state.lock:
                    stream.hear(request)
        except grpc.RpcError:
            pass
        stream.outbox.put(None)


class Secrets(sds_pb2_grpc.SecretDiscoveryServiceServicer):
    """The same about secrets alone, as agents serve them."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def StreamSecrets(self, requests: Any, context: Any) -> Any:
        return self.service.StreamAggregatedResources(requests, context)


class Loads(lrs_pb2_grpc.LoadReportingServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def StreamLoadStats(self, requests: Any, context: Any) -> Any:
        for number, request in enumerate(requests):
            with self.state.lock:
                self.state.loads.append(json_format.MessageToDict(request, preserving_proto_field_name=True))
            if not number:
                answer = lrs_pb2.LoadStatsResponse(send_all_clusters=True)
                answer.load_reporting_interval.FromMilliseconds(200)
                yield answer


class Commands:
    """What the other end may ask for."""

    def __init__(self, state: State) -> None:
        self.state = state

    def set(self, resources: dict[str, dict[str, str]], version: str, order: list[str] | None = None) -> None:
        """Serve these of some types from now on, in place of what was; each type's messages by name, in base64."""
        for url, named in resources.items():
            made: dict[str, tuple[str, Any]] = {}
            for name, text in named.items():
                packed = any_pb2.Any(type_url=url, value=base64.b64decode(text))
                before = self.state.resources[url].get(name)
                same = before is not None and before[1] == packed
                made[name] = before if same and before is not None else (version, packed)
            self.state.resources[url] = made
            self.state.versions[url] = version
        self.state.order = tuple(order or ORDER)
        for stream in self.state.streams:
            stream.update()

    def patch(self, url: str, name: str, value: str, version: str) -> None:
        """Serve one resource anew and tell of it alone, as istiod tells of endpoints."""
        packed = any_pb2.Any(type_url=url, value=base64.b64decode(value))
        self.state.resources[url][name] = (version, packed)
        self.state.versions[url] = version
        for stream in self.state.streams:
            if isinstance(stream, SotwStream) and name in stream.wanted(url):
                stream.send(url, [packed])
            elif url in stream.names:
                stream.push(url)

    def flap(self, url: str, name: str, values: list[str], times: int) -> None:
        """Tell of these versions of one resource in turn."""
        for number in range(times):
            self.patch(url, name, values[number % len(values)], f"flap-{number}")

    def repeat(self, times: int) -> None:
        """Send everything again, several times over."""
        for stream in self.state.streams:
            for url in [url for url in self.state.order if url in stream.names] * times:
                stream.push(url, always=True)

    def send(self, url: str, values: list[str], types: list[str]) -> None:
        """Send these bytes as resources, whatever they are, without serving them."""
        packed = [any_pb2.Any(type_url=t, value=base64.b64decode(v)) for t, v in zip(types, values, strict=True)]
        for stream in self.state.streams:
            if isinstance(stream, SotwStream):
                stream.send(url, packed)
            else:
                made = discovery_pb2.DeltaDiscoveryResponse(type_url=url, nonce=self.state.nonce())
                for number, each in enumerate(packed):
                    made.resources.add(name=f"raw-{number}", version="raw", resource=each)
                stream.outbox.put(made)

    def end(self) -> None:
        """End every stream with status OK."""
        for stream in self.state.streams:
            stream.outbox.put(None)

    def withhold(self, urls: list[str]) -> None:
        """Say nothing about these types."""
        self.state.withhold = set(urls)

    def log(self) -> list[dict[str, Any]]:
        """All requests so far."""
        found, self.state.log = self.state.log, []
        return found

    def loads(self) -> list[dict[str, Any]]:
        """All load reports so far."""
        return list(self.state.loads)

    def count(self) -> int:
        """Streams that are open."""
        return len(self.state.streams)


def main() -> None:
    """Serve until standard input ends."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    credentials = None
    if len(sys.argv) > 2:
        chain, key, *roots = (Path(path).read_bytes() for path in sys.argv[2:])
        credentials = grpc.ssl_server_credentials([(key, chain)], *roots, require_client_auth=bool(roots))
    state = State()
    server = grpc.server(ThreadPoolExecutor(64), options=OPTIONS)
    service = Service(state)
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(service, server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(Secrets(service), server)
    lrs_pb2_grpc.add_LoadReportingServiceServicer_to_server(Loads(state), server)
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    print(json.dumps({"port": bound}), flush=True)
    commands = Commands(state)
    for line in sys.stdin:
        command = json.loads(line)
        with state.lock:
            answer = getattr(commands, command.pop("do"))(**command)
        print(json.dumps({"answer": answer}), flush=True)
    server.stop(0).wait(5)


if __name__ == "__main__":
    main()
