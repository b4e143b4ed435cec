"""A course of attempts without a wire and by a manual clock: what follows what, and that each counts once."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from meshlib.dataplane.call import Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.grpc.channel import BlockingWays
from meshlib.grpc.course import Course
from meshlib.grpc.failures import peer_error
from meshlib.grpc.outcomes import OK, outcome_of
from meshlib.grpc.unary import Sent
from meshlib.testing import ManualClock, mesh_of
from tests.grpc.peers import world
from tests.grpc.table import to, virtual_service

UNAVAILABLE = 14
RETRYING = virtual_service(f"{{retries: {{attempts: 2, retryOn: 'unavailable,reset', backoff: 1s}}, {to('all')}}}")
TIMED = virtual_service(f"{{retries: {{attempts: 1, retryOn: reset, perTryTimeout: 2s, backoff: 1s}}, {to('all')}}}")


class Real:
    """grpcio's call of an attempt."""

    def __init__(self):
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Scripted(Course):
    """Nothing happens by itself: attempts end, and time goes by, when the test says so."""

    def __init__(self, mesh, kind="unary_stream", wait_for_ready=False):
        self.reals, self.timers, self.ends = [], [], {}
        ways = BlockingWays("reviews:9080", mesh, None, None, aio=False)
        sent = Sent(kind, False, None, None, wait_for_ready)
        super().__init__(ways, sent, lambda: ways.begin("/test.S/Any", None, None), b"x")

    def dial(self, attempt):
        self.call.head(attempt)
        self.reals.append(Real())
        return self.reals[-1], SimpleNamespace(leave=lambda: None)

    def watch(self, real):
        pass

    def later(self, seconds, work):
        self.timers.append((self.clock.now() + seconds, work))

    def changed(self):
        pass

    def trailing(self, real):
        return ()

    def end_of(self, real, attempt, now):
        return self.ends[real]

    # What the test says -----------------------------------------------------------------------------------------------

    def end(self, status=0, real=None):
        """An attempt ends; the last, where none is named."""
        real = real or self.reals[-1]
        if status:
            error = peer_error(SimpleNamespace(value=(status, "")), "words", ((), ()))
            self.ends[real] = outcome_of(status, "words", error=error)
        else:
            self.ends[real] = OK
        self.over(real)

    def wait(self, seconds):
        """So much time goes by."""
        self.clock.advance(seconds)
        due, now = self.timers, self.clock.now()
        self.timers = [timer for timer in due if timer[0] > now]
        for _, work in [timer for timer in due if timer[0] <= now]:
            work()


@pytest.fixture
def over():
    """Begins a course over a mesh of two endpoints."""
    meshes = []

    def begin(rules, **given):
        text = world(*(SimpleNamespace(name=f"v{number}", port=number) for number in (1, 2)))
        mesh = mesh_of(f"{text}---\n{rules}", clock=ManualClock(), telemetry=False)
        meshes.append(mesh)
        mesh.ready()
        course = Scripted(mesh, **given)
        course.start()
        return course

    yield begin
    for mesh in meshes:
        mesh.close()


def held(course):
    return sum(cluster.active + cluster.retries for cluster in course.ways.mesh.state.clusters())


def test_an_attempt_that_fails_is_followed_by_another_after_the_back_off(over):
    course = over(RETRYING)
    course.end(UNAVAILABLE)
    assert (len(course.reals), course.ended) == (1, False)
    course.wait(2)  # the back-off is drawn from below twice a second
    assert len(course.reals) == 2
    course.end()
    assert (course.ended, course.error, course.call.attempts, held(course)) == (True, None, 2, 0)


def test_the_last_failure_is_the_rpcs(over):
    course = over(RETRYING)
    for _ in range(3):
        course.end(UNAVAILABLE)
        course.wait(10)
    assert (course.ended, course.status, course.call.attempts, held(course)) == (True, UNAVAILABLE, 3, 0)


def test_what_was_given_to_the_caller_is_not_tried_again(over):
    course = over(RETRYING)
    assert course.commit(course.reals[0])
    course.end(UNAVAILABLE)
    course.wait(10)
    assert (course.ended, len(course.reals), held(course)) == (True, 1, 0)


def test_an_attempt_counts_once_whoever_sees_its_end(over):
    course, ends = over(RETRYING), []
    course.on_end(lambda: ends.append(course.status))
    course.end(UNAVAILABLE)
    course.end(UNAVAILABLE)
    course.wait(2)
    course.end(0, course.reals[0])
    assert (course.ended, len(course.reals)) == (False, 2)
    course.end()
    course.end()
    assert (ends, held(course)) == ([0], 0)


def test_a_slow_stream_is_cut_off_and_tried_again_unless_it_has_begun(over):
    course = over(TIMED)
    course.wait(1.9)
    assert not course.reals[0].cancelled
    course.wait(0.2)
    assert course.reals[0].cancelled
    course.ends[course.reals[0]] = Outcome.of_status(200, grpc_status=1)
    course.over(course.reals[0])
    course.wait(2)
    assert len(course.reals) == 2
    course.commit(course.reals[1])
    course.wait(5)
    assert not course.reals[1].cancelled
    course.end()
    assert (course.error, held(course)) == (None, 0)


def test_a_stream_that_stands_still_is_cut_off_even_after_its_beginning(over, monkeypatch):
    bound = Call.bound_attempt

    def with_limit(call, attempt, now):
        bound(call, attempt, now)
        attempt.idle_limit = 5.0

    monkeypatch.setattr(Call, "bound_attempt", with_limit)  # the limit comes from control planes of xDS alone
    course = over(RETRYING)
    course.wait(4)
    course.commit(course.reals[0])
    course.moved = course.clock.now()
    course.wait(4)
    assert not course.reals[0].cancelled
    course.wait(2)
    assert course.reals[0].cancelled
    course.end(1)
    assert (course.error.code(), held(course)) == (grpc.StatusCode.DEADLINE_EXCEEDED, 0)
    assert course.call.outcome.failure is Failure.PER_TRY_TIMEOUT


@pytest.mark.parametrize("moment", ["under way", "in the back-off"])
def test_a_course_that_is_cancelled_begins_nothing_more(over, moment):
    course = over(RETRYING)
    if moment == "in the back-off":
        course.end(UNAVAILABLE)
    assert course.cancel()
    if moment == "under way":
        assert course.reals[0].cancelled
        course.end(1)
    course.wait(10)
    assert (course.given_up, course.error.code(), len(course.reals), held(course)) == (
        True,
        grpc.StatusCode.CANCELLED,
        1,
        0,
    )
    assert not course.cancel()


def test_a_callback_that_fails_does_not_keep_the_course_from_its_end(over, caplog):
    course, told = over(RETRYING), []
    course.on_end(lambda: 1 / 0)
    course.on_end(lambda: told.append(course.ended))
    course.end()
    assert (told, "callback" in caplog.text) == ([True], True)
