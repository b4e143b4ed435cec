"""Rows of the conformance table for wires that break: both stacks, all four shapes, a server that breaks them.

They hold as well what grpcio says of each, which is all that tells a broken wire from a peer's own words.
"""

from __future__ import annotations

import grpc
import pytest

from meshlib.grpc import outcomes
from tests.grpc.colours import KINDS, STACKS
from tests.grpc.peers import Peer
from tests.grpc.table import Table, client_policy, to, virtual_service

OK = grpc.StatusCode.OK
WAYS = {
    "refused": ("refused-stream", "UR"),
    "turned_away": ("refused-stream,reset", "UR UC"),  # the latter where a write was under way
    "reset": ("reset", "UR"),
    "reset_late": ("reset", "UR"),
    "gone_away": ("reset", "UC"),
    "closed": ("reset", "UC"),
    "cut": ("reset", "UC"),
    "garbage": ("reset", "UPE UC"),  # by whether grpcio read it, or failed to write
    "http_503": ("5xx", "-"),
    "trailers_only": ("unavailable", "-"),
}
"""Way -> the retry word that covers it, and its flag, or one of them."""


@pytest.fixture(scope="module")
def breaking():
    peer = Peer("v1", "tests.grpc.breaking")
    assert peer.port
    yield peer
    peer.stop()


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture(params=KINDS)
def table(request, stack, breaking):
    """Over mesh channels."""
    return Table(stack, request.param, "mesh", {"v1": breaking})


def ask(table, way, **options):
    multi = table.stack.run(lambda: getattr(table.made, table.kind)(f"/break.S/{way}"))
    return table.stack.ask(multi, table.kind, (b"a",), **options)


def retrying(word):
    return virtual_service(f"{{retries: {{attempts: 3, retryOn: '{word}', backoff: 20ms}}, {to('all')}}}")


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_wire_is_tried_again_by_the_word_that_covers_it_and_by_no_other(table, way):
    word, flags = WAYS[way]
    if table.stack.aio and table.shape.startswith("Stream"):  # grpcio may find that it cannot write before it reads why
        word, flags = f"{word},reset", f"{flags} UC"
    with table.over(retrying(word), of="v1"):
        done = ask(table, way)
        assert done.code is OK, done.details
        assert [int(response) > 1 for response in done.responses] == [True]  # more where grpcio finds out late
        assert table.under_way() == 0
    with table.over(retrying("connect-failure"), of="v1"):
        done = ask(table, way)
        assert (done.code is OK, done.error.mesh.attempts) == (False, 1), done.details
        assert done.error.mesh.flags in flags.split(), done.details
        assert ("endpoint 127.0.0.1" in done.details) is (done.error.mesh.flags != "-")
        assert any(ask(table, "not").code is OK for _ in range(20))  # once grpcio sees that the connection has ended
        assert table.under_way() == 0


def test_a_good_bye_in_the_middle_of_an_answer_fails_nothing(table):
    with table.over(retrying("reset"), of="v1"):
        for _ in range(3):
            done = ask(table, "leaving")
            assert (done.code, done.responses, done.call.mesh.attempts) == (OK, [b"1"], 1)


def test_an_endpoint_that_breaks_wires_is_let_alone(table):
    breaker = client_policy("circuitBreaker: {consecutiveErrors: 2, openFor: 60s, scope: Endpoint}")
    never = virtual_service(f"{{retries: {{attempts: 0}}, {to('all')}}}")
    with table.over(breaker, never, of="v1"):
        assert [ask(table, "cut").error.mesh.flags for _ in range(2)] == ["UC", "UC"]
        assert "[U" in ask(table, "not").details


def test_words_of_a_version_of_grpcio_to_come_are_an_answer_whose_status_counts():
    found = outcomes.outcome_of(14, "the wire has snapped")
    assert (found.failure, found.grpc_status) == (None, 14)
