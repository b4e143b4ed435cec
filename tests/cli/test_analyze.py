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
