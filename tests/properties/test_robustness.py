"""Nothing that a user writes breaks anything: objects, worlds, texts and requests of every kind of wrong.

The only exception is ConfigError, and only where the documentation says so. ``nox -s fuzz`` does the same for minutes,
guided by coverage.
"""

from __future__ import annotations

import json
import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.analyze import analyze
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_dict, load_text
from meshlib.config.validation import validate
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client
from meshlib.providers import Facts
from tests.strategies import OBJECT_KINDS, bounded, json_values, objects, requests, worlds


def loaded(objects_):
    resources, problems = [], []
    for number, each in enumerate(objects_):
        found = load_dict(each, f"{number}.yaml")
        resources += found.resources
        problems += found.problems
    return resources, problems


def published(objects_, client=None):
    """A feed of these objects, and what it prepared."""
    feed = Feed(1, Options(client or Client()))
    feed.take(0, Facts(*map(tuple, loaded(objects_))))
    return feed, Prepared(feed.publish(), State(), 0.0, random.Random(1))


def tell(problems):
    """As a log and the JSON of ``analyze`` tell them."""
    for problem in problems:
        str(problem).encode()
        json.dumps(problem.to_dict())


@pytest.mark.parametrize("kind", OBJECT_KINDS)
@bounded(40)
@given(data=st.data())
def test_no_object_breaks_loading_validation_or_analysis(kind, data):
    given_ = data.draw(st.one_of(objects(kind), objects(kind, damaged=True)))
    resources, problems = loaded([given_])
    for resource in resources:
        problems += validate(resource)
    tell(problems)
    found = analyze(resources, loading=problems)
    tell(found)
    assert "IST0001" not in {problem.code for problem in found}, "an analyzer met what it could not read"


@bounded(150)
@given(worlds(damaged=True), st.lists(requests(), min_size=1, max_size=3))
def test_no_world_breaks_compiling_and_no_request_breaks_routing(world, asked):
    feed, prepared = published(world)
    tell(feed.problems)
    tell(analyze(loaded(world)[0]))
    for host, port in list(feed.snapshot.source.listing()):
        prepared.host(host, port)
    for method, url, headers in asked:
        try:
            request = request_of(method, url, headers)
        except ValueError:
            continue
        json.dumps(explain(prepared, request).to_dict())


@bounded(100)
@given(json_values())
def test_no_value_breaks_loading(value):
    load_dict(value)
    load_text(json.dumps(value, allow_nan=True))
    try:
        text = yaml.safe_dump(value, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return
    load_text(text)


@bounded(300)
@given(
    st.lists(
        st.sampled_from(
            [*"{}[]:-,&*!|>'\"#%@`? \n\t\x00\ufeff\x85", "a", "<<", "---", "...", "  ", "&a", "*a", "!!int", "kind"]
        ),
        max_size=20,
    )
)
def test_no_text_breaks_loading(parts):
    tell(load_text("".join(parts)).problems)
