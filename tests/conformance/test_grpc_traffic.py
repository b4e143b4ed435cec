"""gRPC's interop expectations as Istio objects, decided by the core on a clock of the test: no channel, no socket."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_dict
from meshlib.dataplane import router
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.errors import DeadlineExceeded, MeshError, NotSent
from meshlib.model.grpc_status import GRPC_STATUS_NAMES
from meshlib.model.snapshot import Client, Snapshot
from tests.conftest import data_cases

PORT = 7070
NEVER = float("inf")
AMPLE = 4000
"""Calls enough to judge a share by, where the case's own number would leave it to luck."""


class Server:
    """What the servers do, by the words of a case."""

    def __init__(self, words: str = "") -> None:
        self.seconds = NEVER if "never answers" in words else 0.0
        if found := re.search(r"sleeps ([\d.]+) s", words):
            self.seconds = float(found[1])
        found = re.search(r"fails with (\w+) until retry attempt (\d+)", words)
        self.until = (found[1], int(found[2])) if found else None
        found = re.search(r"endpoint (\d+) answers (\w+)", words)
        self.bad = (int(found[1]), found[2]) if found else None

    def status(self, attempt: Attempt) -> str:
        """The gRPC status of an answer."""
        if self.until is not None and attempt.number - 1 < self.until[1]:
            return self.until[0]
        if self.bad is not None and attempt.endpoint.address == _address("psm", self.bad[0]):
            return self.bad[1]
        return "OK"


class Peers:
    """A mesh of ``psm`` and ``psm-alt``, and a clock.

    Attributes:
        seen: Endpoints of each attempt that was answered, in order.
        open: Calls that were sent and are not over.
    """

    def __init__(self, config: list[dict[str, Any]], endpoints: int) -> None:
        self.now = 0.0
        self.state = State()
        self.rng = random.Random(5)
        self.seen: list[str] = []
        self.open: list[Call] = []
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.endpoints = {"psm": list(range(endpoints)), "psm-alt": list(range(endpoints))}
        self.configure(config)

    def configure(self, config: list[dict[str, Any]]) -> None:
        """Add or replace objects, or take endpoints over; live counters stay."""
        self.objects.update({(each["kind"], each["metadata"]["name"]): each for each in config})
        world = [each for name, members in self.endpoints.items() for each in _service(name, members)]
        resources = [load_dict(each).resources[0] for each in (*world, *self.objects.values())]
        snapshot = Snapshot(Universe(resources).view(Client("default")))
        self.prepared = Prepared(snapshot, self.state, self.now, self.rng)

    def call(self, rpc: dict[str, Any], server: Server) -> str:
        """The gRPC status that the application sees; ``OPEN`` for a call that goes on."""
        headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        headers += [(name.encode(), value.encode()) for name, value in rpc.get("metadata", {}).items()]
        deadline = rpc.get("deadline_s")
        request = Request("POST", "http", "psm", PORT, rpc["method"], headers, timeout=deadline, is_grpc=True)
        try:
            call = router.begin(self.prepared, request, self.now, self.rng)
            assert call is not None
            return self._drive(call, server)
        except DeadlineExceeded:
            return "DEADLINE_EXCEEDED"
        except NotSent:
            return "UNAVAILABLE"

    def _drive(self, call: Call, server: Server) -> str:
        """As a driver does, with a clock that jumps."""
        try:
            self.now += min(call.delay, call.request.timeout or call.delay)
            if call.answer is not None:
                call.settle_answer(self.now)
                return GRPC_STATUS_NAMES[call.answer.grpc_status or 0]
            while True:
                attempt = call.next_attempt(self.now)
                status = self._send(call, attempt, server)
                if status == "OPEN":
                    self.open.append(call)
                    return status
                outcome = Outcome.of_status(200, grpc_status=GRPC_STATUS_NAMES.index(status))
                wait = call.settle(attempt, outcome, self.now)
                if wait is None:
                    call.close(self.now)
                    return status
                self.now += wait
        except MeshError:
            call.close(self.now)
            raise

    def _send(self, call: Call, attempt: Attempt, server: Server) -> str:
        """The answer of one attempt, which takes its time."""
        self.seen.append(attempt.endpoint.address)
        ends = attempt.deadline if attempt.deadline is not None else NEVER
        if ends < NEVER and self.now + server.seconds >= ends:
            self.now = ends
            raise call.error(DeadlineExceeded, call.ran_out())
        if server.seconds == NEVER:
            return "OPEN"
        self.now += server.seconds
        return server.status(attempt)

    def let_go(self) -> None:
        """The open calls are over."""
        for call in self.open:
            call.close(self.now)
        self.open.clear()


