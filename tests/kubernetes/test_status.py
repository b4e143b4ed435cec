"""What is said in the status of objects, where that was asked for."""

from __future__ import annotations

import time

import pytest

from meshlib.providers.kubernetes import Tuning
from meshlib.providers.kubernetes.conditions import CONTROLLER, TYPE, is_stale, revised
from tests.kubernetes.api import Server
from tests.kubernetes.cluster import Refused
from tests.kubernetes.objects import route
from tests.kubernetes.worlds import QUICK, until, world

NOW = "2026-11-24T00:00:00Z"
SOON = Tuning(**{**{name: getattr(QUICK, name) for name in QUICK.__slots__}, "report": 0.02})


def bad(name="bad"):
    made = route(name, 200)
    made["spec"]["http"] = [{"timeout": 5}]
    return made


def invalid(name="negative"):
    """Read well, and refused by what Istio's webhook checks."""
    made = route(name, 200)
    made["spec"]["http"] = [{"timeout": "-5s", "route": [{"destination": {"host": "a"}}]}]
    return made


@pytest.fixture
def api():
    with Server() as server:
        yield server


def conditions(api, name):
    return (api.cluster.objects["virtualservices"]["default", name].get("status") or {}).get("conditions") or []


def ours(api, name):
    return [each for each in conditions(api, name) if each["type"] == TYPE]


def test_an_object_that_is_refused_is_told_so_and_taken_back_once_it_is_in_order(api, tmp_path):
    api.put(bad(), invalid(), route("good", 201))
    others = {"conditions": [{"type": "Reconciled", "status": "True"}], "observedGeneration": "1"}
    api.do(lambda: api.cluster.objects["virtualservices"]["default", "bad"].update(status=others))
    with world(api, tmp_path, SOON, report_status=True) as known:
        until(lambda: ours(api, "bad") and ours(api, "negative"))
        (told,) = ours(api, "bad")
        assert (told["status"], told["observedGeneration"]) == ("False", 1)
        assert "spec.http[0].timeout" in told["message"]
        assert conditions(api, "bad")[0] == others["conditions"][0], "what others said stays"
        assert conditions(api, "good") == []
        api.put(route("bad", 202))
        until(lambda: not ours(api, "bad"))
        assert known.status("bad") == 202
        assert [each["type"] for each in conditions(api, "bad")] == ["Reconciled"]


def test_nothing_is_written_unless_asked_for(api, tmp_path):
    api.put(bad())
    with world(api, tmp_path, SOON) as known:
        until(lambda: known.mesh.problems)
        time.sleep(0.2)
    assert not [each for each in api.requests if not each.startswith("GET")]


def test_of_many_clients_the_first_speaks_for_all(api, tmp_path):
    api.put(bad())
    with world(api, tmp_path, SOON, report_status=True):
        until(lambda: ours(api, "bad"))
        with world(api, tmp_path, SOON, report_status=True):
            until(lambda: len([e for e in api.requests if e.endswith("/virtualservices/bad")]) >= 2)
            time.sleep(0.2)
    assert len([each for each in api.requests if each.startswith("PATCH")]) == 1


def test_a_status_that_somebody_else_wrote_meanwhile_is_read_again(api, tmp_path):
    api.put(bad())
    api.answer(Refused(409, "Conflict", "the object has been modified"), "/status", times=2)
    with world(api, tmp_path, SOON, report_status=True):
        until(lambda: ours(api, "bad"))


def test_a_status_that_may_not_be_written_is_told_and_hurts_nothing(api, tmp_path):
    api.put(bad(), route("good", 201))
    api.forbidden = {"virtualservices/status"}
    with world(api, tmp_path, SOON, report_status=True) as known:
        until(lambda: any("status of virtualservices" in each and "403" in each for each in known.problems()))
        assert known.status("good") == 201
        api.forbidden = set()
        until(lambda: ours(api, "bad"))
        until(lambda: not [each for each in known.problems() if "403" in each])


# The rule -----------------------------------------------------------------------------------------------------------


def httproute(generation, parents=(), refs=({"name": "reviews", "kind": "Service", "group": ""},)):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "a", "generation": generation},
        "spec": {"parentRefs": list(refs)},
        "status": {"parents": list(parents)},
    }


def test_a_route_of_the_gateway_api_gets_an_entry_for_each_parent():
    other = {"parentRef": {"name": "gw"}, "controllerName": "istio.io/gateway-controller", "conditions": []}
    status = revised(httproute(3, [other]), "no such filter", NOW)
    (first, mine) = status["parents"]
    assert first == other
    assert mine["parentRef"] == {"name": "reviews", "kind": "Service", "group": ""}
    assert mine["controllerName"] == CONTROLLER
    (condition,) = mine["conditions"]
    assert (condition["type"], condition["status"], condition["observedGeneration"]) == ("Accepted", "False", 3)
    assert revised(httproute(3, status["parents"]), "other words", NOW) is None, "once a generation"
    assert revised(httproute(3, status["parents"]), "", NOW) is None, "another client may refuse what we do not"
    assert is_stale(httproute(4, status["parents"]))
    assert revised(httproute(4, status["parents"]), "", NOW) == {"parents": [other]}
    assert revised(httproute(1), "", NOW) is None


def test_a_route_without_parents_has_no_place_for_it():
    assert revised(httproute(1, refs=()), "wrong", NOW) is None
