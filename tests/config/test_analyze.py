"""The analyzers find what ``istioctl analyze`` finds: code and object, no more and no fewer."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from meshlib.config.analyze import ANALYZERS, analyze
from meshlib.config.resources import load_dict, load_file, load_text
from tests.conftest import data_cases

SUBSETS = [case for case in data_cases("validate/kiali.json")]


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


@pytest.mark.parametrize("case", SUBSETS)
def test_kialis_subset_cases(case):
    if case["check"] != "subset_presence":
        pytest.skip("mutual TLS and authorization are judged elsewhere")
    resources = [each for value in case["config"] for each in load_dict(value).resources]
    found = analyze(resources, only={"virtualservice.DestinationRuleAnalyzer"})
    assert bool(found) is case["expect_warning"]


@pytest.mark.parametrize("case", data_cases("analyze/messages.json"))
def test_names_and_levels_are_istios(case):
    from meshlib.config.analyze.codes import CODES

    if case["code"] not in CODES:
        pytest.skip("not raised by us")
    name, level = CODES[case["code"]]
    assert (name, level.value) == (case["name"], case["level"])
