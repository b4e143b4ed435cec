"""Peers that misbehave over HTTP/1.1: the right error, nothing done twice, nothing left behind, in every colour."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import httpx
import pytest

from meshlib import errors
from meshlib.testing import mesh_of
from tests.chaos.peers import Peers
from tests.scenarios.colours import Colour

COLOURS = [pytest.param(Colour(run, "httpx"), id=run) for run in ("threads", "asyncio", "trio")]
RETRIES = {
    "none": "{attempts: 0}",
    "default": "",
    "eager": '{attempts: 3, perTryTimeout: 1s, retryOn: "5xx,reset,connect-failure", backoff: 2ms}',
}
"""``default`` is Istio's: it repeats what was not sent or not begun, never what may have been acted upon."""


def rules(retries: str, timeout: str = "10s") -> str:
    """A rule with these retries."""
    line = f"    retries: {RETRIES[retries]}\n" if RETRIES[retries] else ""
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc}}
spec:
  hosts: [svc]
  http:
  - timeout: {timeout}
{line}    route: [{{destination: {{host: svc}}}}]
"""


@dataclass(frozen=True)
class Misdeed:
    """What a peer does, and what a caller without retries gets.

    Attributes:
        mode: The behaviour.
        gets: A status, or the exception.
        acted: Whether the peer acts upon the request.
        in_body: The failure comes after the headers: an attempt that was accepted is never repeated.
    """

    mode: str
    gets: int | type[Exception]
    acted: bool = True
    in_body: bool = False


MISDEEDS = [
    Misdeed("dead", errors.ConnectFailure, acted=False),
    Misdeed("close-on-accept", httpx.RemoteProtocolError, acted=False),
    Misdeed("reset-before-headers", httpx.RemoteProtocolError),
    Misdeed("reset-after-headers", httpx.RemoteProtocolError, in_body=True),
    Misdeed("reset-in-body", httpx.RemoteProtocolError, in_body=True),
    Misdeed("stall-before-headers", errors.DeadlineExceeded),
    Misdeed("stall-after-headers", errors.DeadlineExceeded, in_body=True),
    Misdeed("trickle", errors.DeadlineExceeded, in_body=True),
    Misdeed("status-503", 503, acted=False),
    Misdeed("malformed", httpx.RemoteProtocolError),
    Misdeed("two-lengths", httpx.RemoteProtocolError),
    Misdeed("huge-headers", httpx.RemoteProtocolError),
    Misdeed("half-close", 200),
    Misdeed("half-close-in-body", httpx.RemoteProtocolError, in_body=True),
    Misdeed("overrun", 200),
    Misdeed("early", 413, acted=False),
]
_IDS = itertools.count()


@pytest.fixture(scope="module")
def peers():
    with Peers(2) as started:
        yield started


@contextmanager
def mesh_over(peers, *modes, retries="none", timeout="10s"):
    """A mesh over so many endpoints as modes; afterwards every gauge is zero and no connection is open."""
    for endpoint, mode in enumerate(modes):
        peers.behave(endpoint, mode)
    mesh = mesh_of(peers.yaml(rules(retries, timeout), only=list(range(len(modes)))), telemetry=False)
    try:
        yield mesh
        assert gauges(mesh) == set()
    finally:
        mesh.close()
        left = peers.open_after()
        for endpoint in range(len(modes)):
            peers.behave(endpoint, "ok")
    assert left == 0


def gauges(mesh):
    """The gauges that are not zero."""
    status = mesh.status()
    found = {"replay_bytes": status.replay_bytes, "mirrors": status.mirrors["running"]}
    for cluster in status.clusters:
        found["active"], found["retries"] = cluster["active"], cluster["retries"]
        found.update({each["address"]: each["active"] for each in cluster["endpoints"]})
    return {name for name, value in found.items() if value}


def post(colour, mesh, content=b"a" * 2000, **headers):
    """What a POST came to, a status or the exception, and its id."""
    name = f"request-{next(_IDS)}"
    try:
        answer = colour.send(mesh, "POST", "http://svc/", content=content, headers={"x-id": name, **headers})
    except httpx.HTTPError as error:
        return error, name
    return answer.status_code, name


def patience(expected):
    """Short where nothing else ends the call, else long enough for a busy machine."""
    return "600ms" if expected is errors.DeadlineExceeded else "10s"


def is_as_expected(got, expected):
    return got == expected if isinstance(expected, int) else isinstance(got, expected)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("retries", RETRIES)
@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.mode)
def test_the_error_is_right_and_nothing_is_done_twice_unless_asked_for(peers, colour, retries, misdeed):
    with mesh_over(peers, misdeed.mode, retries=retries, timeout=patience(misdeed.gets)) as mesh:
        got, name = post(colour, mesh)
        assert is_as_expected(got, misdeed.gets), got
    done = peers.processed()[name]
    repeats = retries == "eager" and not misdeed.in_body
    assert done <= (4 if repeats else 1)
    assert (done > 0) == misdeed.acted


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("misdeed", [each for each in MISDEEDS if not each.in_body], ids=lambda misdeed: misdeed.mode)
def test_with_retries_asked_for_the_other_endpoint_answers(peers, colour, misdeed):
    with mesh_over(peers, misdeed.mode, "ok", retries="eager") as mesh:
        for _ in range(4):
            got, _ = post(colour, mesh)
            assert got in (200, misdeed.gets if misdeed.mode == "early" else 200), got


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("mode", ["reused-close-at-head", "reused-close-in-body", "reused-close-after-body"])
@pytest.mark.parametrize("retries", RETRIES)
def test_a_connection_closed_as_the_next_request_is_written_never_does_it_twice(peers, colour, mode, retries):
    with mesh_over(peers, mode, retries=retries) as mesh:
        outcomes = _some(colour, mesh, 6)
    processed = peers.processed()
    for got, name in outcomes:
        assert got == 200 or isinstance(got, httpx.RemoteProtocolError | httpx.WriteError), got
        assert processed[name] <= (4 if retries == "eager" else 1)
        assert processed[name] >= (got == 200)
    if retries == "eager":
        assert [got for got, _ in outcomes] == [200] * 6


def _some(colour, mesh, count):
    """POSTs one after another over one client, so that connections are reused."""
    outcomes = []

    def note(name, status):
        outcomes.append((status, name))

    names = [f"request-{next(_IDS)}" for _ in range(count)]
    if colour.run == "threads":
        with httpx.Client(transport=colour.faces.MeshTransport(mesh)) as client:
            for name in names:
                try:
                    note(name, client.post("http://svc/", content=b"a" * 2000, headers={"x-id": name}).status_code)
                except httpx.HTTPError as error:
                    note(name, error)
        return outcomes

    async def main():
        async with httpx.AsyncClient(transport=colour.faces.AsyncMeshTransport(mesh)) as client:
            for name in names:
                try:
                    answer = await client.post("http://svc/", content=b"a" * 2000, headers={"x-id": name})
                    note(name, answer.status_code)
                except httpx.HTTPError as error:
                    note(name, error)

    colour.main(main)
    return outcomes


@pytest.mark.parametrize("colour", COLOURS)
def test_bytes_behind_an_answer_are_never_taken_for_the_next_one(peers, colour):
    with mesh_over(peers, "overrun") as mesh:
        assert [got for got, _ in _some(colour, mesh, 5)] == [200] * 5


@pytest.mark.parametrize("colour", COLOURS)
def test_a_body_is_sent_after_100_continue_and_kept_when_it_is_not_wanted(peers, colour):
    with mesh_over(peers, "ok") as mesh:
        got, name = post(colour, mesh, expect="100-continue")
        assert (got, peers.processed()[name]) == (200, 1)
    with mesh_over(peers, "expectation-failed") as mesh:
        got, name = post(colour, mesh, expect="100-continue")
        assert (got, peers.processed()[name]) == (417, 0)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_before_a_long_body_is_whole_is_the_answer(peers, colour):
    with mesh_over(peers, "early") as mesh:
        got, name = post(colour, mesh, content=b"b" * (8 << 20))
        assert (got, peers.processed()[name]) == (413, 0)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("mode", ["dead", "close-on-accept", "reset-before-headers", "stall-before-headers", "early"])
def test_a_body_that_can_be_taken_once_is_let_go_whatever_the_peer_does(peers, colour, mode):
    expected = {each.mode: each.gets for each in MISDEEDS}[mode]
    for retries in RETRIES:
        with mesh_over(peers, mode, retries=retries, timeout=patience(expected)) as mesh:
            got, name = post(colour, mesh, content=_pieces(colour))
            assert is_as_expected(got, expected), got
        assert peers.processed()[name] <= (4 if retries == "eager" else 1)


def _pieces(colour):
    async def amake():
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
            yield b"c" * 5000

    return iter([b"c" * 5000] * 20) if colour.run == "threads" else amake()
