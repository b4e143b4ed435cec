"""An API server that misbehaves: no request fails that had a good endpoint, and the mesh ends up with what is there."""

from __future__ import annotations

import json
import threading
import time

import pytest

from meshlib import MeshClient
from tests.kubernetes.api import Server
from tests.kubernetes.cluster import Cluster, Refused
from tests.kubernetes.objects import endpoints, route, service
from tests.kubernetes.worlds import QUICK, until, world

GONE = Refused(410, "Expired", "too old resource version")


@pytest.fixture
def api():
    with Server() as server:
        server.put(service("reviews"), endpoints("reviews", "10.0.0.1"))
        yield server


class Traffic:
    """Requests, one after another, while something goes wrong."""

    def __init__(self, mesh):
        self._client, self._over = MeshClient(mesh), threading.Event()
        self.answers, self.failures = 0, []
        self._thread = threading.Thread(target=self._call)

    def _call(self):
        while not self._over.wait(0.002):
            try:
                assert self._client.get("http://reviews/").status_code == 200
                self.answers += 1
            except Exception as error:
                self.failures.append(error)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(10)
        self._client.close()
        assert self.answers
        assert self.failures == []


def polite_end(api):
    api.end_watches()


def cut(api):
    api.cut()


def gone_as_event(api):
    api.end_watches()
    api.put(route("other", 200))
    api.do(api.cluster.compact)


def gone_as_status(api):
    api.gone_as_status = True
    gone_as_event(api)


def garbage(api):
    api.send(b"\x00\xff{{{ not json\n")


def half_a_line(api):
    api.send(b'{"type":"MODIFIED","object":{"metadata":')
    api.cut()


def foreign_events(api):
    api.send(b'[1]\n{"type":"ADDED","object":7}\n')


def nested(api):
    api.send(b"[" * 100_000 + b"\n")


def server_errors(api):
    api.answer(Refused(500, "InternalError", "etcd is away"), times=30)
    api.cut()


def too_many_requests(api):
    api.answer(Refused(429, "TooManyRequests", "later", retryAfterSeconds=1), "endpointslices", times=1)
    api.cut()


