"""Token buckets: how much passes, against a bucket that is filled step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.policies.token_buckets import TokenBuckets


def granted(buckets, *times, key=""):
    return [buckets.take(key, now).granted for now in times]


def test_three_tokens_and_one_a_second_as_envoy_was_measured():
    buckets = TokenBuckets(3, 1, 1.0)
    assert granted(buckets, *[0.0] * 6) == [True] * 3 + [False] * 3
    assert granted(buckets, *[2.2] * 4) == [True] * 2 + [False] * 2
    assert granted(buckets, 2.99, 3.0) == [False, True]


def test_tokens_come_at_intervals_and_several_at_a_time():
    buckets = TokenBuckets(10, 4, 0.5)
    assert granted(buckets, *[0.0] * 11).count(True) == 10
    assert granted(buckets, *[0.49] * 3).count(True) == 0
    assert granted(buckets, *[0.5] * 5).count(True) == 4
    assert granted(buckets, *[100.0] * 20).count(True) == 10


def test_what_is_left_and_when_there_is_more_is_told():
    buckets = TokenBuckets(2, 1, 10.0)
    assert buckets.take("", 5.0) == (True, 1, 10.0)
    assert buckets.take("", 8.0) == (True, 0, 7.0)
    assert buckets.take("", 9.0) == (False, 0, 6.0)


def test_each_key_has_a_bucket():
    buckets = TokenBuckets(1, 1, 1.0)
    assert granted(buckets, 0.0, 0.0, key="a") == [True, False]
    assert granted(buckets, 0.0, 0.0, key="b") == [True, False]


def test_the_key_that_was_not_used_for_the_longest_time_is_forgotten():
    buckets = TokenBuckets(1, 1, 100.0, keys=2)
    assert [buckets.take(key, 0.0).granted for key in "abacab"] == [True, True, False, True, False, True]
    for number in range(1000):
        buckets.take(number, 1.0)
    assert len(buckets) == 2


def test_other_limits_count_from_now_on_for_buckets_that_are_known():
    buckets = TokenBuckets(5, 1, 1.0)
    buckets.take("", 0.0)
    buckets.resize(2, 1, 10.0)
    assert granted(buckets, *[0.0] * 3) == [True, True, False]
    assert granted(buckets, 9.0, 10.0) == [False, True]


@given(
    st.integers(1, 8),
    st.integers(1, 5),
    st.integers(1, 7),
    st.lists(st.integers(0, 30), max_size=60),
)
def test_it_grants_what_a_bucket_grants_that_is_filled_tick_by_tick(size, fill, interval, pauses):
    buckets = TokenBuckets(size, fill, interval / 10)
    tokens, since, now = size, 0, 0
    for pause in pauses:
        for _ in range(pause):
            now, since = now + 1, since + 1
            if since == interval:
                tokens, since = min(size, tokens + fill), 0
        if tokens == size:
            since = 0
        wanted = tokens > 0
        tokens -= wanted
        taken = buckets.take("", now / 10)
        assert (taken.granted, taken.remaining) == (wanted, tokens)


@given(st.integers(1, 5), st.lists(st.floats(0, 3), min_size=1, max_size=80), st.floats(0, 20), st.floats(0.1, 20))
def test_in_no_stretch_of_time_pass_more_than_the_size_and_what_flows_in(size, pauses, start, length):
    buckets, now, passed = TokenBuckets(size, 1, 0.7), 0.0, 0
    for pause in pauses:
        now += pause
        if buckets.take("", now).granted and start <= now <= start + length:
            passed += 1
    assert passed <= size + length / 0.7 + 1


@pytest.mark.parametrize("rate", [3, 7, 30, 100, 999])
def test_tokens_that_come_one_by_one_make_the_rate(rate):
    buckets = TokenBuckets(rate, 1, 1 / rate)
    passed = sum(buckets.take("", step / 5000).granted for step in range(50_000))
    assert abs(passed - rate * 11) <= 1
