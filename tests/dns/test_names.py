"""When names are asked about, and what they stand for meanwhile, on a clock by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dns.answers import Answer, Question
from meshlib.dns.names import CONFIRM, DOUBTS, KEEP, LEAST, Names

NAME = Question("svc.test")


def known(*values, ttl=10.0, refresh=60.0):
    names = Names(random.Random(1))
    names.want(NAME, refresh, 0.0)
    assert names.due(0.0) == [NAME]
    names.answered(NAME, Answer(values, ttl), 0.0)
    return names


def test_a_name_is_asked_about_once_at_a_time():
    names = Names()
    assert names.want(NAME, 60.0, 0.0)
    assert not names.want(NAME, 60.0, 0.0)
    assert names.due(0.0) == [NAME]
    assert names.due(100.0) == []
    assert names.pending
    assert names.next_at() is None


@pytest.mark.parametrize("ttl", [1, 7, 30, 3600])
def test_an_answer_holds_for_its_ttl_and_is_asked_about_soon_after(ttl):
    due = [known("10.0.0.1", ttl=ttl).next_at() for _ in range(20)]
    names = Names(random.Random(5))
    for number in range(200):
        question = Question(f"n{number}")
        names.want(question, 60.0, 0.0)
        names.due(0.0)
        names.answered(question, Answer(("10.0.0.1",), float(ttl)), 0.0)
    due = [row["due_in"] for row in names.rows(0.0)]
    assert all(ttl <= each <= ttl + min(ttl / 10, 5.0) for each in due)
    assert len(set(due)) > 50, "200 names that came at once are not asked about at once again"


def test_a_ttl_of_nothing_is_no_busy_loop():
    assert known("10.0.0.1", ttl=0.0).next_at() >= LEAST


def test_an_answer_of_unknown_ttl_holds_for_the_refresh_rate():
    assert 60.0 <= known("10.0.0.1", ttl=None).next_at() <= 65.0


def test_a_look_up_that_failed_keeps_what_was_known_and_is_repeated_at_the_refresh_rate():
    names = known("10.0.0.1", refresh=20.0)
    names.due(12.0)
    names.failed(NAME, "timed out", 12.0)
    assert names.table[NAME] == ("10.0.0.1",)
    assert 18.0 <= names.next_at() - 12.0 <= 22.0
    assert names.rows(12.0)[0]["error"] == "timed out"
    names.due(40.0)
    assert not names.answered(NAME, Answer(("10.0.0.1",), 5.0), 40.0)
    assert names.rows(40.0)[0]["error"] == ""


def test_the_same_addresses_in_another_order_are_no_change():
    names = known("10.0.0.1", "10.0.0.2")
    before = names.table
    for number in range(100):
        names.due(1000.0 * number + 20)
        assert not names.answered(NAME, Answer(("10.0.0.2", "10.0.0.1"), 10.0), 1000.0 * number + 20)
    assert names.table is before


def test_an_empty_answer_must_come_twice():
    names = known("10.0.0.1")
    names.due(12.0)
    assert not names.answered(NAME, Answer(()), 12.0)
    assert names.table[NAME] == ("10.0.0.1",)
    assert names.next_at() == 12.0 + CONFIRM
    assert names.rows(12.0)[0]["held_empty"]
    names.due(12.0 + CONFIRM)
    assert names.answered(NAME, Answer(()), 12.0 + CONFIRM)
    assert names.table[NAME] == ()


def test_an_empty_answer_that_was_a_slip_leaves_no_trace():
    names = known("10.0.0.1")
    names.due(12.0)
    names.answered(NAME, Answer(()), 12.0)
    names.due(12.0 + CONFIRM)
    assert not names.answered(NAME, Answer(("10.0.0.1",), 10.0), 12.0 + CONFIRM)
    assert not names.rows(20.0)[0]["held_empty"]


def test_a_name_that_never_stood_for_anything_is_believed_at_once():
    assert known().table[NAME] == ()


def test_addresses_of_a_family_that_nobody_could_tell_of_stay():
    names = known("10.0.0.1", "::1")
    names.due(12.0)
    assert names.answered(NAME, Answer(("10.0.0.2",), 10.0, frozenset({6})), 12.0)
    assert names.table[NAME] == ("10.0.0.2", "::1")


def test_a_doubt_brings_the_look_up_forward_but_not_in_a_loop():
    names = known("10.0.0.1", ttl=3600.0)
    assert not names.doubt("10.0.0.9", 100.0)
    assert names.doubt("10.0.0.1", 100.0)
    assert names.due(100.0) == [NAME]
    names.answered(NAME, Answer(("10.0.0.1",), 3600.0), 100.0)
    assert not names.doubt("10.0.0.1", 100.0 + DOUBTS - 0.1)
    assert names.doubt("10.0.0.1", 100.0 + DOUBTS)


def test_what_nobody_wants_any_more_is_forgotten_after_a_while():
    names = known("10.0.0.1", ttl=KEEP * 3)
    names.want(other := Question("other.test"), 60.0, 0.0)
    names.unwant(10.0)
    names.want(other, 60.0, 11.0)
    names.due(9.0 + KEEP)
    assert NAME in names.table
    names.due(10.0 + KEEP)
    assert NAME not in names.table
    assert [row["name"] for row in names.rows(400.0)] == ["other.test"]


def test_a_name_that_flaps_all_day_is_asked_about_once_a_second_and_ends_where_dns_does():
    names, looked, changes = known("10.0.0.1", ttl=0.0), 0, 0
    for tick in range(1, 10_001):
        now = tick / 10
        for question in names.due(now):
            looked += 1
            changes += names.answered(question, Answer((f"10.0.0.{looked % 2 + 1}",), 0.0), now)
    assert 900 <= looked <= 1_000
    assert changes >= looked - 1
    assert names.table[NAME] == (f"10.0.0.{looked % 2 + 1}",)


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["answer", "other", "empty", "fail"])), max_size=40))
def test_whatever_happens_a_good_name_keeps_an_address_until_emptiness_is_confirmed(steps):
    names, now, emptied = known("10.0.0.1"), 0.0, None
    for wait, what in steps:
        now += wait
        if not names.due(now):
            continue
        if what == "fail":
            names.failed(NAME, "x", now)
            continue
        values = {"answer": ("10.0.0.1",), "other": ("10.0.0.2",), "empty": ()}[what]
        emptied = (now if emptied is None else emptied) if not values else None
        names.answered(NAME, Answer(values, 3.0), now)
        assert bool(names.table[NAME]) or (emptied is not None and now - emptied >= CONFIRM)
        assert names.next_at() > now
