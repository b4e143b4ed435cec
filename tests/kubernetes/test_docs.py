"""The role of the documentation allows what the provider asks for, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from meshlib.providers.kubernetes.collections import CORE, GROUPS

PAGE = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text("utf-8")
MANIFESTS = [each for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for each in yaml.safe_load_all(block)]


def plural(kind):
    return re.sub(r"(?<![aeiou])y$", "ie", kind.lower()) + "s"


def role_of(name):
    (role,) = [each for each in MANIFESTS if each["kind"] == "ClusterRole" and each["metadata"]["name"] == name]
    return role


def test_the_role_for_reports_allows_the_status_of_configuration_and_nothing_else():
    read, written = role_of("meshlib-status")["rules"]
    assert set(read["apiGroups"]) == set(written["apiGroups"]) == set(GROUPS) - {"discovery.k8s.io"}
    assert (read["verbs"], written["verbs"], written["resources"]) == (["get"], ["patch"], ["*/status"])


def test_the_role_allows_lists_and_watches_of_all_that_is_read():
    role = role_of("meshlib")
    allowed = {(group, name) for rule in role["rules"] for group in rule["apiGroups"] for name in rule["resources"]}
    wanted = {("", each.plural) for each in CORE}
    wanted |= {(group, plural(kind)) for group, kinds in GROUPS.items() for kind in kinds}
    assert allowed == wanted
    assert all(rule["verbs"] == ["list", "watch"] for rule in role["rules"])


def test_the_definition_of_our_kind_names_it_as_it_is_read():
    (definition,) = [each for each in MANIFESTS if each["kind"] == "CustomResourceDefinition"]
    spec = definition["spec"]
    assert [each["name"] for each in spec["versions"]] == list(GROUPS[spec["group"]][spec["names"]["kind"]])
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
