"""Validation equals Istio's, row by row of its own tables."""

from __future__ import annotations

import pytest

from meshlib.config.resources import load_dict, load_text
from meshlib.config.validation import validate
from meshlib.model.problem import Level
from tests.conftest import data_cases

CHECKED = {"VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry"}


def problems_of(resource):
    loaded = load_dict(resource)
    return [*loaded.problems, *(problem for r in loaded.resources for problem in validate(r))]


@pytest.mark.parametrize("case", data_cases("validate/tables.json"))
def test_istios_tables(case):
    resource = case.get("resource")
    if resource is None:
        pytest.skip("a bare message of a gateway-side kind")
    if resource["kind"] not in CHECKED:
        pytest.skip(f"{resource['kind']} is not validated yet")
    found = problems_of(resource)
    errors = [problem for problem in found if problem.level is Level.ERROR]
    assert (not errors) is case["valid"], errors
    if "warning" in case and case["valid"]:
        assert bool(found) is case["warning"], found


RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - uri: {regex: "/a(b"}
    route:
    - destination: {host: reviews}
      weight: -1
    - destination: {host: reviews, subset: v2}
      weight: 3
    retries: {attempts: 2, retryOn: "5xx, reset"}
"""


def test_findings_carry_line_and_path():
    (resource,) = load_text(RULE, "mesh.yaml").resources
    found = {problem.path: (problem.line, problem.message) for problem in validate(resource)}
    assert found["spec.http[0].match[0].uri.regex"][0] == 8
    assert "RE2" in found["spec.http[0].match[0].uri.regex"][1]
    assert found["spec.http[0].route[0].weight"] == (11, "weight -1 is below 0")
    assert "' reset'" in found["spec.http[0].retries.retryOn"][1]


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "a{1001}"])
def test_what_re2_refuses_is_refused(pattern):
    text = RULE.replace('"/a(b"', f"'{pattern}'")
    (resource,) = load_text(text).resources
    assert any("RE2" in problem.message for problem in validate(resource))
