"""Loading: lines, paths, plain words, and one bad object that hurts nobody else."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from meshlib.config.resources import load_dict, load_text
from meshlib.config.resources.base import duration
from meshlib.config.resources.kinds import KINDS
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.yaml_lines import pieces
from meshlib.config.validation import validate
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


@pytest.mark.parametrize("strict", [False, True])
def test_a_key_that_stands_twice_is_a_warning_and_in_strict_mode_refuses_the_document(strict):
    loaded = load_text(good().replace("timeout: 1.5s", "timeout: 1s\n    timeout: 2s"), "mesh.yaml", strict=strict)
    (problem,) = loaded.problems
    assert problem.message == "key 'timeout' stands twice"
    assert (problem.line, problem.level) == (10, Level.ERROR if strict else Level.WARNING)
    assert [resource.spec.http[0].timeout for resource in loaded.resources] == ([] if strict else [2.0])


def test_a_key_that_stands_twice_in_json_is_told_of_too():
    loaded = load_text('{"apiVersion": "v1", "kind": "Service",\n "kind": "Pod", "metadata": {"name": "a"}}')
    assert [(problem.line, problem.resource) for problem in loaded.problems] == [(2, "Pod a")]


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


@pytest.mark.parametrize("text", [f"{'9' * 400}s", "9999999999h", "--1s", "+-1s", "-", "+", "1s1"])
def test_durations_beyond_protobufs_and_with_two_signs_are_refused(text):
    loaded = load_text(good().replace("1.5s", f"'{text}'"), "mesh.yaml")
    assert [problem.path for problem in loaded.problems] == ["spec.http[0].timeout"]
    assert loaded.resources == []


@given(st.text())
def test_no_text_is_too_strange(text):
    load_text(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), _JSON)
def test_no_object_is_too_strange(kind, spec):
    group, name = kind
    version = min(KINDS[kind].versions)
    loaded = load_dict(
        {"apiVersion": f"{group}/{version}".lstrip("/"), "kind": name, "metadata": {"name": "x"}, "spec": spec}
    )
    for resource in loaded.resources:
        validate(resource)


def fields(message):
    """Values for a message of Istio's API: known fields with values that are nearly right, and some that are not."""
    known = {info.alias or name: _value(info.annotation) for name, info in message.model_fields.items()}
    return st.fixed_dictionaries({}, optional=known)


def _value(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.deferred(lambda: fields(annotation))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return st.sampled_from([*annotation, "NEITHER"])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return st.lists(_value(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.sampled_from(["a", "", "8080", "a*"]), _value(arguments[1]), max_size=2)
    if origin is Annotated:
        return _value(arguments[0])
    if arguments:
        return st.one_of(*[_value(each) for each in arguments])
    plain = {bool: st.booleans(), int: st.integers(-1, 70000), float: st.sampled_from(["1s", 0, 0.5, -1, "soon"])}
    return plain.get(annotation, st.sampled_from(["", "a", "*", "a.b", "*.a", "10.0.0.1", "ns/a", "{*}", "%", "[a]"]))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([key for key, kind in KINDS.items() if kind.istio]).flatmap(
        lambda key: st.tuples(st.just(key), fields(KINDS[key].spec))
    )
)
def test_no_spec_is_too_strange_to_be_validated(given_spec):
    (group, name), spec = given_spec
    version = min(KINDS[group, name].versions)
    loaded = load_dict({"apiVersion": f"{group}/{version}", "kind": name, "metadata": {"name": "x"}, "spec": spec})
    for resource in loaded.resources:
        for problem in validate(resource):
            assert problem.path


def test_settings_of_the_mesh_are_told_of_at_their_lines_in_the_config_map():
    text = """apiVersion: v1
kind: ConfigMap
metadata: {name: istio}
data:
  mesh: |
    # the mesh
    connectTimeout: 2h
    serviceSettings:
    - settings: {clusterLocal: true}
      host: a
    extensionProviders: [{name: zipkin, zipkin: {service: z, port: 0}}]
"""
    (resource,) = load_text(text, "istio.yaml").resources
    assert {(each.path, each.line, each.level) for each in validate(resource)} == {
        ("data.mesh.connectTimeout", 7, Level.ERROR),
        ("data.mesh.serviceSettings[0].host", 10, Level.WARNING),
        ("data.mesh.extensionProviders[0].zipkin.port", 11, Level.WARNING),
    }


def test_a_mesh_keeps_the_built_in_providers_beside_its_own():
    mesh = MeshConfig.model_validate({"extensionProviders": [{"name": "envoy", "prometheus": {}}]})
    assert [provider.name for provider in mesh.extension_providers] == ["envoy", "prometheus", "stackdriver"]
    assert list(mesh.extension_providers[0].given) == ["prometheus"]


MARK = re.compile(r"^---(?=[ \t\n\r]|$)", re.MULTILINE)


@given(
    st.lists(st.sampled_from(["---", "--", "-", "\n", "\r", " ", "\t", "a: 1", "----", "#"]), max_size=12).map("".join)
)
def test_documents_are_split_at_lines_that_start_with_three_dashes(text):
    wanted, first = [], 1
    for part in MARK.split(text):
        if part.strip():
            wanted.append((part, first))
        first += part.count("\n")
    assert list(pieces(text)) == wanted