def _address(service: str, number: int) -> str:
    return f"10.{'1' if service == 'psm' else '2'}.0.{number + 1}"


def _service(name: str, members: list[int]) -> list[dict[str, Any]]:
    metadata = {"name": name, "namespace": "default"}
    labels = {"kubernetes.io/service-name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "grpc", "port": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": PORT}],
            "endpoints": [{"addresses": [_address(name, number)]} for number in members],
        },
    ]


@pytest.mark.parametrize("case", data_cases("traffic/grpc.json"))
def test_grpc_traffic(case):
    peers = Peers(case["config"], case.get("endpoints", 1))
    phases = [{rpc["method"]: rpc["expect"] for rpc in case["rpcs"]}]
    for number, phase in enumerate([{}, *case.get("then", ())]):
        peers.configure(phase.get("config", []))
        if number:
            phases.append(phase["expect"])
        before = _last_endpoint(peers, phase.get("server", ""))
        for rpc in case["rpcs"]:
            words = phase.get("server") or rpc.get("server", "")
            _ask(peers, rpc, Server(words), phases[-1].get(rpc["method"], {}), before)


def _last_endpoint(peers: Peers, words: str) -> str | None:
    """The endpoint in use, which goes away where the phase says so."""
    used = peers.seen[-1] if peers.seen else None
    if "removed" in words and used is not None:
        peers.endpoints["psm"].remove(int(used.rpartition(".")[2]) - 1)
        peers.configure([])
    return used


def _ask(peers: Peers, rpc: dict[str, Any], server: Server, expect: dict[str, Any], before: str | None) -> None:
    if "endpoints_hit" in expect:
        _settle(peers, rpc, server)
    peers.seen.clear()
    times = AMPLE if 0 < min(expect.get("status_ratio", {"": 1}).values()) < 1 else rpc["count"]
    counts = Counter(peers.call(rpc, server) for _ in range(times))
    for status, ratio in expect.get("status_ratio", {}).items():
        assert abs(counts[status] / times - ratio) <= expect["tolerance"], counts
    if "in_flight_stable" in expect:
        assert counts == {"OPEN": expect["in_flight_stable"], "UNAVAILABLE": times - expect["in_flight_stable"]}
        peers.let_go()
    if "server_attempts_per_rpc" in expect:
        assert len(peers.seen) == times * expect["server_attempts_per_rpc"]
    hit = set(peers.seen)
    if "all_to" in expect:
        assert {_named(address) for address in hit} == {expect["all_to"]}
    if "none_to" in expect:
        assert expect["none_to"] not in {_named(address) for address in hit}
    if "endpoints_hit" in expect:
        assert len(hit) == expect["endpoints_hit"]
        assert not hit & {_address("psm", number) for number in expect.get("not_hit", ())}
    if expect.get("not_the_same"):
        assert before not in hit


def _settle(peers: Peers, rpc: dict[str, Any], server: Server) -> None:
    """Traffic until whoever has to be ejected is, or whoever was is back: some sweeps later."""
    for _ in range(20):
        for _ in range(50):
            peers.call(rpc, server)
        peers.now += 0.5 if server.bad is not None else 1.0


def _named(address: str) -> str:
    return "psm" if address.startswith("10.1.") else "psm-alt"
