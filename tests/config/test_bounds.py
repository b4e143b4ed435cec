"""Texts that mean harm or are no texts at all: refused at once, with the line, and their neighbours stand."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from meshlib.config.analyze import analyze
from meshlib.config.resources import bounds, load_dict, load_file, load_text, yaml_values
from meshlib.config.resources.bounds import MAX_ALIASED, MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS
from meshlib.config.validation import validate
from meshlib.providers import FileProvider
from meshlib.testing import mesh_of

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad}\nspec:\n"
GOOD = "apiVersion: v1\nkind: Service\nmetadata: {name: good}\nspec: {ports: [{port: 80}]}\n"
NINE = ["*" + letter for letter in "abcdefghi"]


def laughs():
    rows = ["  a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [
        f"  {name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return HEAD + "\n".join(rows) + "\n"


def merges():
    rows = ["  m0: &m0 {x: 1, y: 2}"]
    rows += [
        f"  m{n}: &m{n}\n    <<: [{', '.join([f'*m{n - 1}'] * 99)}]\n    k{n}: {{<<: *m{n - 1}}}" for n in range(1, 99)
    ]
    return HEAD + "\n".join(rows) + "\n"


HOSTILE = {
    "aliases of aliases": (laughs(), 10, f"more than {MAX_ALIASED}"),
    "merges of merges": (merges(), None, f"more than {MAX_ALIASED}"),
    "an alias repeated": ("- &a x\n" + "- *a\n" * (MAX_ALIASED + 1), MAX_ALIASED + 2, f"more than {MAX_ALIASED}"),
    "an alias of what it stands in": (HEAD + "  a: &a {b: *a}\n", 5, "stands in what it names"),
    "an alias of nothing": (HEAD + "  a: *b\n", 5, "no anchor before it"),
    "lists in lists": ("[" * 500_000, 1, "nest"),
    "mappings in mappings": ("{a: " * 500_000, 1, f"deeper than {MAX_DEPTH}"),
    "dashes": ("- " * 500_000, 1, f"deeper than {MAX_DEPTH}"),
    "indentation": ("".join(" " * n + "a:\n" for n in range(2_000)), MAX_DEPTH + 1, f"deeper than {MAX_DEPTH}"),
    "JSON lists in lists": ("[" * 500_000 + "]" * 500_000, 1, "nest"),
    "JSON mappings in mappings": ('{"a":' * 50_000 + "1" + "}" * 50_000, 1, f"deeper than {MAX_DEPTH}"),
    "keys of keys": ("? " * 100_000, 1, "key must be a text"),
    "a NUL": (HEAD + "  hosts:\n  - a\x00b\n", 6, "'\\x00'"),
    "a control character": (HEAD + "  hosts: [a\x1b]\n", 5, "'\\x1b'"),
    "a lone surrogate": (HEAD + "  hosts: [\ud800]\n", 5, "\\ud800"),
    "an escaped surrogate": (HEAD + '  hosts: ["\\ud800"]\n', 5, "Unicode"),
    "a tab for indentation": (HEAD + "\thosts: [a]\n", 5, "cannot start any token"),
    "a number without end": (HEAD + f"  hosts: {'9' * 1_000_000}\n", 5, "64 bits"),
    "a tag of Python": (HEAD + "  hosts: !!python/object/apply:os.system [ls]\n", 5, "means nothing here"),
    "a tag that lies": (HEAD + "  hosts: !!int many\n", 5, "is not what its tag"),
    "a list as a key": (HEAD + "  ? [a]\n  : b\n", 5, "key must be a text"),
}


@pytest.mark.parametrize(("text", "line", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_refused_with_its_line_and_at_once(text, line, words):
    started = time.perf_counter()
    loaded = load_text(text, "mesh.yaml")
    assert time.perf_counter() - started < 5
    (problem,) = loaded.problems
    assert loaded.resources == []
    assert words in problem.message
    assert problem.file == "mesh.yaml"
    assert line is None or problem.line == line


@pytest.mark.parametrize("name", [name for name in HOSTILE if not HOSTILE[name][0].startswith(("[", "{"))])
def test_a_hostile_document_does_not_hide_its_neighbours(name):
    loaded = load_text(f"{GOOD}---\n{HOSTILE[name][0]}\n---\n{GOOD.replace('good', 'last')}", "mesh.yaml")
    assert [resource.metadata.name for resource in loaded.resources] == ["good", "last"]
    assert len(loaded.problems) == 1
    line = HOSTILE[name][1]
    assert line is None or loaded.problems[0].line == line + GOOD.count("\n") + 1


def test_a_text_longer_than_the_bound_is_not_even_read(tmp_path):
    text = "#" * (MAX_BYTES + 1)
    assert "longer than" in load_text(text).problems[0].message
    path = tmp_path / "big.yaml"
    path.write_text(text)
    assert "larger than" in load_file(path).problems[0].message


@pytest.fixture
def few_nodes(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_NODES", 50_000)
    monkeypatch.setattr(yaml_values, "MAX_NODES", 50_000)


@pytest.mark.parametrize("text", [json.dumps([0] * 50_001), "- 0\n" * 50_001])
def test_a_document_with_too_many_values_is_refused(few_nodes, text):
    assert "more than 50000" in load_text(text).problems[0].message


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"# fine\nkind: \xff\n", 2, "not UTF-8"),
        ("a: b".encode("utf-16"), 1, "not UTF-8"),
        (GOOD.encode() + b"---\n\xc3\x28", 6, "not UTF-8"),
    ],
)
def test_a_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path, content, line, words):
    path = tmp_path / "mesh.yaml"
    path.write_bytes(content)
    loaded = load_file(path)
    (problem,) = loaded.problems
    assert (problem.line, problem.file) == (line, str(path))
    assert words in problem.message
    assert loaded.resources == []


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, "%YAML 1.2\n---\n" + GOOD, GOOD + "...\n", "---\n---\n" + GOOD])
def test_marks_around_a_document_mean_nothing(tmp_path, text):
    path = tmp_path / "mesh.yaml"
    path.write_text(text, encoding="utf-8")
    for loaded in (load_text(text), load_file(path)):
        assert [resource.id for resource in loaded.resources] == ["Service good"]
        assert loaded.problems == []


def cyclic():
    value = {"apiVersion": "v1", "kind": "Service"}
    value["spec"] = value
    return value


def doubling(depth):
    value = []
    for _ in range(depth):
        value = [value, value]
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": value}


@pytest.mark.parametrize("value", [cyclic(), doubling(60), {"a": "\udfff"}, {"\ud800": 1}, {"kind": 2**64}])
def test_objects_in_code_have_the_same_bounds(few_nodes, value):
    loaded = load_dict(value)
    assert loaded.resources == []
    assert len(loaded.problems) == 1


def test_an_object_with_very_many_mistakes_tells_of_the_first_ones():
    text = HEAD + f"  hosts: [a]\n  http: [{','.join(['1'] * 5_000)}]\n"
    loaded = load_text(text)
    assert len(loaded.problems) == MAX_PROBLEMS + 1
    assert "4900 more" in loaded.problems[-1].message


def test_of_very_many_unknown_fields_the_misplaced_one_is_told_first():
    fields = "".join(f"  k{number}: 1\n" for number in range(2_000))
    loaded = load_text(f"{HEAD}  hosts: [a]\n{fields}  match: []\n")
    assert loaded.resources == []
    assert loaded.problems[0].path == "spec.match"
    assert loaded.problems[0].line == 2_006
    assert len(loaded.problems) == MAX_PROBLEMS + 1


def test_a_finding_about_a_value_of_megabytes_is_short():
    loaded = load_text(json.dumps({"apiVersion": "v1", "kind": "Service", "spec": {"ports": "x" * 5_000_000}}))
    assert len(str(loaded.problems[0])) < 5_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("yes", True),
        ("'yes'", "yes"),
        ("0x1F", 31),
        ("010", 8),
        ("08", "08"),
        ("-1_000", -1000),
        ("18446744073709551615", 2**64 - 1),
        ("1.5", 1.5),
        (".", "."),
        ("-", None),
        ("1.2.3", "1.2.3"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("! 5", "5"),
        ("=", "="),
        ("~", None),
        ("{<<: {a: 1, b: 2}, a: 3}", {"a": 3, "b": 2}),
        ("{<<: [{a: 1}, {a: 2, c: 3}]}", {"a": 1, "c": 3}),
        ("{1: a, yes: b, null: c}", {"1": "a", "yes": "b", "null": "c"}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
    ],
)
def test_plain_words_mean_what_they_mean_to_kubernetes(text, value):
    if text == "-":
        text, value = "- ", [None]
    loaded = load_text(f"apiVersion: example.com/v1\nkind: Thing\nvalue:\n  {text}\n")
    assert loaded.problems == []
    assert loaded.resources[0].spec == {"value": value}
    assert isinstance(loaded.resources[0].spec["value"], type(value))


def test_lines_are_found_in_json_and_in_lists():
    text = json.dumps(
        {
            "kind": "List",
            "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}},
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [{"port": []}]}},
            ],
        },
        indent="\t",
    )
    loaded = load_text(text, "list.json")
    (problem,) = loaded.problems
    assert problem.path == "spec.ports[0].port"
    assert '"port": []' in text.splitlines()[problem.line - 1]


# What holds text inside text, and what is told ----------------------------------------------------------------------

SETTINGS = ["a: &a [*a]", laughs(), "[" * 10_000, "a: 2001-99-99", "? [a]\n: b", "\x00", "- 1"]


@pytest.mark.parametrize("key", ["mesh", "meshNetworks"])
@pytest.mark.parametrize("text", SETTINGS)
def test_hostile_settings_inside_a_config_map_break_no_analysis(key, text):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {key: text}}
    analyze([*load_dict(settings).resources, *load_text(GOOD).resources])


@pytest.mark.parametrize("jwks", ["[" * 100_000, '{"keys":' * 50_000, '{"keys": 1}', "{", '{"keys": [1]}'])
def test_hostile_keys_of_tokens_are_refused(jwks):
    rule = {"issuer": "a", "jwks": jwks}
    kind = {"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "a"}}
    (resource,) = load_dict({**kind, "spec": {"jwtRules": [rule]}}).resources
    assert any("jwks" in problem.path for problem in validate(resource))


def test_a_text_of_very_many_bad_documents_is_told_by_the_first(tmp_path):
    text = "--- a\n" * 3_000 + "---\n" + GOOD
    path = tmp_path / "many.yaml"
    path.write_text(text)
    for loaded in (load_text(text), FileProvider(path).look()):
        assert len(loaded.problems) == MAX_PROBLEMS + 1
        assert "2900 more" in loaded.problems[-1].message
        assert [resource.id for resource in loaded.resources] == ["Service good"]


def test_analysis_tells_the_first_hundred_of_a_code_about_an_object():
    rules = ",".join("{route: [{destination: {host: nowhere}}]}" for _ in range(500))
    found = analyze(load_text(f"{HEAD}  hosts: [a]\n  http: [{rules}]\n").resources)
    counts = Counter(problem.code for problem in found)
    assert counts["IST0101"] == MAX_PROBLEMS
    assert max(counts.values()) == MAX_PROBLEMS


def test_what_is_told_stays_on_its_line_and_moves_no_cursor():
    text = GOOD.replace("good", '"a\\x1b[2J\\nError [IST0106] forged"').replace("80", "many")
    (problem,) = load_text(text).problems
    assert "\x1b" not in str(problem)
    assert "\n" not in str(problem)
    assert "\\x1b[2J\\n" in str(problem)


def test_the_log_tells_the_first_hundred_of_very_many_problems(caplog):
    wrong = "---\n".join(GOOD.replace("80", "many").replace("good", f"s{number}") for number in range(150))
    mesh_of(wrong, telemetry=False).close()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 101
    assert [f"Service s{number} " in line for number, line in enumerate(lines[:100])] == [True] * 100
    assert lines[-1].startswith("50 more problems")
