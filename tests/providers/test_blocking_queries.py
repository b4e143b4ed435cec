"""The rules of Consul's blocking queries, and when an empty answer is believed; no sockets, a clock by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshlib.providers.consul.query import BlockingQuery
from meshlib.providers.held import Emptiness, Held


def test_an_index_that_falls_is_reset_so_that_the_next_query_does_not_wait():
    query = BlockingQuery()
    seen = []
    for heard in ("100", "40", "40", "0", "0"):
        fell = query.answered(heard)
        seen.append((fell, query.index))
    assert seen == [(False, 100), (True, 0), (False, 40), (True, 0), (False, 1)]


def test_a_fall_is_noticed_across_a_broken_connection_too():
    query = BlockingQuery()
    query.answered("100")
    query.restart()
    assert query.index == 0
    assert query.answered("7")
    assert query.index == 7


HEADERS = st.one_of(st.none(), st.integers(-3, 200).map(str), st.sampled_from(["", "x", "1e3", "٣"]))


@given(st.lists(HEADERS, max_size=30))
def test_after_any_answers_the_query_either_waits_on_a_positive_index_or_has_just_been_reset(headers):
    query = BlockingQuery()
    for header in headers:
        before = query.index
        fell = query.answered(header)
        assert query.index == 0 if fell and before else query.index >= max(1, before)


@given(st.lists(st.floats(0, 5), max_size=60))
def test_however_fast_answers_come_the_rate_of_queries_is_bounded(gaps):
    query, now, sent = BlockingQuery(burst=5, interval=1.0), 0.0, []
    for gap in [*gaps, *[0.0] * 20]:
        now += gap
        now += query.pause(now)
        sent.append(now)
    for first, moment in enumerate(sent):
        within = [each for each in sent[first:] if each <= moment + 10.0]
        assert len(within) <= 5 + 10 + 1


def test_a_few_quick_changes_are_not_delayed():
    query = BlockingQuery(burst=5, interval=1.0)
    assert [query.pause(10.0) for _ in range(6)] == [0.0] * 5 + [1.0]


def test_the_first_answer_may_be_empty():
    assert Held(60).answer(True, 0.0) is Emptiness.USE


def test_emptiness_is_believed_once_it_is_confirmed():
    held = Held(60)
    assert held.answer(False, 0.0) is Emptiness.USE
    assert held.answer(True, 1.0) is Emptiness.CONFIRM
    assert held.answer(True, 1.0, confirmed=True) is Emptiness.USE
    assert held.left(1.0) is None


def test_after_a_loss_of_history_even_a_confirmed_emptiness_waits_for_the_lease():
    held = Held(60)
    held.answer(False, 0.0)
    held.lost_history()
    assert held.answer(True, 10.0) is Emptiness.CONFIRM
    assert held.answer(True, 10.0, confirmed=True) is Emptiness.HOLD
    assert held.left(30.0) == 40.0
    assert held.answer(True, 69.9, confirmed=True) is Emptiness.HOLD
    assert held.answer(True, 70.0, confirmed=True) is Emptiness.USE


def test_what_comes_back_ends_the_doubt():
    held = Held(60)
    held.answer(False, 0.0)
    held.lost_history()
    held.answer(True, 10.0, confirmed=True)
    assert held.answer(False, 20.0) is Emptiness.USE
    assert held.answer(True, 30.0, confirmed=True) is Emptiness.USE
