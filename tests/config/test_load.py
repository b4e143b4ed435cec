"""Loading: lines, paths, plain words, and one bad object that hurts nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.resources import load_dict, load_text
from meshlib.config.resources.base import duration
from meshlib.model.problem import Level

GOOD = """apiVersion: networking.istio.io/{version}
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [reviews]
  http:
  - match:
    - uri: {{prefix: /user}}
    timeout: 1.5s
    route:
    - destination: {{host: reviews, subset: v1}}
"""


def good(name="good", version="v1"):
    return GOOD.format(name=name, version=version)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_all_versions_read_the_same(version):
    loaded = load_text(good(version=version))
    assert loaded.problems == []
    (resource,) = loaded.resources
    assert resource.id == "VirtualService shop/good"
    assert resource.spec.http[0].timeout == 1.5
    assert resource.spec.http[0].match[0].uri.prefix == "/user"


def problem_of(text):
    (problem,) = load_text(text, "mesh.yaml").problems
    return problem


@pytest.mark.parametrize(
    ("old", "new", "path", "line", "words"),
    [
        ("timeout: 1.5s", "timeout: 5", "spec.http[0].timeout", 9, "unit"),
        ("timeout: 1.5s", "timeout: '5'", "spec.http[0].timeout", 9, "unit"),
        ("timeout: 1.5s", "timeout: soon", "spec.http[0].timeout", 9, "not a duration"),
        ("hosts: [reviews]", "hosts: reviews", "spec.hosts", 5, "expected a list"),
        ("prefix: /user", "prefix: [a]", "spec.http[0].match[0].uri.prefix", 8, "expected a text"),
        ("prefix: /user", "prefix: /a, exact: /b", "spec.http[0].match[0].uri", 8, "only one of"),
        ("    - uri: {prefix: /user}", "      uri: {prefix: /user}", "spec.http[0].match", 7, "expected a list"),
        ("    timeout: 1.5s", "    uri: {prefix: /x}", "spec.http[0].uri", 9, "HTTPMatchRequest"),
        ("  http:", "  match: []\n  http:", "spec.match", 6, "indentation"),
    ],
)
def test_errors_name_file_line_object_and_field(old, new, path, line, words):
    text = good().replace(old, new)
    loaded = load_text(text + "---\n" + good("other"), "mesh.yaml")
    assert [resource.metadata.name for resource in loaded.resources] == ["other"]
    (problem,) = loaded.problems
    assert (problem.level, problem.file, problem.line, problem.path) == (Level.ERROR, "mesh.yaml", line, path)
    assert problem.resource == "VirtualService shop/good"
    assert words in problem.message


def test_an_unknown_field_is_reported_and_the_object_used_unless_strict():
    text = good().replace("timeout: 1.5s", "timeuot: 1.5s")
    loaded = load_text(text, "mesh.yaml")
    (problem,) = loaded.problems
    assert (problem.level, problem.line, problem.path) == (Level.WARNING, 9, "spec.http[0].timeuot")
    assert "did you mean 'timeout'" in problem.message
    assert len(loaded.resources) == 1
    strict = load_text(text, strict=True)
    assert strict.resources == []
    assert strict.problems[0].level is Level.ERROR


def test_a_broken_document_does_not_hide_its_neighbours():
    text = good("first") + "---\n{ broken\n---\n" + good("last") + "---\nspec: {}\n---\n- a list\n"
    loaded = load_text(text, "mesh.yaml")
    assert [resource.metadata.name for resource in loaded.resources] == ["first", "last"]
    assert [problem.line for problem in loaded.problems] == [14, 27, 29]
    assert "apiVersion is missing" in loaded.problems[1].message


def test_a_key_that_stands_twice_is_an_error():
    problem = problem_of(good().replace("timeout: 1.5s", "timeout: 1s\n    timeout: 2s"))
    assert "'timeout' stands twice" in problem.message
    assert problem.line == 10


def test_lists_and_json_and_other_kinds():
    text = '{"apiVersion": "v1", "kind": "List", "items": ['
    text += '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}'
    text += ', {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "None"}}]}'
    loaded = load_text(text)
    assert [(r.kind, r.metadata.name) for r in loaded.resources] == [("Secret", "s"), ("Service", "a")]
    assert loaded.resources[1].spec.cluster_ip == "None"
    assert loaded.problems == []


def test_objects_in_code_need_no_yaml():
    loaded = load_dict({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "spec": {"host": 3}})
    assert loaded.problems[0].path == "spec.host"
    assert loaded.problems[0].line is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5s", 1.5), ("200ms", 0.2), ("1h30m", 5400), ("0s", 0), ("5us", 5e-6), (".5s", 0.5)]
)
def test_durations(text, seconds):
    assert duration(text) == pytest.approx(seconds)


@given(st.text())
def test_no_text_is_too_strange(text):
    load_text(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(["VirtualService", "DestinationRule", "ServiceEntry", "Sidecar"]), _JSON)
def test_no_object_is_too_strange(kind, spec):
    load_dict({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
