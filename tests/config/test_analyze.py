"""The analyzers find what ``istioctl analyze`` finds: code and object, no more and no fewer."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from meshlib.config.analyze import ANALYZERS, analyze
from meshlib.config.analyze.codes import CODES
from meshlib.config.resources import load_dict, load_file
from tests.conftest import data_cases


@pytest.mark.parametrize("case", data_cases("analyze/cases.json"))
def test_istios_cases(case, shared_data):
    if case["analyzer"] not in ANALYZERS:
        pytest.skip(
            f"{case['analyzer']} looks at injection, webhooks, installation or proxies: no concern of a library"
        )
    resources = [each for path in case["inputs"] for each in load_file(shared_data / path).resources]
    mesh = yaml.safe_load((shared_data / case["mesh_config"]).read_text()) if case.get("mesh_config") else None
    found = analyze(resources, mesh=mesh, only={case["analyzer"]})
    scope = set(case["scope_codes"])
    assert Counter((each.code, each.resource) for each in found if each.code in scope) == Counter(
        (each["code"], each["origin"]) for each in case["expected"]
    ), [str(each) for each in found]
    levels = {each["code"]: (each["message"], each["level"]) for each in case["expected"]}
    for each in found:
        if each.code in scope:
            assert (each.name, each.level.value) == levels[each.code]


@pytest.mark.parametrize("case", data_cases("validate/kiali.json"))
def test_kialis_subset_cases(case):
    if case["check"] != "subset_presence":
        pytest.skip("mutual TLS and authorization are judged elsewhere")
    resources = [each for value in case["config"] for each in load_dict(value).resources]
    found = analyze(resources, only={"virtualservice.DestinationRuleAnalyzer"})
    assert bool(found) is case["expect_warning"]


def test_names_and_levels_are_istios(shared_data):
    messages = json.loads((shared_data / "analyze/messages.json").read_text("utf-8"))["cases"]
    theirs = {each["code"]: (each["name"], each["level"]) for each in messages}
    assert {code: (name, level.value) for code, (name, level) in CODES.items()}.items() <= theirs.items()
