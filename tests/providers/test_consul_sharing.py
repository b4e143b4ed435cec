"""What tells of changes where services share connections to Consul: which are read, and when."""

from __future__ import annotations

import asyncio

from meshlib.providers.consul.agent import Reading
from meshlib.providers.consul.changes import Unhealthy
from meshlib.providers.consul.sharing import Sharing
from meshlib.providers.consul.turns import Own, Shared


def check(service, status="critical", node="n1", **more):
    return {"Node": node, "CheckID": "c", "ServiceID": service, "ServiceName": service, "Status": status} | more


def test_a_check_that_begins_changes_or_ceases_to_fail_names_its_service_and_one_of_a_node_the_node():
    unhealthy = Unhealthy()
    assert unhealthy.differ([check("a"), check("", node="n2")]) == ({"a"}, {"n2"})
    assert unhealthy.differ([check("", node="n2"), check("a", Output="another")]) == (set(), set())
    assert unhealthy.differ([check("a", "warning"), check("", node="n2"), check("b")]) == ({"a", "b"}, set())
    assert unhealthy.differ([check("b"), "garbage", None]) == ({"a"}, {"n2"})


def test_services_have_connections_of_their_own_while_there_are_any_and_a_few_are_kept():
    sharing = Sharing(20, 60.0)
    turns = [sharing.turn_of(("", f"s{number}")) for number in range(13)]
    assert [isinstance(turn, Own) for turn in turns] == [True] * 12 + [False]
    sharing.forget(("", "s0"))
    assert isinstance(sharing.turn_of(("", "new")), Own)
    assert isinstance(Sharing(1, 60.0).turn_of(("", "s")), Shared)


def test_only_what_is_named_is_read_at_once():
    async def scenario():
        sharing = Sharing(1, 60.0)
        turns = {(dc, name): sharing.turn_of((dc, name)) for dc in ("", "dc2") for name in ("a", "b", "c")}
        for (dc, name), turn in turns.items():
            turn.wait()
            sharing.placed((dc, name), [{"Node": {"Node": f"n-{name}"}}, {"Node": None}, 7])
        sharing.checked("", [check("a"), check("", node="n-b")])
        return [key for key, turn in turns.items() if turn.wait() > 0]

    assert asyncio.run(scenario()) == [("", "a"), ("", "b")]


def test_a_moved_index_of_the_list_has_all_read_and_the_same_one_none():
    async def scenario():
        sharing = Sharing(1, 60.0)
        turns = [sharing.turn_of(("", str(number))) for number in range(30)]
        sweeping = asyncio.create_task(sharing.run())
        resting = [asyncio.create_task(turn.rest(20.0)) for turn in turns]
        for index in ("5", "5"):
            sharing.listed("", Reading({}, b"{}", index, False))
        idle, _ = await asyncio.wait(resting, timeout=0.05)
        sharing.listed("", Reading({}, b"{}", "6", False))
        await asyncio.wait_for(asyncio.gather(*resting), 10)
        sweeping.cancel()
        return idle

    assert asyncio.run(scenario()) == set()
