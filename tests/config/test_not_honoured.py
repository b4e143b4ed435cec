"""What an object asks for and does not get: found at its place, once, and only where it makes a difference."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from meshlib.config.analyze import analyze
from meshlib.config.resources import load_text
from meshlib.config.resources.base import Message, ObjectMeta, Origin, Resource
from meshlib.config.resources.matrix import rows
from meshlib.config.resources.not_honoured import fields_not_honoured, not_honoured
from meshlib.config.resources.support import Approximated, Carried, Ignored, ServerSide


class Leaf(Message):
    kept: int = 0
    passed_over: Annotated[int, Ignored("nobody counts")] = 0


class Tree(Message):
    leaf: Leaf | None = None
    leaves: list[Leaf] = Field(default_factory=list)
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    cut: Annotated[Leaf | None, ServerSide("others do it")] = None
    mode: Annotated[str, Approximated("as SLOW", ("FAST",))] = "SLOW"
    early: Annotated[bool, Carried("not yet", into="policy.SlowStart.window")] = True


def found(value):
    resource = Resource("meshlib.dev/v1", "Tree", ObjectMeta(name="t"), None, None, Origin("f.yaml"))
    return [(each.path, each.message) for each in fields_not_honoured(Tree.model_validate(value), resource, "spec")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, []),
        ({"leaf": {"kept": 5}}, []),
        ({"leaf": {"passedOver": 5}}, [("spec.leaf.passedOver", "passedOver is ignored: nobody counts")]),
        ({"leaf": {"passedOver": 0}}, []),
        ({"leaves": [{}, {"passedOver": 1}]}, [("spec.leaves[1].passedOver", "passedOver is ignored: nobody counts")]),
        ({"byName": {"a": {"passedOver": 1}}}, [("spec.byName.a.passedOver", "passedOver is ignored: nobody counts")]),
        ({"cut": {"passedOver": 1}}, [("spec.cut", "cut is server-side: others do it")]),
        ({"mode": "FAST"}, [("spec.mode", "mode is approximated: as SLOW")]),
        ({"mode": "FASTER"}, []),
        ({"early": True}, []),
        ({"early": False}, [("spec.early", "early is ignored: not yet")]),
        ({"leaf": {"odd": 1}}, [("spec.leaf.odd", "odd is ignored: meshlib does not know this field")]),
    ],
)
def test_fields_that_say_something_and_are_marked_are_found(value, expected):
    assert found(value) == expected


def test_the_matrix_has_a_row_for_every_field_and_opens_a_message_once():
    assert list(rows(Tree)) == [
        ("leaf", "honoured", ""),
        ("leaf.kept", "honoured", ""),
        ("leaf.passedOver", "ignored", "nobody counts"),
        ("leaves[]", "honoured", ""),
        ("byName.*", "honoured", ""),
        ("cut", "server-side", "others do it"),
        ("mode", "approximated", "`FAST`: as SLOW"),
        ("early", "ignored", "not yet"),
    ]


UNMODELLED = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {}\n"
KUBERNETES = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n"
SERVICE = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [], sessionAffinity: x, selector: {a: b}}\n"
)


def test_kinds_of_istio_that_are_not_modelled_are_told_of_and_kubernetes_own_are_not():
    filters, deployment, service = load_text("---\n".join((UNMODELLED, KUBERNETES, SERVICE)), "f").resources
    assert [(each.code, each.line, each.path) for each in not_honoured(filters)] == [("MESH011", 2, "kind")]
    assert not_honoured(deployment) == not_honoured(service) == []


def test_an_unknown_field_is_told_of_once_in_an_analysis():
    text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec:\n  odd: 1\n"
    loaded = load_text(text, "f.yaml")
    assert [each.path for each in not_honoured(loaded.resources[0])] == ["spec.odd"]
    about = [each for each in analyze(loaded.resources, loading=loaded.problems) if each.path == "spec.odd"]
    assert [(each.code, each.line) for each in about] == [("IST0133", 5)]
