"""``meshlib analyze``, as a shell runs it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from meshlib.cli.commands import meshlib
from tests.conftest import endpoint_slice, service

RULES = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, annotations: {}}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination:
        host: reviews
        subset: v2
"""


@pytest.fixture
def run(tmp_path):
    def invoke(rules, *arguments):
        file = tmp_path / "mesh.yaml"
        file.write_text(service("reviews") + "---\n" + endpoint_slice("reviews", "v1", ("10.0.0.1", 80)) + rules)
        return CliRunner().invoke(meshlib, ["analyze", str(tmp_path), *arguments])

    return invoke


def test_json_is_the_contract(run, tmp_path):
    done = run(RULES, "--output", "json")
    assert done.exit_code == 1
    (found,) = json.loads(done.stdout)
    lines = (tmp_path / "mesh.yaml").read_text().splitlines()
    assert lines[found.pop("line") - 1].strip() == "subset: v2"
    assert "'v2'" in found.pop("message")
    assert found == {
        "code": "IST0101",
        "name": "ReferencedResourceNotFound",
        "level": "Error",
        "resource": "VirtualService reviews",
        "file": str(tmp_path / "mesh.yaml"),
        "path": "spec.http[0].route[0].destination.subset",
    }


def test_text_shows_the_line(run):
    done = run(RULES)
    assert "Error [IST0101]" in done.stdout
    assert "| " in done.stdout
    assert "subset: v2" in done.stdout


def test_clean_objects_exit_with_0(run):
    done = run(RULES.replace("subset: v2", "subset: v1"), "--failure-threshold", "Info")
    assert (done.exit_code, "No problem found" in done.stdout) == (0, True)


@pytest.mark.parametrize(("threshold", "code"), [("Error", 0), ("Warning", 1), ("Info", 1)])
def test_the_threshold_decides_the_exit_code(run, threshold, code):
    rules = RULES.replace("subset: v2", "subset: v1").replace("{host: reviews,", "{host: nowhere,")
    rules = rules.replace("        subset: v1\n", "")
    done = run(rules, "--failure-threshold", threshold, "--output", "json")
    assert [each["code"] for each in json.loads(done.stdout)] == ["IST0174"]
    assert done.exit_code == code


def test_an_annotation_silences_a_code(run):
    silent = RULES.replace("annotations: {}", "annotations: {galley.istio.io/analyze-suppress: 'IST0112, IST0101'}")
    assert run(silent).exit_code == 0


def test_what_does_not_load_is_found_too(run):
    done = run(RULES.replace("hosts: [reviews]", "hosts: 5"), "--output", "json")
    assert (done.exit_code, [each["code"] for each in json.loads(done.stdout)]) == (1, ["IST0106"])


def test_unusable_input_exits_with_2(tmp_path):
    missing = CliRunner().invoke(meshlib, ["analyze", str(tmp_path / "none.yaml")])
    empty = CliRunner().invoke(meshlib, ["analyze", str(tmp_path)])
    assert (missing.exit_code, empty.exit_code) == (2, 2)


def test_the_field_is_marked_under_its_line(run):
    lines = run(RULES).stdout.splitlines()
    shown = next(number for number, line in enumerate(lines) if line.endswith("subset: v2"))
    start = lines[shown].index("v2")
    assert lines[shown + 1] == f"{' ' * 10}| ".ljust(start) + "^^"


@pytest.mark.parametrize("text", ["{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}"])
def test_the_field_is_marked_in_flow_style_too(run, text):
    rules = RULES[: RULES.index("spec:\n  hosts")] + f"spec: {text}\n"
    lines = run(rules).stdout.splitlines()
    shown = next(number for number, line in enumerate(lines) if "subset: v2" in line)
    marked = lines[shown + 1]
    assert lines[shown][marked.index("^") : marked.rindex("^") + 1] == "v2"


def test_broken_yaml_is_marked_where_it_breaks_and_hides_no_other_object(run, tmp_path):
    (tmp_path / "broken.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x\nspec: {}\n")
    done = run(RULES)
    assert done.exit_code == 1
    assert "broken.yaml" in done.stdout
    assert "'v2'" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors")


def test_findings_are_grouped_by_file_and_summed_up(run, tmp_path):
    (tmp_path / "a.yaml").write_text(service("a", protocol="none"))
    done = run(RULES)
    first, second = done.stdout.index(str(tmp_path / "a.yaml")), done.stdout.index(str(tmp_path / "mesh.yaml"))
    assert first < second
    assert done.stdout.splitlines()[-1] == "1 error, 1 info in 2 files, 5 objects."


def test_nothing_is_coloured_away_from_a_terminal_or_when_not_wanted(run, monkeypatch):
    assert "\x1b[" not in run(RULES).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run(RULES).stdout
    assert "\x1b[" not in run(RULES, "--no-color").stdout


def test_standard_input_is_a_source():
    text = service("reviews") + RULES
    done = CliRunner().invoke(meshlib, ["analyze", "-", "--output", "json"], input=text)
    found = [each for each in json.loads(done.stdout) if each["code"] == "IST0101"]
    assert [each["file"] for each in found] == ["<stdin>"]
    assert text.splitlines()[found[0]["line"] - 1].strip() == "subset: v2"


def test_an_unknown_field_is_a_warning_or_with_strict_an_error(run):
    rules = RULES.replace("subset: v2", "subset: v1").replace("  hosts: [reviews]", "  hosts: [reviews]\n  nothing: 1")
    assert run(rules).exit_code == 0
    assert run(rules, "--strict").exit_code == 1


def test_a_code_is_silenced_for_one_object(run):
    assert run(RULES, "--suppress", "IST0101=VirtualService reviews.default").exit_code == 0
    assert run(RULES, "--suppress", "IST0101=VirtualService other.default").exit_code == 1
    assert run(RULES, "--suppress", "IST0101").exit_code == 2


def test_what_is_not_honoured_can_be_left_out(run):
    rules = RULES.replace("subset: v2", "subset: v1")
    rules += "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {}\n"
    assert [each["code"] for each in json.loads(run(rules, "--output", "json").stdout)] == ["MESH011"]
    assert json.loads(run(rules, "--output", "json", "--no-not-honoured").stdout) == []


def test_a_file_given_twice_is_read_once(run, tmp_path):
    done = run(RULES, str(tmp_path / "mesh.yaml"), "--output", "json")
    assert [each["code"] for each in json.loads(done.stdout)] == ["IST0101"]


def test_files_that_are_no_text_and_names_that_move_the_cursor_are_told_plainly(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\nkind: a\n")
    (tmp_path / "cursor.yaml").write_text('apiVersion: v1\nkind: Service\nmetadata: {name: "a\\x1b[2J"}\nspec: 1\n')
    (tmp_path / "raw.yaml").write_bytes(b"a: \x1b[2J\n")
    done = CliRunner().invoke(meshlib, ["analyze", str(tmp_path)])
    assert done.exit_code == 1
    assert "not UTF-8" in done.stdout
    assert "a\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("content", [b"[" * 9999, b"a: &a [*a]", b"- 1", b"\xff", b"a: 2001-99-99\nb: *c"])
def test_a_mesh_configuration_that_cannot_be_read_is_unusable_input(tmp_path, content):
    (tmp_path / "mesh.conf").write_bytes(content)
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    done = CliRunner().invoke(
        meshlib, ["analyze", str(tmp_path / "a.yaml"), "--mesh-config", str(tmp_path / "mesh.conf")]
    )
    assert done.exit_code == 2
    assert "mesh.conf" in done.stderr