FAULTS = [
    polite_end,
    cut,
    gone_as_event,
    gone_as_status,
    garbage,
    half_a_line,
    foreign_events,
    nested,
    server_errors,
    too_many_requests,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_costs_no_request_and_what_changed_meanwhile_is_learnt(api, tmp_path, echo, fault):
    first, second = echo("first"), echo("second")
    api.put(endpoints("reviews", "127.0.0.1", port=first.port))
    with world(api, tmp_path) as known, Traffic(known.mesh):
        fault(api)
        assert known.endpoints("reviews") == [f"127.0.0.1:{first.port}"]
        api.put(endpoints("reviews", "127.0.0.1", port=second.port))
        known.settles("reviews", f"127.0.0.1:{second.port}")
        until(lambda: not known.problems())
        until(lambda: second.seen)


@pytest.mark.parametrize("how", ["mute", "drip"])
def test_silence_without_a_reset_is_noticed_and_followed_by_what_was_missed(api, tmp_path, echo, how):
    first, second = echo("first"), echo("second")
    api.put(endpoints("reviews", "127.0.0.1", port=first.port))
    with world(api, tmp_path) as known, Traffic(known.mesh):
        until(lambda: len(api.watches) >= 10)
        muted = list(api.watches)
        api.do(api.cluster.listeners.clear)
        api.put(endpoints("reviews", "127.0.0.1", port=second.port))
        stop = time.monotonic() + 1.5
        while how == "drip" and time.monotonic() < stop and known.endpoints("reviews") != [f"127.0.0.1:{second.port}"]:
            api.do(lambda: [each.queue.put_nowait(b"{") for each in muted])
            time.sleep(0.05)
        known.settles("reviews", f"127.0.0.1:{second.port}")
        until(lambda: second.seen)


def test_credentials_that_expire_cost_no_request_and_what_changed_meanwhile_is_learnt(tmp_path, echo):
    first, second = echo("first"), echo("second")
    (tmp_path / "token").write_text("one")
    with Server(tokens={"one"}) as api:
        api.put(service("reviews"), endpoints("reviews", "127.0.0.1", port=first.port))
        with world(api, tmp_path, user={"tokenFile": "token"}) as known, Traffic(known.mesh):
            api.tokens = {"two"}
            api.cut()
            until(lambda: any("401" in each for each in known.problems()))
            api.put(endpoints("reviews", "127.0.0.1", port=second.port))
            assert known.endpoints("reviews") == [f"127.0.0.1:{first.port}"]
            (tmp_path / "token").write_text("two")
            known.settles("reviews", f"127.0.0.1:{second.port}")
            until(lambda: second.seen)


def test_a_server_that_hangs_is_waited_for_and_its_age_is_told(api, tmp_path):
    with world(api, tmp_path) as known:
        api.mute = True
        until(lambda: known.provider.silent_for > 1.0)
        assert known.endpoints("reviews") == ["10.0.0.1:8080"]
        assert any("nothing was heard" in each for each in known.problems()) or known.provider.silent_for > 1.0
        api.mute = False
        api.put(endpoints("reviews", "10.0.0.9"))
        known.settles("reviews", "10.0.0.9:8080", seconds=40)


def test_towards_a_server_without_bookmarks_silence_is_not_taken_for_death_forever(api, tmp_path):
    tuning = QUICK.__class__(idle=0.1, watch=30.0, backoff=0.02, rediscover=30.0)
    with world(api, tmp_path, tuning) as known:
        time.sleep(1.6)
        watches = [each for each in api.requests if "watch=true" in each and "endpointslices" in each]
        assert 3 <= len(watches) <= 6, "0.1 s, 0.2 s, 0.4 s, 0.8 s"
        api.put(endpoints("reviews", "10.0.0.9"))
        known.settles("reviews", "10.0.0.9:8080")


def test_bookmarks_are_signs_of_life(api, tmp_path):
    api.bookmarks = 0.1
    with world(api, tmp_path):
        time.sleep(1.5)
        assert len([each for each in api.requests if "watch=true" in each and "endpointslices" in each]) == 1


def test_a_server_that_was_restored_from_an_older_backup_is_followed(tmp_path, echo):
    peer = echo("peer")
    with Server(Cluster(version=100_000)) as api:
        api.put(service("reviews"), endpoints("reviews", "127.0.0.1", "127.0.0.2", port=peer.port), route("a", 201))
        with world(api, tmp_path) as known, Traffic(known.mesh):
            api.stop()
            api.cluster = Cluster(version=10)
            api.put(service("reviews"), endpoints("reviews", "127.0.0.1", port=peer.port), route("a", 202))
            time.sleep(0.3)
            assert known.status("a") == 201, "the last good while it is away"
            api.start()
            known.settles("reviews", f"127.0.0.1:{peer.port}")
            until(lambda: known.status("a") == 202)
            api.put(route("a", 203))
            until(lambda: known.status("a") == 203)


def test_an_empty_answer_after_a_restart_takes_no_endpoint_away(tmp_path, echo):
    peer = echo("peer")
    full, tuning = Cluster(), QUICK.__class__(backoff=0.02, longest=0.1, confirm=12.0, rediscover=0.2)
    with Server(full) as api:
        api.put(service("reviews"), endpoints("reviews", "127.0.0.1", port=peer.port))
        with world(api, tmp_path, tuning) as known, Traffic(known.mesh):
            api.stop()
            api.cluster = Cluster(version=1)
            api.start()
            until(lambda: any("an empty list came" in each for each in known.problems()))
            assert known.endpoints("reviews") == [f"127.0.0.1:{peer.port}"]
            api.stop()
            api.cluster = full
            api.start()
            until(lambda: not known.problems())
            assert known.endpoints("reviews") == [f"127.0.0.1:{peer.port}"]


def test_what_is_empty_twice_is_empty(tmp_path):
    with Server() as api:
        api.put(service("reviews"), endpoints("reviews", "10.0.0.1"))
        with world(api, tmp_path) as known:
            api.stop()
            api.cluster = Cluster(version=1)
            api.start()
            until(lambda: known.endpoints("reviews") == [])


def test_410_leads_to_one_list_of_each_collection(api, tmp_path):
    with world(api, tmp_path) as known:
        until(lambda: any(each.type.plural == "endpointslices" for each in api.watches))
        before = len([each for each in api.requests if "endpointslices?" in each and "watch" not in each])
        gone_as_event(api)
        api.put(endpoints("reviews", "10.0.0.9"))
        known.settles("reviews", "10.0.0.9:8080")
        lists = [each for each in api.requests if "endpointslices?" in each and "watch" not in each]
        assert len(lists) - before == 1


def test_a_list_whose_continuation_expires_comes_in_one_piece(api, tmp_path):
    for number in range(12):
        api.put(route(f"r{number}", 200))
    api.answer(GONE, "continue=", times=1)
    tuning = QUICK.__class__(limit=5, backoff=0.02, rediscover=30.0)
    with world(api, tmp_path, tuning) as known:
        assert known.status("r11") == 200
    whole = "GET /apis/networking.istio.io/v1/virtualservices"
    assert [each for each in api.requests if each in (whole, whole + "?")]


def test_events_that_come_twice_or_late_do_not_undo_newer_ones(api, tmp_path):
    with world(api, tmp_path) as known:
        lines = []
        for address in ("10.0.0.5", "10.0.0.6", "10.0.0.7"):
            api.put(endpoints("reviews", address))
            thing = api.cluster.objects["endpointslices"]["default", "reviews-a"]
            lines.append(json.dumps({"type": "MODIFIED", "object": thing}).encode() + b"\n")
        known.settles("reviews", "10.0.0.7:8080")
        api.send(b"".join([lines[2], lines[0], lines[1], lines[0]]), "endpointslices")
        api.put(route("sign", 201))
        until(lambda: known.status("sign") == 201)
        assert known.endpoints("reviews") == ["10.0.0.7:8080"]


def test_ten_thousand_flaps_cost_a_bounded_time_and_no_request(tmp_path, echo):
    peer = echo("peer")
    with Server() as api:
        steady = {"addresses": ["127.0.0.1"], "conditions": {"ready": True}}

        def flap(number):
            other = {"addresses": [f"10.0.{number % 250}.1"], "conditions": {"ready": False, "terminating": True}}
            api.cluster.put(endpoints("reviews", *([steady, other] if number % 2 else [steady]), port=peer.port))

        api.put(service("reviews"), endpoints("reviews", steady, port=peer.port))
        with world(api, tmp_path) as known, Traffic(known.mesh):
            version, started = known.mesh.status().version, time.thread_time()
            for start in range(0, 10_000, 100):
                api.do(lambda start=start: [flap(number) for number in range(start, start + 100)])
            api.put(route("sign", 201))
            until(lambda: known.status("sign") == 201, seconds=40)
            assert time.thread_time() - started < 20
            assert known.endpoints("reviews") == [f"127.0.0.1:{peer.port}"]
            assert known.mesh.status().version - version < 5_000, "many changes, fewer publications"
